//! Quotas: what each client may take, so that the others have theirs. Knows no HTTP.
//!
//! Every table here is bounded, however many clients there are: that of rates forgets clients that
//! were not seen for the longest time, and that of permits has those alone who hold one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::RATES_MAX;
use crate::peer::Peer;
use crate::sync::Mutex;

/// Whom what a request takes is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaKey {
    /// A client that is known by its address or user alone.
    Peer(Peer),
    /// A client that has shown a token or a certificate, by the number of that.
    Grant(u64),
}

impl From<Peer> for QuotaKey {
    fn from(peer: Peer) -> Self {
        Self::Peer(peer.network())
    }
}

impl QuotaKey {
    /// A number that stands for it, and hardly ever for another.
    pub fn number(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// How many requests each client may send a second: a token bucket that holds those of a second.
/// (The "virtual scheduling" form of ITU-T I.371's cell rate algorithm, which keeps one time for
/// each client.)
#[derive(Debug)]
pub struct Rates {
    per_second: u32,
    clients: Mutex<Clients>,
}

/// When each client's bucket is full again; clients that are absent have full ones. Once the first
/// table is full it becomes the second one, and that which was the second is forgotten.
#[derive(Debug, Default)]
struct Clients {
    recent: HashMap<QuotaKey, Instant>,
    before: HashMap<QuotaKey, Instant>,
}

impl Clients {
    fn full_at(&mut self, key: QuotaKey, now: Instant) -> &mut Instant {
        if self.recent.len() >= RATES_MAX / 2 && !self.recent.contains_key(&key) {
            self.before = std::mem::take(&mut self.recent);
        }
        let before = &mut self.before;
        self.recent.entry(key).or_insert_with(|| before.remove(&key).unwrap_or(now))
    }
}

impl Rates {
    /// Lets each client send `per_second` requests.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), clients: Mutex::default() }
    }

    /// Requests a second.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Takes a request of a client out of its bucket.
    ///
    /// # Errors
    /// How long until there is one in it.
    pub fn take(&self, key: QuotaKey, now: Instant) -> Result<(), Duration> {
        let second = Duration::from_secs(1);
        let mut clients = self.clients.lock();
        let full_at = clients.full_at(key, now);
        let next = (*full_at).max(now) + second / self.per_second;
        let missing = next.saturating_duration_since(now).saturating_sub(second);
        if missing.is_zero() {
            *full_at = next;
            return Ok(());
        }
        Err(missing)
    }
}

/// Permits of which a client may hold as many as it leaves free, so that there are some for others.
/// The last one is for a client that holds none.
#[derive(Debug)]
pub struct FairPermits {
    max: usize,
    held: Mutex<Held>,
}

/// Permits that are taken.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Those of each client that holds any.
    clients: HashMap<QuotaKey, usize>,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPermit {
    /// All are taken.
    Full,
    /// What is free is for clients that hold fewer.
    Share,
}

impl FairPermits {
    /// As many as `max`.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default() })
    }

    /// Takes a permit for a client.
    ///
    /// # Errors
    /// There is none for it.
    pub fn take(self: &Arc<Self>, key: QuotaKey) -> Result<FairPermit, NoPermit> {
        let mut held = self.held.lock();
        let free = self.max.saturating_sub(held.all);
        let own = held.clients.get(&key).copied().unwrap_or_default();
        match free {
            0 => Err(NoPermit::Full),
            free if own >= free => Err(NoPermit::Share),
            _ => {
                held.all += 1;
                held.clients.insert(key, own + 1);
                Ok(FairPermit { permits: Arc::clone(self), key })
            }
        }
    }
}

/// A permit, given back when it is dropped.
#[derive(Debug)]
pub struct FairPermit {
    permits: Arc<FairPermits>,
    key: QuotaKey,
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let mut held = self.permits.held.lock();
        held.all -= 1;
        if let Some(own) = held.clients.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                held.clients.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn key(number: u32) -> QuotaKey {
        Peer::from(number.to_be_bytes()).into()
    }

    #[test]
    fn a_client_sends_what_its_bucket_holds_and_then_as_fast_as_that_fills() {
        let (rates, now) = (Rates::new(10), SystemClock.monotonic());
        let at = |millis| now + Duration::from_millis(millis);
        assert!((0..10).all(|_| rates.take(key(1), now).is_ok()), "what a second brings");
        assert_eq!(rates.take(key(1), now), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(key(1), at(40)), Err(Duration::from_millis(60)));
        assert_eq!(rates.take(key(2), at(40)), Ok(()), "others have theirs");
        assert_eq!(rates.take(key(1), at(100)), Ok(()), "refusals cost nothing");
        assert!(rates.take(key(1), at(100)).is_err());
        let sent = (100..10_000).filter(|millis| rates.take(key(1), at(*millis)).is_ok()).count();
        assert_eq!(sent, 98);
    }

    #[test]
    fn a_crowd_of_clients_takes_no_more_memory_than_its_table() {
        let (rates, now) = (Rates::new(1), SystemClock.monotonic());
        for number in 0..3 * RATES_MAX as u32 {
            assert_eq!(rates.take(key(number), now), Ok(()));
        }
        let clients = rates.clients.lock();
        assert!(clients.recent.len() + clients.before.len() <= RATES_MAX);
        drop(clients);
        assert!(rates.take(key(3 * RATES_MAX as u32 - 1), now).is_err(), "who was here last is known");
    }

    #[test]
    fn a_client_that_takes_all_it_may_leaves_places_for_many_others() {
        let permits = FairPermits::new(1_000);
        let mut held = Vec::new();
        for hog in 0..8 {
            let before = held.len();
            held.extend(std::iter::from_fn(|| permits.take(key(hog)).ok()));
            assert!(held.len() > before, "hog {hog}");
            assert_eq!(permits.take(key(hog)).err(), Some(NoPermit::Share));
        }
        held.push(permits.take(key(99)).unwrap());
        held.truncate(1);
        assert_eq!(permits.held.lock().clients.len(), 1, "who holds none is not in the table");
    }

    #[test]
    fn the_last_place_is_for_a_client_that_holds_none() {
        for max in 1..5 {
            let permits = FairPermits::new(max);
            let held: Vec<_> = std::iter::from_fn(|| permits.take(key(1)).ok()).collect();
            assert_eq!(held.len(), max.div_ceil(2), "of {max}");
            let others: Vec<_> = (2..).map_while(|other| permits.take(key(other)).ok()).collect();
            assert_eq!(held.len() + others.len(), max);
            assert_eq!(permits.take(key(99)).err(), Some(NoPermit::Full));
        }
    }
}
