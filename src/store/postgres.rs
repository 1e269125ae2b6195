//! The store in a PostgreSQL database, for many nodes at once.
//!
//! ```text
//! append ─> queues by slot ─> one statement for all that waits ─> commit, on the standbys too ─> answers
//! read   ─> keys, then events ─> shown once a later acknowledged commit covers them
//! take   ─> a lease and positions, in one statement ─> events (consume.rs)
//! ```
//! The slots are shared out to one database or several (`node/groups.rs`), each with a primary of
//! its own.
//!
//! A topic belongs to a slot for ever. Whoever adds to a slot holds its row, so within it offsets
//! and numbers have no gaps and become visible in order. `migrations/0001-events.sql` has all
//! tables and what a statement does. Read `write/slot.rs` first: it decides what a lost answer
//! means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, info};

use self::connect::connection::{Connections, Statement};
use self::connect::identity::Identity;
pub use self::connect::options::{Database, Options};
use self::consume::{consumer_row, lag_metrics, moves, stats};
use self::node::coverage::total;
use self::node::group::{Group, Trouble};
use self::node::groups::Groups;
use self::node::shared::Shared;
use self::open::opening::{Prepared, prepare};
use self::open::schema::unusable;
use self::read::cursor::write_all;
use self::read::{pages, topic_list};
use self::write::promise_check;
use self::write::slot::{Piece, work};
use crate::clock::Clock;
use crate::config::Durability;
use crate::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Batch;
use crate::event::pattern::TopicPatterns;
use crate::limits::{
    ADMISSION_SECONDS, DATABASE_FIGURES_SECONDS, DATABASE_READ_SECONDS, DRAIN_SECONDS, SLOT_PIECES_MAX,
    STATEMENT_BYTES, STATEMENT_EVENTS,
};
use crate::metrics::{Metrics, READY, STORED, TOPICS, TOPICS_MOST};
use crate::store::{
    Condition, EventStore, Health, Outcome, Page, Promise, Query, Stats, StoredEvent, Taken, TopicCount,
    TopicPage,
};
use crate::sync::{self, Mutex, RwLock};

mod connect;
mod consume;
mod node;
pub mod offline;
mod open;
mod read;
mod write;

/// An open store.
#[derive(Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
    /// A queue for each slot; none when it is stopping.
    queues: RwLock<Vec<mpsc::Sender<Piece>>>,
    tasks: Mutex<Option<JoinSet<()>>>,
    runtime: Handle,
}

/// Removes what is known of a node that stops, and of those that were gone for long: no statement
/// of theirs is under way any more.
const FORGET: [Statement; 2] = [
    (
        "forget",
        "DELETE FROM sekali_attempts
         WHERE node = $1 OR received_at < extract(epoch FROM now() - interval '7 days') * 1000000",
    ),
    ("forget", "DELETE FROM sekali_nodes WHERE node = $1 OR at < now() - interval '7 days'"),
];

impl Postgres {
    /// Opens the store, or makes one; returns once the database has shown that it keeps the
    /// promise.
    ///
    /// # Errors
    /// `Unusable`: what is wrong with the database, and what to set.
    pub async fn open(options: Options, metrics: Metrics, clock: Arc<dyn Clock>) -> Result<Self> {
        let prepared = prepare(&options, options.must_exist).await?;
        if prepared.store.is_filling {
            return Err(unusable(
                "the events of another store are being moved here: run the command `move` again until it says that all \
                 is moved",
            ));
        }
        Self::serve(&options, prepared, metrics, clock).await
    }

