//! What this node knows of consumers. None of it is relied on alone: the database has the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use crate::consumer::ConsumerName;
use crate::consumer::backlog::{Backlog, TopicNotes};
use crate::consumer::oldest::Oldest;
use crate::event::pattern::TopicPatterns;
use crate::store::Given;
use crate::sync::Mutex;

/// What this node knows of a consumer, in one life of its name.
#[derive(Debug)]
pub(crate) struct ConsumerCache {
    pub(crate) number: i64,
    pub(crate) topics: Arc<TopicPatterns>,
    /// Locked while the database is asked: what is known to be acknowledged must not hide what
    /// becomes known as new meanwhile.
    pub(crate) backlog: tokio::sync::Mutex<Backlog>,
    idle: Mutex<HashMap<u64, Idle>>,
    pub(crate) oldest: Mutex<Oldest>,
}

/// The answer to a reader that was given nothing, and waits.
#[derive(Debug)]
struct Idle {
    given: Given<()>,
    /// From here on the lease is to be renewed.
    ends: Instant,
}

impl ConsumerCache {
    /// The answer that this lease had last, if nobody need ask the database yet whether it stands.
    pub(crate) fn idle(&self, lease: u64, now: Instant) -> Option<Given<()>> {
        self.idle.lock().get(&lease).filter(|idle| now < idle.ends).map(|idle| idle.given.clone())
    }

    /// Nothing was given under a lease, which is not to be renewed before `ends`.
    pub(crate) fn set_idle(&self, given: &Given<()>, now: Instant, ends: Instant) {
        let mut idle = self.idle.lock();
        idle.retain(|_, idle| now < idle.ends);
        idle.insert(given.lease_id, Idle { given: given.clone(), ends });
    }

    /// A lease has ended.
    pub(crate) fn is_over(&self, lease: u64) {
        self.idle.lock().remove(&lease);
    }
}

/// How far the slots were read for topics with new events.
#[derive(Debug, Default)]
pub(crate) struct NotesProgress {
    pub(crate) topics: TopicNotes,
    /// By slot, the number up to which it was read; empty before the first time. Held by whoever
    /// reads; those who wait take part in what begins after they came.
    pub(crate) read: tokio::sync::Mutex<Vec<i64>>,
    pub(crate) begun: AtomicU64,
    pub(crate) done: AtomicU64,
    /// A database was left out where topics of filters were gone through, as it did not answer.
    pub(crate) is_partial: AtomicBool,
}

/// What this node knows of all consumers.
#[derive(Debug, Default)]
pub(crate) struct ConsumerCaches {
    caches: Mutex<HashMap<ConsumerName, Arc<ConsumerCache>>>,
    pub(crate) notes: NotesProgress,
    /// Names of those that have figures of their own, in the order of their turns.
    pub(crate) measured: Mutex<VecDeque<ConsumerName>>,
}

impl ConsumerCaches {
    /// What this node knows of the consumer that has this number now.
    pub(crate) fn of(
        &self,
        name: &ConsumerName,
        number: i64,
        topics: &Arc<TopicPatterns>,
    ) -> Arc<ConsumerCache> {
        let mut caches = self.caches.lock();
        if let Some(cache) = caches.get(name).filter(|cache| cache.number == number) {
            return Arc::clone(cache);
        }
        let cache = Arc::new(ConsumerCache {
            number,
            topics: Arc::clone(topics),
            backlog: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            oldest: Mutex::default(),
        });
        caches.insert(name.clone(), Arc::clone(&cache));
        cache
    }

    /// What this node knew of a consumer when it was asked for last.
    pub(crate) fn last(&self, name: &ConsumerName) -> Option<Arc<ConsumerCache>> {
        self.caches.lock().get(name).cloned()
    }

    /// There is no such consumer.
    pub(crate) fn forget(&self, name: &ConsumerName) {
        self.caches.lock().remove(name);
    }
}
