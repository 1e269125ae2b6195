//! What a worker is asked to do.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Result;
use crate::event::{Batch, EventRef};
use crate::limits::TOPIC_BYTES_MAX;
use crate::store::Outcome;
use crate::store::local::format::codec::{BlockHeader, FixedRecord};
use crate::store::local::format::entries::EventRecord;

/// Most that an event's record takes beside its fields, a block of its own included.
pub(crate) const EVENT_OVERHEAD_BYTES: u64 = (2 * BlockHeader::BYTES + TOPIC_BYTES_MAX + 64) as u64;
/// A request goes on in a further job after so many bytes.
pub(crate) const JOB_BYTES: u64 = 1 << 20;

/// An event of a request, with its hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    /// Its place in the batch.
    pub(crate) index: u32,
    pub(crate) event: u128,
    pub(crate) topic: u128,
}

/// Events of a request. One is mostly all: then it needs no memory of its own, which another thread
/// would give back.
pub(crate) type Items = SmallVec<[Item; 1]>;
/// What became of them.
pub(crate) type Outcomes = SmallVec<[Outcome; 1]>;

/// What a worker is asked.
#[derive(Debug)]
pub(crate) enum Job {
    /// Decide these events of a batch.
    Append {
        /// Its place in the queue.
        place: OwnedSemaphorePermit,
        /// The request's events.
        batch: Arc<Batch>,
        /// Those of this worker's topics, in the order of the batch.
        items: Items,
        /// Most bytes that they take in a frame.
        bytes: u64,
        /// Gets an outcome for each item.
        reply: oneshot::Sender<Result<Outcomes>>,
    },
    /// Where is this event?
    Find {
        /// `topic \0 event_id`, and where the id begins.
        key: (Vec<u8>, usize),
        /// Its keyed hash.
        hash: u128,
        /// Gets the offset, once the event is durable.
        reply: oneshot::Sender<Result<Option<u64>>>,
    },
    /// Claims can be found elsewhere: forget them.
    Forget,
}

/// Most bytes that an event takes in a frame.
pub(crate) fn record_bytes(event: &EventRef<'_>) -> u64 {
    EventRecord::of(event).bytes() as u64 + EVENT_OVERHEAD_BYTES
}
