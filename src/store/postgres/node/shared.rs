//! What all parts of an open store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::warn;

use super::consumer_cache::ConsumerCaches;
use super::coverage::SlotRow;
use super::groups::{Groups, Readers};
use super::topic_names::{TopicId, TopicNames};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{DATABASE_PAUSE_MILLIS_MAX, DATABASE_PAUSE_MILLIS_MIN, DATABASE_READ_SECONDS};
use crate::metrics::Metrics;
use crate::store::postgres::open::schema::Store;
use crate::store::{Health, Outcome, Status};
use crate::sync;
use crate::turnstile::Turnstile;

/// What all parts of an open store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) groups: Groups,
    pub(crate) store: Store,
    /// The number of this process among all that use the store.
    pub(crate) node: i64,
    pub(crate) topics: TopicNames,
    pub(crate) consumers: ConsumerCaches,
    pub(crate) topics_max: usize,
    pub(crate) durability: Durability,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// Events that were refused and are not counted in the database yet.
    rejected: AtomicI64,
    failure: watch::Sender<Option<String>>,
    retries_told: Turnstile,
}

impl Shared {
    pub(crate) fn new(
        groups: Groups,
        store: Store,
        node: i64,
        topics_max: usize,
        durability: Durability,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            groups,
            store,
            node,
            topics: TopicNames::default(),
            consumers: ConsumerCaches::default(),
            topics_max,
            durability,
            metrics,
            clock,
            rejected: AtomicI64::new(0),
            failure: watch::Sender::new(None),
            retries_told: Turnstile::default(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.monotonic()
    }

    /// One number for a topic of a slot: small ones, as sets of them are bitmaps.
    pub(crate) fn topic_number(&self, (slot, topic): TopicId) -> u32 {
        topic
            .unsigned_abs()
            .wrapping_mul(self.store.slots as u32)
            .wrapping_add(u32::from(slot.unsigned_abs()))
    }

    pub(crate) fn topic_id(&self, number: u32) -> TopicId {
        let slots = self.store.slots as u32;
        ((number % slots) as i16, (number / slots) as i32)
    }

    /// The name of a topic that this node has met.
    pub(crate) fn topic_name(&self, number: u32) -> Arc<str> {
        self.topics.name(self.topic_id(number))
    }

    /// Makes sure that the names of these topics are known.
    ///
    /// # Errors
    /// `Overloaded`; `Corrupt`: a database has no such topic.
    pub(crate) async fn name_all(
        &self,
        readers: &Readers,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> Result<()> {
        for (place, topics) in self.groups.sort(topics, |topic| topic.0).into_iter().enumerate() {
            if !topics.is_empty() {
                self.topics.name_all(readers.of(place)?, topics.into_iter()).await?;
            }
        }
        Ok(())
    }

    /// The same over connections of its own, as far as any is needed.
    ///
    /// # Errors
    /// As for [`Shared::name_all`].
    pub(crate) async fn learn(&self, topics: impl IntoIterator<Item = TopicId>) -> Result<()> {
        let unnamed = self.topics.unnamed(topics);
        for (place, topics) in self.groups.sort(unnamed, |topic| topic.0).into_iter().enumerate() {
            if !topics.is_empty() {
                let client = self.groups.get(place).connections.read().await?;
                self.topics.name_all(&client, topics.into_iter()).await?;
            }
        }
        Ok(())
    }

    /// How many of these topics, which are all different, the store does not have.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn missing(&self, names: &[&str]) -> Result<usize> {
        let slot = |name: &&str| self.store.slot(name.as_bytes()) as i16;
        let mut missing = 0;
        for (place, names) in self.groups.sort(self.topics.unknown(names), slot).into_iter().enumerate() {
            if !names.is_empty() {
                let client = self.groups.get(place).connections.read().await?;
                missing += self.topics.missing(&client, &names).await?;
            }
        }
        Ok(missing)
    }

    /// Waits a moment, of random length; `None` if time is over by then.
    pub(crate) async fn pause(&self, deadline: Instant) -> Option<()> {
        let span = DATABASE_PAUSE_MILLIS_MAX - DATABASE_PAUSE_MILLIS_MIN;
        let pause = DATABASE_PAUSE_MILLIS_MIN + sync::random_u64().unwrap_or_default() % span;
        let pause = Duration::from_millis(pause);
        (self.now() + pause < deadline).then_some(())?;
        tokio::time::sleep(pause).await;
        Some(())
    }

    /// Reads, again and again while the database does not answer: a connection may have been cut,
    /// or another server be about to become the primary.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(
        &self,
        mut read: impl FnMut() -> F,
    ) -> Result<T> {
        let deadline = self.now() + Duration::from_secs(DATABASE_READ_SECONDS);
        loop {
            match read().await {
                Err(e) if e.kind() == ErrorKind::Overloaded && self.pause(deadline).await.is_some() => {
                    self.metrics.retried(1);
                }
                answer => return answer,
            }
        }
    }

    /// What is to be counted as refused with the next statement.
    pub(crate) fn take_rejected(&self) -> i64 {
        self.rejected.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn put_back_rejected(&self, events: i64) {
        self.rejected.fetch_add(events, Ordering::SeqCst);
    }

    pub(crate) fn has_rejected(&self) -> bool {
        self.rejected.load(Ordering::SeqCst) > 0
    }

    /// A statement was answered.
    pub(crate) fn committed(&self, row: &SlotRow, outcomes: &[Outcome], time: Duration) {
        self.groups.of(row.slot).coverage.note(row);
        let stored = outcomes.iter().filter(|outcome| outcome.status == Status::Stored).count();
        self.metrics.committed(time, stored as u64, 0);
    }

    /// A statement was refused for good.
    pub(crate) fn refused(&self, e: &Error, rejected: i64) {
        self.put_back_rejected(rejected);
        if e.kind() == ErrorKind::Corrupt {
            self.fail(e.to_string());
        }
    }

    /// A statement is sent again, or given up.
    pub(crate) fn retried(&self, slot: Option<usize>, why: &str) {
        self.metrics.retried(1);
        if let Some(left_out) = self.retries_told.pass(("retried", 0), self.now()) {
            warn!(
                slot,
                left_out,
                "a statement was not answered, and is sent again as long as its requests wait: {why}"
            );
        }
    }

    /// Whether events are taken.
    pub(crate) fn health(&self) -> Health {
        match &*self.failure.borrow() {
            Some(why) => Health::NotReady(why.clone()),
            None => self.groups.health(),
        }
    }

    /// The store can't go on.
    pub(crate) fn fail(&self, why: String) {
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(why);
            is_first
        });
    }

    /// Waits until the store can't go on.
    pub(crate) async fn failed(&self) -> Error {
        let mut failure = self.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        Error::new(ErrorKind::Unsure, why.unwrap_or_default())
    }
}
