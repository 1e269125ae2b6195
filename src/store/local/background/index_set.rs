//! What goes into the live index, in sorted sets.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::store::local::format::claim::{BlockLocation, Claim, Covered};
use crate::store::local::format::codec::INDEX_VERSION;
use crate::store::local::format::layout::INDEX;
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::Claims;
use crate::store::local::generation::index::Index;
use crate::store::local::generation::topic::Topic;
use crate::store::local::shared::Shared;

/// Claims that a rebuild puts into the index at once.
const SET_CLAIMS: usize = 100_000;
/// Most claims that go into the index before the checkpoint looks at what comes. In a small
/// generation a step is a thousandth of its events.
const STEP: u64 = 512;

fn index_dir(generation: &Generation) -> PathBuf {
    generation.dir.join(INDEX)
}

/// An empty index for `generation`.
pub(crate) fn open_index(shared: &Shared, generation: &Generation) -> Result<(Arc<dyn Index>, Covered)> {
    let dir = index_dir(generation);
    shared.seams.indexes.remove(&dir)?;
    let index = shared.watches.index.during(shared.now(), || shared.seams.indexes.open(&dir))?;
    let covered = Covered {
        version: INDEX_VERSION,
        nonce: generation.nonce,
        through: generation.first_frame,
        claims: 0,
        sum: 0,
    };
    Ok((Arc::from(index), covered))
}

/// Puts all durable frames of a generation into an empty index.
pub(crate) fn fill(
    shared: &Shared,
    generation: &Generation,
    index: &dyn Index,
    covered: &mut Covered,
) -> Result<()> {
    let mut frames = generation.frames()?;
    let (mut claims, mut blocks) = (Claims::default(), Vec::new());
    while let Some(frame) = frames.next()? {
        for block in frame.event_blocks() {
            let body = block.body()?;
            let events = body.events()?;
            let head = events.head;
            let name = block.text(head.topic, "a topic")?;
            let topic = shared.topics.ensure(name, shared.secret.topic(head.topic))?;
            blocks.push((topic, head.first_offset, block.location()));
            for event in events {
                let (offset, event) = event?;
                let hash = shared.secret.event(head.topic, event.event_id) as u64;
                let claim = Claim { offset, digest: event.digest, received_at: head.received_at };
                claims.push(head.topic, event.event_id, hash, claim);
            }
        }
        let through = frame.header.sequence;
        if claims.len() >= SET_CLAIMS || frames.is_at_end() {
            let sets = [Arc::new(std::mem::take(&mut claims))];
            let mut set = IndexSet::new(*covered, through, &sets, &blocks);
            while !set.step(shared, index)? {}
            *covered = set.covered;
            blocks.clear();
        }
    }
    Ok(())
}

/// What goes into the index together, sorted.
pub(crate) struct IndexSet<'s> {
    claims: Vec<(&'s [u8], Claim)>,
    blocks: Vec<(&'s [u8], u64, BlockLocation)>,
    /// How many of the claims are in the index.
    done: usize,
    /// What the index covers before, and with the set.
    before: Covered,
    pub(crate) covered: Covered,
}

impl<'s> IndexSet<'s> {
    /// A set that reaches through frame `through`, of an index that covers `before`.
    pub(crate) fn new(
        before: Covered,
        through: u64,
        sets: &'s [Arc<Claims>],
        blocks: &'s [(Arc<Topic>, u64, BlockLocation)],
    ) -> Self {
        let mut covered = Covered { through, ..before };
        let mut claims = Vec::with_capacity(sets.iter().map(|set| set.len()).sum());
        for (key, hash, claim) in sets.iter().flat_map(|set| set.iter()) {
            claims.push((key, claim));
            covered.sum = covered.sum.wrapping_add(hash);
        }
        covered.claims += claims.len() as u64;
        claims.sort_unstable_by_key(|(key, _)| *key);
        let mut blocks: Vec<_> = blocks
            .iter()
            .map(|(topic, first, location)| (topic.name.as_bytes(), *first, *location))
            .collect();
        blocks.sort_unstable_by_key(|(topic, first, _)| (*topic, *first));
        Self { claims, blocks, done: 0, before, covered }
    }

    /// How many claims are not in the index yet.
    pub(crate) fn left(&self) -> usize {
        self.claims.len() - self.done
    }

    /// Puts the next claims into the index, with the last the blocks and what is covered now;
    /// returns whether that was all.
    pub(crate) fn step(&mut self, shared: &Shared, index: &dyn Index) -> Result<bool> {
        let step = (shared.options.generation_events / 1_000).clamp(1, STEP) as usize;
        let end = self.claims.len().min(self.done + step);
        let is_last = end == self.claims.len();
        let (blocks, covered) =
            if is_last { (&self.blocks[..], &self.covered) } else { (&[][..], &self.before) };
        let claims = &self.claims[self.done..end];
        self.done = end;
        shared.watches.index.during(shared.now(), || index.insert(claims, blocks, covered))?;
        Ok(is_last)
    }
}
