//! Fairness between topics: of one topic's requests, so many are being stored at a time, and the others wait in its own line.
//!
//! A topic whose senders have gone wild then keeps itself waiting, not everybody: those of other topics meet a service with a
//! bounded amount of it under way. A request counts for the topic of its first event, and by its bytes, as what it costs does.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;
use super::service::Service;
use crate::event::Batch;
use crate::limits::{ADMISSION_SECONDS, TOPIC_BYTES_INFLIGHT_MAX, TOPIC_REQUESTS_MAX};

/// Topics are spread over so many lines; two that share one share its places.
const LANES: usize = 16_384;
/// Places are counted in these.
const UNIT_BYTES: usize = 1 << 10;
/// Places of a line.
const PLACES: usize = TOPIC_BYTES_INFLIGHT_MAX / UNIT_BYTES;

/// The lines. Which topic has which one is drawn anew by each process, so that nobody can aim at another's.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Box<[Semaphore]>,
    hash: RandomState,
}

impl Default for Lanes {
    fn default() -> Self {
        let lanes = (0..LANES).map(|_| Semaphore::new(PLACES)).collect();
        Self { lanes, hash: RandomState::new() }
    }
}

impl Lanes {
    fn of(&self, topic: &[u8]) -> &Semaphore {
        &self.lanes[self.hash.hash_one(topic) as usize % LANES]
    }
}

impl<S> Service<S> {
    /// Places for a request with these events; waits for them for a short time, unless what waits holds half of the bytes that
    /// bodies may hold: then those are for others.
    pub(super) async fn place(&self, batch: &Batch) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if batch.is_empty() {
            return Ok(None);
        }
        let lane = self.lanes.of(batch.get(0).topic);
        let places = (batch.bytes() / UNIT_BYTES).clamp(PLACES / TOPIC_REQUESTS_MAX, PLACES) as u32;
        if let Ok(place) = lane.try_acquire_many(places) {
            return Ok(Some(place));
        }
        let deadline = Duration::from_secs(if self.room.is_half_free() { ADMISSION_SECONDS } else { 0 });
        // Boxed, as in all that seldom waits: the futures of those that don't stay small.
        match Box::pin(tokio::time::timeout(deadline, lane.acquire_many(places))).await {
            Ok(Ok(place)) => Ok(Some(place)),
            _ => {
                let message = "too many requests of this topic are under way; send this one again later";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later())
            }
        }
    }
}