    /// Opens what was prepared.
    async fn serve(
        options: &Options,
        prepared: Prepared,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let Prepared { store, databases, home } = prepared;
        // It is there from the beginning.
        metrics.retried(0);
        let random = |e| Error::new(ErrorKind::Unusable, format!("the system has no random number: {e}"));
        let node = (sync::random_u64().map_err(random)? >> 1) as i64;
        let (durability, topics_max) = (options.durability, options.topics_max);
        let group = |(database, found): (Database, Result<Identity, String>)| {
            let connections =
                Connections::new(&database.connections, durability, metrics.clone(), Arc::clone(&clock))?;
            let group = Group::new(database, store.slots, connections, node);
            match found {
                Ok(identity) => group.connections.prove(identity),
                Err(why) => group.set_trouble(Some(Trouble::Unsafe(why))),
            }
            Ok(group)
        };
        let groups = Groups::new(databases.into_iter().map(group).collect::<Result<_>>()?, home);
        let shared = Arc::new(Shared::new(groups, store, node, topics_max, durability, metrics, clock));
        for group in shared.groups.iter().filter(|group| group.connections.identity().is_some()) {
            // Standbys that do not answer are waited for: the database may be starting too.
            group.set_trouble(promise_check::look(&shared, group).await?);
        }
        let promise = match durability {
            Durability::Replicated => {
                "an event is on the primary and its synchronous standbys when it is answered"
            }
            Durability::Local => "an event is on the disk of the primary alone when it is answered",
        };
        let databases = shared.groups.iter().count();
        info!(
            store = format!("{:032x}", store.id),
            slots = store.slots,
            databases,
            "the store is open: {promise}"
        );
        let mut tasks = JoinSet::new();
        let mut queues = Vec::new();
        for slot in 0..store.slots {
            let (queue, pieces) = mpsc::channel(SLOT_PIECES_MAX);
            tasks.spawn(work(Arc::clone(&shared), slot, pieces));
            queues.push(queue);
        }
        for place in 0..databases {
            tokio::spawn(promise_check::keep(Arc::downgrade(&shared), place));
        }
        let (queues, tasks) = (RwLock::new(queues), Mutex::new(Some(tasks)));
        Ok(Self { shared, queues, tasks, runtime: Handle::current() })
    }

    /// The number of the store, which no other one has.
    pub fn id(&self) -> u128 {
        self.shared.store.id
    }

    /// The parts of a batch, by slot, each small enough for a statement.
    fn split(&self, batch: &Batch) -> Vec<(usize, Vec<u32>, usize)> {
        let mut parts: Vec<(usize, Vec<u32>, usize)> = Vec::new();
        let mut open: Vec<Option<usize>> = vec![None; self.shared.store.slots];
        for (index, event) in (0..).zip(batch.iter()) {
            let slot = self.shared.store.slot(event.topic);
            let bytes = event.topic.len() + event.event_id.len() + event.source.len() + event.payload.len();
            let part = open[slot].filter(|part| {
                parts[*part].1.len() < STATEMENT_EVENTS && parts[*part].2 + bytes <= STATEMENT_BYTES
            });
            let part = part.unwrap_or_else(|| {
                parts.push((slot, Vec::new(), 0));
                parts.len() - 1
            });
            open[slot] = Some(part);
            parts[part].1.push(index);
            parts[part].2 += bytes;
        }
        parts.sort_by_key(|part| part.0);
        parts
    }

