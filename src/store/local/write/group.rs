//! What a worker hands to the journal's writer, and what the writer hands to the checkpoint.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::store::local::admission::job::{Change, EVENT_OVERHEAD_BYTES, JOB_BYTES, Outcomes};
use crate::store::local::format::claim::BlockLocation;
use crate::store::local::format::codec::RECORD_BYTES_MAX;
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::ClaimSet;
use crate::store::local::generation::topic::{Pending, Topic};

/// A group takes no further request once it has so many bytes.
pub(crate) const GROUP_BYTES: u64 = 1 << 20;
/// Most bytes of a group's events.
pub(crate) const GROUP_BYTES_MAX: usize =
    (GROUP_BYTES + JOB_BYTES + EVENT_OVERHEAD_BYTES) as usize + RECORD_BYTES_MAX;

/// The outcomes of one request's events that went to one worker, and who waits for them.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: oneshot::Sender<Result<Outcomes>>,
    pub(crate) answer: Result<Outcomes>,
}

/// A block of events of one topic, ready to be written.
#[derive(Debug)]
pub(crate) struct EventsBlock {
    pub(crate) topic: Arc<Topic>,
    pub(crate) first_offset: u64,
    pub(crate) count: u32,
    /// Header and body.
    pub(crate) bytes: Vec<u8>,
}

/// What one worker decided in one go.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) blocks: Vec<EventsBlock>,
    pub(crate) claims: Option<Arc<ClaimSet>>,
    /// Dropped events, which may rest on a claim of this group: durable with it or later, never
    /// before.
    pub(crate) counts: Vec<Pending>,
    /// Changes of consumers that wait for the same commit.
    pub(crate) changes: Vec<Change>,
    pub(crate) received_at: i64,
    pub(crate) replies: Vec<Reply>,
    /// Bytes reserved for it, but for its changes.
    pub(crate) reserved: u64,
}

impl Group {
    /// Bytes of its blocks.
    pub(crate) fn bytes(&self) -> usize {
        let events = self.blocks.iter().map(|block| block.bytes.len());
        let changes = self.changes.iter().flat_map(|change| &change.blocks).map(|block| block.body.len());
        events.chain(changes).sum()
    }
}

/// What the writer is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Commit this.
    Group(Group),
    /// Make pending counts durable.
    Flush(oneshot::Sender<Result<()>>),
}

/// A durable frame, as the journal's writer hands it on.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) generation: Arc<Generation>,
    pub(crate) through: u64,
    pub(crate) sets: Vec<Arc<ClaimSet>>,
    pub(crate) blocks: Vec<(Arc<Topic>, u64, BlockLocation)>,
}
