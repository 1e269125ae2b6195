//! Sealing: a generation that takes no more events gets its immutable maps, made from its journal
//! alone.
//!
//! The same is how lost or damaged maps are rebuilt. What the maps hold is compared with what was
//! counted when the events were decided, before anything rests on them.

use std::sync::Arc;

use crate::disk::Open;
use crate::error::{During, Error, Result};
use crate::store::local::format::claim::{BlockLocation, Claim, FrameLocation};
use crate::store::local::format::codec::FixedRecord;
use crate::store::local::format::layout::{CLAIMS, FILTER, FRAMES, JOURNAL, PROCESSED, folder};
use crate::store::local::format::reader::FrameReader;
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::filter::{Filter, shard_of};
use crate::store::local::sealed::frame_run::add_sparse;
use crate::store::local::sealed::maps::{SealedMaps, block_key};
use crate::store::local::sealed::sorted_file::Kind;

/// Steps of a seal for each claim, about as long as each other: reading it, then one each to sort
/// it, for the filter, to write and to prove it.
pub(crate) const STEPS: u64 = READ_STEPS + 4;
/// Steps of reading a claim from the journal, which is unpacked and hashed.
const READ_STEPS: u64 = 7;

impl SealedFiles<'_> {
    /// Makes the maps and the filter from the journal, durably, and opens them. What there was is
    /// replaced. Tells `done` of the steps it has taken, [`STEPS`] for each claim.
    ///
    /// # Errors
    /// `Corrupt` if the journal is damaged or does not hold what MANIFEST says; `NoSpace`, `Io`.
    pub(crate) fn build(&self, done: &dyn Fn(u64)) -> Result<(SealedMaps, Filter)> {
        let mut content = self.read_journal(done)?;
        let events = content.claims().count() as u64;
        let sum = content.claims().fold(0u64, |sum, (hash, _)| sum.wrapping_add(*hash as u64));
        if events != self.claims() || sum != self.closed.claims_sum {
            let what = format!(
                "it holds {events} events with sum {sum:016x}, and {} with {:016x} were stored in it",
                self.claims(),
                self.closed.claims_sum
            );
            return Err(Error::corrupt(&self.path(JOURNAL), self.closed.end, &what));
        }
        content.sort(done);
        let hashes = content.claims().map(|(hash, _)| Ok(*hash)).inspect(|_| done(1));
        let filter = Filter::build(vec![self.key()], events, vec![hashes])?;
        // Each part leaves memory when it is written: what is freed at once, the system takes a
        // hundredth of a second to take back.
        let claims = std::mem::take(&mut content.shards).into_iter().flatten();
        let records = claims.map(|(hash, claim)| (hash.to_be_bytes(), claim.encoded()));
        self.write_map(Kind::Claims, CLAIMS, records.inspect(|_| done(1)))?;
        let records = content
            .blocks
            .iter()
            .map(|((topic, first), location)| (block_key(*topic, *first), location.encoded()));
        self.write_map(Kind::Processed, PROCESSED, records)?;
        let records =
            content.frames.iter().map(|(first, location)| (first.to_be_bytes(), location.encoded()));
        self.write_map(Kind::Frames, FRAMES, records)?;
        self.write_filter(FILTER, &filter)?;
        let dir = folder(self.data_dir, self.entry.id);
        self.disk.sync_dir(&dir).during("sync", &dir)?;
        let maps = self.open()?;
        maps.verify(done)?;
        Ok((maps, self.filter()?))
    }

    /// Everything the maps need. Tells `done` of the steps it has taken.
    pub(crate) fn read_journal(&self, done: &dyn Fn(u64)) -> Result<JournalContent> {
        let path = self.path(JOURNAL);
        let file = self.disk.open(&path, Open::Read).during("open", &path)?;
        // Each takes its digest at least, so no count asks for more than the file has. Growing by
        // doubling would copy it, and hold it twice.
        let claims = self.claims().min(file.len().during("measure", &path)? / size_of::<u128>() as u64);
        let shards = Filter::shards(claims);
        let a_shard = claims as usize / shards;
        let mut content = JournalContent::default();
        // They differ in size by less than a sixteenth.
        content.shards.resize_with(shards, || Vec::with_capacity(a_shard + a_shard.div_ceil(16)));
        let mut frames =
            FrameReader::new(file, &path, self.entry.nonce).frames(self.closed.end, Arc::clone(&self.holes));
        while let Some(frame) = frames.next()? {
            add_sparse(&mut content.frames, &frame.header);
            for block in frame.event_blocks() {
                let body = block.body()?;
                let events = body.events()?;
                let head = events.head;
                content.blocks.push(((self.secret.topic(head.topic), head.first_offset), block.location()));
                for event in events {
                    let (offset, event) = event?;
                    let claim = Claim { offset, digest: event.digest, received_at: head.received_at };
                    let hash = self.secret.event(head.topic, event.event_id);
                    content.shards[shard_of(hash, shards)].push((hash, claim));
                }
            }
            done(READ_STEPS * u64::from(frame.header.events));
        }
        Ok(content)
    }
}

/// What a journal says of its generation.
#[derive(Debug, Default)]
pub(crate) struct JournalContent {
    /// Claims by the upper bits of their hashes: each part is sorted quickly.
    shards: Vec<Vec<(u128, Claim)>>,
    pub(crate) blocks: Vec<((u128, u64), BlockLocation)>,
    pub(crate) frames: Vec<(u64, FrameLocation)>,
}

impl JournalContent {
    /// All claims; in order, once they are sorted.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &(u128, Claim)> {
        self.shards.iter().flatten()
    }

    /// Sorts claims and blocks. Tells `done` of each claim, a step.
    pub(crate) fn sort(&mut self, done: &dyn Fn(u64)) {
        for shard in &mut self.shards {
            shard.sort_unstable_by_key(|(hash, _)| *hash);
            done(shard.len() as u64);
        }
        self.blocks.sort_unstable_by_key(|(key, _)| *key);
    }
}