    /// Refuses a batch whose new topics are too many. What other nodes make at the same time is not
    /// seen, so there may be a few more.
    async fn admit_topics(&self, batch: &Batch) -> Result<()> {
        let mut names: Vec<&[u8]> = batch.iter().map(|event| event.topic).collect();
        names.sort_unstable();
        names.dedup();
        let patience = Duration::from_secs(DATABASE_READ_SECONDS);
        let counted = sync::timeout(patience, self.shared.patiently(|| self.count_new(&names))).await;
        let new = counted.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Overloaded, "the database does not answer in time; retry later"))
        })?;
        if new == 0 || self.shared.groups.topics() + new <= self.shared.topics_max {
            return Ok(());
        }
        let message = "the store holds as many topics as it may: raise topics_max, or use fewer topics";
        Err(Error::new(ErrorKind::NoSpace, message))
    }

    async fn count_new(&self, topics: &[&[u8]]) -> Result<usize> {
        let names: Vec<&str> =
            topics.iter().map(|name| std::str::from_utf8(name).unwrap_or_default()).collect();
        self.shared.missing(&names).await
    }

    /// Sends the parts of a batch on their way, which came at this time; what comes back is each part's
    /// answer.
    async fn queue(
        &self,
        batch: &Arc<Batch>,
        since: Instant,
    ) -> Result<Vec<(Vec<u32>, oneshot::Receiver<Result<Vec<Outcome>>>)>> {
        let queues: Vec<mpsc::Sender<Piece>> = self.queues.read().clone();
        if queues.is_empty() {
            return Err(Error::stopping());
        }
        let parts = self.split(batch);
        for (slot, ..) in &parts {
            self.shared.groups.of(*slot).check_promise()?;
        }
        let last = self.shared.now() + Duration::from_secs(ADMISSION_SECONDS);
        // All places first, in the order of slots: what is refused was not begun.
        let mut places = Vec::with_capacity(parts.len());
        for (slot, ..) in &parts {
            let left = last.saturating_duration_since(self.shared.now());
            match sync::timeout(left, queues[*slot].reserve()).await {
                Some(Ok(place)) => places.push(place),
                Some(Err(_)) => return Err(Error::stopping()),
                None => return Err(Error::new(ErrorKind::Overloaded, "too many requests wait; retry later")),
            }
        }
        let mut answers = Vec::with_capacity(parts.len());
        for ((_, indexes, bytes), place) in parts.into_iter().zip(places) {
            let (reply, answer) = oneshot::channel();
            place.send(Piece { batch: Arc::clone(batch), indexes: indexes.clone(), bytes, since, reply });
            answers.push((indexes, answer));
        }
        Ok(answers)
    }

    /// Counts what was refused since the last statement, with a statement of its own.
    async fn flush(&self) -> Result<()> {
        if !self.shared.has_rejected() {
            return Ok(());
        }
        let Some(queue) = self.queues.read().first().cloned() else { return Err(Error::stopping()) };
        let (reply, answer) = oneshot::channel();
        let (batch, since) = (Arc::new(Batch::default()), self.shared.now());
        let piece = Piece { batch, indexes: Vec::new(), bytes: 0, since, reply };
        queue.send(piece).await.map_err(|_| Error::stopping())?;
        answer.await.unwrap_or_else(|_| Err(Error::stopping())).map(drop)
    }

    /// Waits for what is queued, and leaves nothing of this node behind.
    async fn stop(&self, tasks: Option<JoinSet<()>>) -> Result<()> {
        let Some(mut tasks) = tasks else { return Ok(()) };
        // The last refusals are counted if the database answers; they are no one's events.
        let _ = self.flush().await;
        self.queues.write().clear();
        while tasks.join_next().await.is_some() {}
        for group in self.shared.groups.iter() {
            for statement in FORGET {
                // A row that stays is removed by another node, later.
                let _ = group.read(statement, &[&self.shared.node]).await;
            }
            group.connections.close();
        }
        Ok(())
    }
}

