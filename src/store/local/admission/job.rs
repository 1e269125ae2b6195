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
use crate::store::local::generation::consumers::Consumer;
use crate::store::local::generation::head::TableBlock;

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
    /// Have the next commit change a consumer.
    Change {
        /// Its place in the queue.
        place: OwnedSemaphorePermit,
        /// What becomes of the consumer.
        change: Change,
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

/// What becomes of a consumer.
#[derive(Debug)]
pub(crate) enum Step {
    /// It begins, in the place of the one with this number, or where there is none.
    Begin { replaces: Option<u64>, consumer: Arc<Consumer> },
    /// The one with this number ends.
    End(u64),
    /// It gets to these offsets, by the topics' numbers.
    Reach { consumer: Arc<Consumer>, positions: Vec<(u32, u64)> },
}

/// A change of a consumer, ready to be written.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: Box<str>,
    pub(crate) step: Step,
    pub(crate) blocks: Vec<TableBlock>,
    /// Bytes reserved for it.
    pub(crate) reserved: u64,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// Most bytes that an event takes in a frame.
pub(crate) fn record_bytes(event: &EventRef<'_>) -> u64 {
    EventRecord::of(event).bytes() as u64 + EVENT_OVERHEAD_BYTES
}
