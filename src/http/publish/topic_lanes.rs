//! Fairness between topics: a bounded number of one topic's requests is being stored at a time, and
//! the others wait in the topic's own lane.
//!
//! A topic whose senders have gone wild then keeps itself waiting, not everybody. A request counts
//! for the topic of its first event, and by its bytes, as what it costs does.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::event::Batch;
use crate::http::wire::problem::Problem;
use crate::limits::{TOPIC_BYTES_INFLIGHT_MAX, TOPIC_REQUESTS_MAX};

/// Topics are spread over this many lanes; two topics that share a lane share its permits.
const LANES: usize = 16_384;
/// Bytes of events for which a request takes one permit.
const UNIT_BYTES: usize = 1 << 10;
/// Permits of a lane.
const UNITS: usize = TOPIC_BYTES_INFLIGHT_MAX / UNIT_BYTES;

/// The lanes. Each process draws by chance which topic has which lane, so that nobody can aim at
/// another's.
#[derive(Debug)]
pub(crate) struct TopicLanes {
    lanes: Box<[Semaphore]>,
    hash: RandomState,
}

impl Default for TopicLanes {
    fn default() -> Self {
        let lanes = (0..LANES).map(|_| Semaphore::new(UNITS)).collect();
        Self { lanes, hash: RandomState::new() }
    }
}

impl TopicLanes {
    fn of(&self, topic: &[u8]) -> &Semaphore {
        &self.lanes[self.hash.hash_one(topic) as usize % LANES]
    }

    /// A permit for a request with these events. Waits for it in the lane of the topic, no longer
    /// than `patience`.
    ///
    /// # Errors
    /// 503: the lane was full for as long as that.
    pub(crate) async fn admit(
        &self,
        batch: &Batch,
        patience: impl FnOnce() -> Duration,
    ) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if batch.is_empty() {
            return Ok(None);
        }
        let lane = self.of(batch.get(0).topic);
        let units = (batch.bytes() / UNIT_BYTES).clamp(UNITS / TOPIC_REQUESTS_MAX, UNITS) as u32;
        if let Ok(permit) = lane.try_acquire_many(units) {
            return Ok(Some(permit));
        }
        // Boxed, as in all that seldom waits: the futures of those that don't stay small.
        match Box::pin(tokio::time::timeout(patience(), lane.acquire_many(units))).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => {
                let message = "too many requests of this topic are under way; send this one again later";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later())
            }
        }
    }
}
