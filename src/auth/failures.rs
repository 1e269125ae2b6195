//! Slows down whoever fails to show a token again and again.
//!
//! Nobody is locked out: others may come from the same address, and what they show is looked at
//! first. A token can't be guessed at any pace; this keeps those who try from taking the processor
//! and the log.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::limits::{FAILURE_PAUSE_SECONDS, FAILURES_FREE, FAILURES_PEERS_MAX, FAILURES_WAITING_MAX};
use crate::peer::Peer;
use crate::quota::QuotaKey;
use crate::sync::Mutex;

/// How long a failure counts.
const MEMORY: Duration = Duration::from_secs(60);

/// Failures, by the client that made them.
#[derive(Debug)]
pub struct Failures {
    clients: Mutex<HashMap<QuotaKey, Tally>>,
    /// Places for answers that wait.
    waiting: Semaphore,
}

impl Default for Failures {
    fn default() -> Self {
        Self { clients: Mutex::default(), waiting: Semaphore::new(FAILURES_WAITING_MAX) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    since: Instant,
    failures: u32,
}

impl Failures {
    /// Counts a failure of a client, and says how long its answer has to wait.
    pub fn count(&self, client: impl Into<QuotaKey>, now: Instant) -> Duration {
        let client = client.into();
        let mut clients = self.clients.lock();
        if clients.len() >= FAILURES_PEERS_MAX {
            clients.retain(|_, tally| now.saturating_duration_since(tally.since) < MEMORY);
        }
        // With too many, those that are not known yet count as one.
        let is_full = clients.len() >= FAILURES_PEERS_MAX && !clients.contains_key(&client);
        let client = if is_full { Peer::from(Ipv6Addr::UNSPECIFIED).into() } else { client };
        let tally = clients.entry(client).or_insert(Tally { since: now, failures: 0 });
        if now.saturating_duration_since(tally.since) >= MEMORY {
            *tally = Tally { since: now, failures: 0 };
        }
        tally.failures = tally.failures.saturating_add(1);
        let is_slowed = tally.failures > FAILURES_FREE;
        Duration::from_secs(if is_slowed { FAILURE_PAUSE_SECONDS } else { 0 })
    }

    /// Waits as long as [`Failures::count`] says, unless too many do.
    pub async fn wait(&self, pause: Duration) {
        if let Ok(_place) = self.waiting.try_acquire() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn a_client_is_slowed_after_some_failures_and_others_are_not() {
        let (failures, now) = (Failures::default(), SystemClock.monotonic());
        let (one, other) = (Peer::from([10, 0, 0, 1]), Peer::from([10, 0, 0, 2]));
        for _ in 0..FAILURES_FREE {
            assert!(failures.count(one, now).is_zero());
        }
        assert!(!failures.count(one, now).is_zero());
        assert!(failures.count(other, now).is_zero());
        assert!(failures.count(one, now + MEMORY).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded() {
        let (failures, pause) = (Failures::default(), Duration::from_secs(FAILURE_PAUSE_SECONDS));
        let mut all: Vec<_> = (0..=FAILURES_WAITING_MAX).map(|_| Box::pin(failures.wait(pause))).collect();
        let mut waiting = 0;
        for answer in &mut all {
            waiting += usize::from(answer.as_mut().now_or_never().is_none());
        }
        assert_eq!(waiting, FAILURES_WAITING_MAX);
        drop(all);
        assert!(Box::pin(failures.wait(pause)).now_or_never().is_none(), "those that have gone make room");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (failures, now) = (Failures::default(), SystemClock.monotonic());
        for number in 0..2 * FAILURES_PEERS_MAX {
            failures.count(Peer::from((number as u32).to_be_bytes()), now);
        }
        assert!(failures.clients.lock().len() <= FAILURES_PEERS_MAX + 1);
    }
}
