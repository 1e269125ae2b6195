//! The quota of new topics: the last tenth of them is given out by client and hour, so that no
//! client uses up what there is for ever.
//!
//! Topics are never removed. Until nine tenths of them are made, a new one costs a look at two
//! counters. From there on, a batch's topics are looked up, and what is new among them counts for
//! its client.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};

use crate::clock::Clock;
use crate::event::Batch;
use crate::http::wire::problem::Problem;
use crate::limits::{TOPICS_CLIENT_PART, TOPICS_CLIENTS_MAX, TOPICS_SCARCE_PART};
use crate::peer::Peer;
use crate::quota::QuotaKey;
use crate::store::{EventStore, TopicCount};
use crate::sync::Mutex;

/// Time after which a client has its whole quota again.
const HOUR: Duration = Duration::from_secs(3_600);

/// Topics that are being made, and what clients have used of their quotas.
#[derive(Debug, Default)]
pub(crate) struct TopicQuota {
    /// Events of batches under way that were not looked at: each may have a new topic.
    possible: AtomicUsize,
    /// New topics of batches under way that were looked at.
    known: AtomicUsize,
    clients: Mutex<HashMap<QuotaKey, Used>>,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    since: Instant,
    topics: usize,
}

/// Counts a batch's new topics as under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    count: &'a AtomicUsize,
    topics: usize,
}

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize, topics: usize) -> Self {
        count.fetch_add(topics, Ordering::SeqCst);
        Self { count, topics }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.topics, Ordering::SeqCst);
    }
}

impl TopicQuota {
    /// Takes `topics` from a client's quota of `share` an hour.
    ///
    /// # Errors
    /// How long until the client has a new quota, if too little is left of this one.
    fn give(&self, client: QuotaKey, topics: usize, share: usize, now: Instant) -> Result<(), Duration> {
        let mut clients = self.clients.lock();
        clients.retain(|_, used| now.saturating_duration_since(used.since) < HOUR);
        let is_full = clients.len() >= TOPICS_CLIENTS_MAX && !clients.contains_key(&client);
        let client = if is_full { Peer::from(Ipv6Addr::UNSPECIFIED).into() } else { client };
        let used = clients.entry(client).or_insert(Used { since: now, topics: 0 });
        if used.topics + topics > share {
            return Err(HOUR.saturating_sub(now.saturating_duration_since(used.since)));
        }
        used.topics += topics;
        Ok(())
    }

    /// Lets a batch of `client` have its new topics.
    ///
    /// # Errors
    /// 429: topics run out, and the client has used its quota. Nothing of the batch was decided.
    pub(crate) async fn admit<S: EventStore>(
        &self,
        store: &S,
        batch: &Batch,
        client: QuotaKey,
        clock: &dyn Clock,
    ) -> Result<UnderWay<'_>, Problem> {
        let TopicCount { made, max } = store.topic_count();
        let scarce = max / TOPICS_SCARCE_PART;
        let plenty = max - scarce;
        let way = UnderWay::new(&self.possible, batch.len());
        let possible = self.possible.load(Ordering::SeqCst) + self.known.load(Ordering::SeqCst);
        if made.saturating_add(possible) <= plenty {
            return Ok(way);
        }
        drop(way);
        let topics: HashSet<&[u8]> = batch.iter().map(|event| event.topic).collect();
        // Boxed, so that the futures of all other requests stay small.
        let new = Box::pin(async move { store.count_new_topics(&Vec::from_iter(topics)).await }).await?;
        let way = UnderWay::new(&self.known, new);
        if new == 0 || scarce == 0 {
            return Ok(way);
        }
        let coming = self.known.load(Ordering::SeqCst) + self.possible.load(Ordering::SeqCst);
        let beyond = (made + coming).saturating_sub(plenty).min(new);
        let share = (scarce / TOPICS_CLIENT_PART).max(1);
        let given = self.give(client, beyond, share, clock.monotonic());
        given.map(|()| way).map_err(|wait| {
            let message = format!(
                "the store has {made} of at most {max} topics: of what is left, a client gets {share} new ones an \
                 hour; use fewer topics, send this later, or raise --topics-max. Nothing of this was stored"
            );
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_client_has_its_share_again_after_an_hour_and_others_have_theirs() {
        let (quota, now) = (TopicQuota::default(), SystemClock.monotonic());
        let [one, other] = [1, 2].map(|host| Peer::from([10, 0, 0, host]).into());
        assert_eq!(quota.give(one, 6, 10, now), Ok(()));
        let later = now + HOUR / 2;
        assert_eq!(quota.give(one, 5, 10, later), Err(HOUR / 2));
        assert_eq!(quota.give(one, 4, 10, later), Ok(()));
        assert_eq!(quota.give(other, 10, 10, later), Ok(()));
        assert_eq!(quota.give(one, 10, 10, now + HOUR), Ok(()));
    }
}
