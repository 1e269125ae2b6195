//! What all parts of an open store share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::warn;

use super::consumer_cache::ConsumerCaches;
use super::coverage::SlotRow;
use super::groups::{Groups, Readers};
use super::pauses::Pauses;
use super::topic_names::{BY_ID, BY_NAME, Names, TopicId, TopicNames, topic_id};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::DATABASE_READ_SECONDS;
use crate::metrics::Metrics;
use crate::store::postgres::connect::connection::{Reader, Statement};
use crate::store::postgres::open::schema::Store;
use crate::store::{Health, Outcome, Status};
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
        self.topics.name(self.topic_id(number)).unwrap_or_default()
    }

    /// Topics as the database at this place shows them over a connection, as rows that begin with a
    /// slot, a number and a name. This node remembers those that are covered.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn read_topics(
        &self,
        place: usize,
        client: &Reader,
        statement: Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        // Before they are read: another server may become the primary meanwhile.
        let covered = self.groups.get(place).coverage.topics_by_slot();
        let rows = client.rows(statement, parameters).await?;
        let is_covered = |row: &&Row| {
            let (slot, number) = topic_id(row);
            let covered = usize::try_from(slot).ok().and_then(|slot| covered.get(slot));
            covered.is_some_and(|covered| i64::from(number) < *covered)
        };
        self.topics.learn(rows.iter().filter(is_covered));
        Ok(rows)
    }

    /// The same by their numbers.
    async fn read_names(
        &self,
        place: usize,
        client: &Reader,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> Result<Vec<Row>> {
        let (slots, ids): (Vec<i16>, Vec<i32>) = topics.into_iter().unzip();
        let rows = self.read_topics(place, client, BY_ID, &[&slots, &ids]).await?;
        if rows.len() == ids.len() {
            return Ok(rows);
        }
        Err(Error::new(ErrorKind::Corrupt, "the database has events of a topic that it does not have"))
    }

    /// What the database at this place calls a topic, for reads over the same connection: the topic may
    /// not be covered.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn id(&self, place: usize, client: &Reader, name: &str) -> Result<Option<TopicId>> {
        if let Some(id) = self.topics.id(name) {
            return Ok(Some(id));
        }
        let rows = self.read_topics(place, client, BY_NAME, &[&[name].as_slice()]).await?;
        Ok(rows.first().map(topic_id))
    }

    /// Adds the names of topics, which may not be covered.
    ///
    /// # Errors
    /// `Overloaded`; `Corrupt`: a database has no such topic.
    pub(crate) async fn name_all(
        &self,
        readers: &Readers,
        topics: impl IntoIterator<Item = TopicId>,
        names: &mut Names,
    ) -> Result<()> {
        let mut unnamed = BTreeSet::new();
        for topic in topics {
            if names.contains_key(&topic) {
                continue;
            }
            match self.topics.name(topic) {
                Some(name) => drop(names.insert(topic, name)),
                None => drop(unnamed.insert(topic)),
            }
        }
        for (place, topics) in self.groups.sort(unnamed, |topic| topic.0).into_iter().enumerate() {
            if !topics.is_empty() {
                let rows = self.read_names(place, readers.of(place)?, topics).await?;
                names.extend(rows.iter().map(|row| (topic_id(row), row.get::<_, &str>(2).into())));
            }
        }
        Ok(())
    }

    /// Makes sure that this node knows the names of these topics, which are covered then.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`; `Corrupt`: a database has no such topic.
    pub(crate) async fn learn(&self, topics: impl IntoIterator<Item = TopicId>) -> Result<()> {
        let unnamed = self.topics.unnamed(topics);
        for (place, topics) in self.groups.sort(unnamed, |topic| topic.0).into_iter().enumerate() {
            if topics.is_empty() {
                continue;
            }
            let group = self.groups.get(place);
            let client = group.connections.read().await?;
            let rows = self.read_names(place, &client, topics.iter().copied()).await?;
            if !self.topics.unnamed(topics).is_empty() {
                // By the same connection: another server may have other topics under these numbers.
                group.coverage.commit_by(&group.connections, client.into_lease()).await?;
                self.topics.learn(&rows);
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
                let rows = self.read_topics(place, &client, BY_NAME, &[&names]).await?;
                missing += names.len().saturating_sub(rows.len());
            }
        }
        Ok(missing)
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
        let mut pauses = Pauses::default();
        loop {
            let answer = read().await;
            let is_silent = answer.as_ref().is_err_and(|e| e.kind() == ErrorKind::Overloaded);
            if !is_silent || pauses.pass(&*self.clock, deadline).await.is_none() {
                return answer;
            }
            self.metrics.retried(1);
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
