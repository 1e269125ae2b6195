//! What a journal that is not sealed brings back: topics, the workers' tables, and what the checkpoint has to do.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::local::admission::route::route;
use crate::store::local::format::codec::{BlockKind, BlockLocation, Claim};
use crate::store::local::format::frame::{Block, Frame, unreadable};
use crate::store::local::format::hash::Secret;
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::{ClaimSet, Claims, Placed, Tables};
use crate::store::local::generation::topic::{Topic, Topics};
use crate::store::local::write::group::Committed;
use crate::sync::mpsc::{Receiver, SyncSender};

/// Claims that are handed to the checkpoint at once.
const SET_CLAIMS: usize = 20_000;

/// A set of claims, and the number of its worker.
pub(super) type Found = (usize, Arc<ClaimSet>);

/// Fills the workers' tables with what is found: a sixth of a start's work, and memory that is touched for the first time.
pub(super) fn restore(
    mut tables: Vec<Tables>,
    generation: &Arc<Generation>,
    found: &Receiver<Found>,
    is_indexed: bool,
) -> Vec<Tables> {
    while let Ok((worker, set)) = found.recv() {
        tables[worker].restore(generation, set, is_indexed);
    }
    tables
}

/// Takes the frames of one journal in.
pub(super) struct Replay<'a> {
    pub(super) topics: &'a Topics,
    pub(super) secret: &'a Secret,
    pub(super) workers: usize,
    pub(super) generation: Arc<Generation>,
    pub(super) path: PathBuf,
    pub(super) is_live: bool,
    /// The index has all of it.
    pub(super) is_indexed: bool,
    /// To the thread that fills the workers' tables meanwhile.
    pub(super) found: SyncSender<Found>,
    /// What the checkpoint has to do.
    pub(super) committed: &'a mut Vec<Committed>,
    pub(super) sets: Vec<Claims>,
    pub(super) blocks: Vec<(Arc<Topic>, u64, BlockLocation)>,
    pub(super) waiting: usize,
}

impl Replay<'_> {
    pub(super) fn begin_sets(&mut self) {
        self.sets = (0..self.workers).map(|_| Claims::default()).collect();
        self.waiting = 0;
    }

    pub(super) fn apply(&mut self, frame: &Frame<'_>) -> Result<()> {
        let mut sum = 0u64;
        let mut blocks = Vec::new();
        for block in frame.blocks() {
            match block.kind {
                BlockKind::Events => blocks.push(self.events(&block, &mut sum)?),
                BlockKind::Counters if self.is_live => self.counters(&block)?,
                BlockKind::Topics if self.is_live => self.topics(&block)?,
                BlockKind::Counters | BlockKind::Topics => {}
            }
        }
        let visible = if self.is_indexed { &[] } else { &blocks[..] };
        self.generation.publish(&frame.header, visible, sum);
        if !self.is_indexed {
            self.blocks.append(&mut blocks);
        }
        if self.waiting >= SET_CLAIMS {
            self.end_sets(frame.header.sequence);
        }
        Ok(())
    }

    fn topic(&self, name: &[u8], at: u64) -> Result<Arc<Topic>> {
        let text =
            std::str::from_utf8(name).map_err(|_| Error::corrupt(&self.path, at, "a topic is not UTF-8"))?;
        self.topics.ensure(text, self.secret.topic(name))
    }

    fn events(&mut self, block: &Block<'_>, sum: &mut u64) -> Result<(Arc<Topic>, u64, BlockLocation)> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        let (head, events) = body.events().map_err(|e| unreadable(&self.path, block.at, e))?;
        let topic = self.topic(head.topic, block.at)?;
        if self.is_live {
            if topic.next_offset() != head.first_offset {
                return Err(Error::corrupt(&self.path, block.at, "the offsets of its topic have a gap"));
            }
            self.topics.add_events(&topic, u64::from(block.count), head.received_at);
        }
        let worker = route(topic.hash, self.sets.len());
        for (event, offset) in events.zip(head.first_offset..) {
            let event = event.map_err(|e| unreadable(&self.path, block.at, e))?;
            let hash = self.secret.event(head.topic, event.event_id) as u64;
            *sum = sum.wrapping_add(hash);
            let known = Claim { offset, digest: event.digest, received_at: head.received_at };
            self.sets[worker].push(head.topic, event.event_id, hash, known);
            self.waiting += 1;
        }
        let place = BlockLocation { at: block.at, length: block.length, count: block.count };
        Ok((topic, head.first_offset, place))
    }

    fn counters(&mut self, block: &Block<'_>) -> Result<()> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        for entry in body.counters() {
            let entry = entry.map_err(|e| unreadable(&self.path, block.at, e))?;
            if entry.topic.is_empty() {
                self.topics.add_rejected(entry.rejected);
            } else {
                let topic = self.topic(entry.topic, block.at)?;
                self.topics.add_counts(&topic, entry.duplicates, entry.conflicts);
            }
        }
        Ok(())
    }

    fn topics(&mut self, block: &Block<'_>) -> Result<()> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        for entry in body.topics() {
            let entry = entry.map_err(|e| unreadable(&self.path, block.at, e))?;
            if entry.counters.topic.is_empty() {
                self.topics.add_rejected(entry.counters.rejected);
            } else {
                let topic = self.topic(entry.counters.topic, block.at)?;
                self.topics.restore(&topic, &entry);
            }
        }
        Ok(())
    }

    /// Hands what was collected to the workers' tables and the checkpoint; it reaches through frame `through`.
    pub(super) fn end_sets(&mut self, through: u64) {
        let mut sets = Vec::new();
        let collected = std::mem::take(&mut self.sets);
        for (worker, claims) in collected.into_iter().enumerate() {
            if claims.is_empty() {
                continue;
            }
            let set = ClaimSet::new(claims);
            let _ = set.placed.set(Placed { generation: Arc::clone(&self.generation), frame: through });
            // If the thread is no more, that is seen when it is joined.
            let _ = self.found.send((worker, Arc::clone(&set)));
            sets.push(set);
        }
        if !self.is_indexed {
            let (generation, blocks) = (Arc::clone(&self.generation), std::mem::take(&mut self.blocks));
            self.committed.push(Committed { generation, through, sets, blocks });
        }
        self.begin_sets();
    }
}
