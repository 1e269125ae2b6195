//! What a journal that is not sealed brings back: topics, the workers' tables, and what the
//! checkpoint has to do.

use std::sync::Arc;

use crate::error::Result;
use crate::store::local::admission::route::route;
use crate::store::local::format::block::Block;
use crate::store::local::format::claim::{BlockLocation, Claim};
use crate::store::local::format::frame::Frame;
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::{ClaimSet, Claims, Placed, Tables};
use crate::store::local::generation::ledger::{Audit, Ledger};
use crate::store::local::generation::topic::Topic;
use crate::store::local::write::group::Committed;
use crate::sync::mpsc::{Receiver, SyncSender};

/// Claims that are handed to the checkpoint at once.
const SET_CLAIMS: usize = 20_000;

/// A set of claims, and the number of its worker.
pub(super) type Found = (usize, Arc<ClaimSet>);

/// Fills the workers' tables with what is found. It runs beside the reading of the journal, as it
/// is much of a start's work.
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
    pub(super) ledger: &'a Ledger,
    pub(super) workers: usize,
    pub(super) generation: Arc<Generation>,
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
        let ledger = self.ledger;
        let (mut sum, before) = (0u64, self.blocks.len());
        for block in frame.blocks() {
            sum = sum.wrapping_add(ledger.apply(&block, self)?);
        }
        if self.is_indexed {
            self.blocks.clear();
        }
        self.generation.publish(&frame.header, self.blocks.get(before..).unwrap_or_default(), sum);
        if self.waiting >= SET_CLAIMS {
            self.end_sets(frame.header.sequence);
        }
        Ok(())
    }

    /// Hands what was collected to the workers' tables and the checkpoint; it reaches through frame
    /// `through`.
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

impl Audit for Replay<'_> {
    fn events(&mut self, topic: &Arc<Topic>, first_offset: u64, block: &Block<'_>) -> Result<()> {
        if topic.next_offset() != first_offset {
            return Err(block.corrupt("the offsets of its topic have a gap"));
        }
        self.blocks.push((Arc::clone(topic), first_offset, block.location()));
        Ok(())
    }

    fn event(&mut self, topic: &Topic, event_id: &[u8], hash: u64, claim: Claim) {
        let worker = route(topic.hash, self.sets.len());
        self.sets[worker].push(topic.name.as_bytes(), event_id, hash, claim);
        self.waiting += 1;
    }
}