impl EventStore for Postgres {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let since = self.shared.now();
        self.admit_topics(&batch).await?;
        let mut outcomes = vec![None; batch.len()];
        let mut failed: Option<Error> = None;
        let answers = self.queue(&batch, since).await?;
        let is_whole = answers.len() == 1;
        let mut is_any_done = false;
        for (indexes, answer) in answers {
            match answer.await.unwrap_or_else(|_| Err(unsure())) {
                Ok(part) => {
                    is_any_done = true;
                    for (index, outcome) in indexes.into_iter().zip(part) {
                        outcomes[index as usize] = Some(outcome);
                    }
                }
                // The worst of them: what is unsure of one part is so of the whole.
                Err(e) if failed.as_ref().is_none_or(|worst| worst.kind() != ErrorKind::Unsure) => {
                    failed = Some(e);
                }
                Err(_) => {}
            }
        }
        match (failed, outcomes.into_iter().collect()) {
            (None, Some(outcomes)) => Ok(outcomes),
            (None, None) => Err(unsure()),
            (Some(e), _) if is_whole || !is_any_done => Err(e),
            (Some(e), _) => Err(e.in_part()),
        }
    }

    fn count_rejected(&self, events: u64) {
        self.shared.put_back_rejected(i64::try_from(events).unwrap_or(i64::MAX));
    }

    async fn find(
        &self,
        topic: &str,
        event_id: &str,
        check: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> Result<Option<StoredEvent>> {
        let found = self.shared.patiently(|| pages::find(&self.shared, topic, event_id)).await?;
        if let Some(event) = &found {
            check(event.payload.len())?;
        }
        Ok(found)
    }

    async fn read_as<T: Send + 'static>(
        &self,
        query: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<(Page, T)> {
        let page = self.shared.patiently(|| pages::page(&self.shared, &query)).await?;
        let written = write(&page);
        Ok((page, written))
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        self.shared.patiently(|| pages::end(&self.shared, topic)).await
    }

    async fn pulse(&self) -> Result<String> {
        let ends = self.shared.patiently(|| self.shared.groups.known_ends()).await?;
        Ok(write_all(self.shared.store.half(), &ends))
    }

    async fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Result<TopicPage> {
        self.shared.patiently(|| topic_list::page(&self.shared, cursor, limit, only)).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.flush().await?;
        let rows = self.shared.patiently(|| self.shared.groups.rows()).await?;
        let topics = rows.iter().map(|row| u64::try_from(row.next_topic).unwrap_or_default()).sum();
        Ok(Stats { totals: total(&rows), topics })
    }

    fn topic_count(&self) -> TopicCount {
        TopicCount { made: self.shared.groups.topics(), max: self.shared.topics_max }
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        self.shared.patiently(|| self.count_new(topics)).await
    }

    async fn put_consumer(&self, consumer: &ConsumerKey, start: &Start) -> Result<bool> {
        moves::put(&self.shared, consumer, start).await
    }

    async fn delete_consumer(&self, consumer: &ConsumerKey) -> Result<bool> {
        moves::end(&self.shared, consumer).await
    }

    async fn seek_consumer(&self, consumer: &ConsumerKey, to: &Start) -> Result<()> {
        moves::seek(&self.shared, consumer, to).await
    }

    async fn consumer_topics(&self, name: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        match consumer_row::find(&self.shared, name).await {
            Ok(known) => Ok(Some(known.topics)),
            Err(e) if e.kind() == ErrorKind::NoConsumer => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn consumer(&self, consumer: &ConsumerKey, look: Look) -> Result<ConsumerStats> {
        stats::stats(&self.shared, consumer, look.positions).await
    }

    async fn consumers(&self, after: Option<&str>, limit: usize) -> Result<Vec<ConsumerKey>> {
        consumer_row::list(&self.shared, after, limit).await
    }

    async fn take<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> Result<Taken<T>> {
        consume::take(&self.shared, take, write).await
    }

    async fn acknowledge(&self, consumer: &ConsumerKey, receipt: &str) -> Result<()> {
        consume::acknowledge(&self.shared, consumer, receipt).await
    }

    async fn release(&self, name: &ConsumerName, lease_id: u64) {
        consume::release(&self.shared, name, lease_id).await;
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    async fn observe(&self) {
        let metrics = &self.shared.metrics;
        metrics.set(READY, &[], f64::from(u8::from(self.health() == Health::Ready)));
        metrics.set(TOPICS_MOST, &[], self.shared.topics_max as f64);
        metrics.set(TOPICS, &[], self.shared.groups.topics() as f64);
        metrics.set(STORED, &[], self.shared.groups.stored() as f64);
        self.shared.groups.observe(metrics);
        // A database that does not answer keeps no other figure waiting.
        let patience = Duration::from_secs(DATABASE_FIGURES_SECONDS);
        match sync::timeout(patience, lag_metrics::observe(&self.shared)).await {
            Some(Ok(())) => {}
            Some(Err(e)) => debug!(error = %e, "how far consumers are is not known"),
            None => debug!("how far consumers are is not known in time"),
        }
    }

    async fn condition(&self) -> Condition {
        let promise = match self.shared.durability {
            Durability::Replicated => Promise::Replicated,
            Durability::Local => Promise::Primary,
        };
        Condition { totals: self.shared.groups.totals(), promise, ..Condition::default() }
    }

    async fn failed(&self) -> Error {
        self.shared.failed().await
    }

    fn close(&self) -> Result<()> {
        let tasks = self.tasks.lock().take();
        let stopped =
            self.runtime.block_on(sync::timeout(Duration::from_secs(DRAIN_SECONDS), self.stop(tasks)));
        // What was answered is in the database, whether it confirms the rest or not.
        stopped.unwrap_or(Ok(()))
    }
}

fn unsure() -> Error {
    Error::new(ErrorKind::Unsure, "whether the events were stored is unknown; sending them again is safe")
}
