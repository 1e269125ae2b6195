//! What all parts of an open store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::connection::Connections;
use super::consume::desk::Consuming;
use super::coverage::{Coverage, SlotRow, total};
use super::schema::Store;
use super::topics::{TopicId, Topics};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{DATABASE_PAUSE_MILLIS_MAX, DATABASE_PAUSE_MILLIS_MIN, DATABASE_READ_SECONDS};
use crate::metrics::{DATABASE_PROMISE, DATABASE_STANDBYS, Metrics};
use crate::store::{Health, Outcome, Status, Totals};
use crate::sync::{self, Mutex};
use crate::turnstile::Turnstile;

/// What is wrong with the database, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It does not answer, or its standbys don't: whoever asks finds out.
    Silent(String),
    /// It answers, but no longer promises what it must: nothing is sent to it.
    Unsafe(String),
}

impl Trouble {
    fn why(&self) -> &str {
        let (Self::Silent(why) | Self::Unsafe(why)) = self;
        why
    }
}

/// What all parts of an open store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) store: Store,
    /// The number of this process among all that use the store.
    pub(crate) node: i64,
    pub(crate) coverage: Coverage,
    pub(crate) topics: Topics,
    pub(crate) consuming: Consuming,
    pub(crate) topics_max: usize,
    pub(crate) durability: Durability,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// Events that were refused and are not counted in the database yet.
    rejected: AtomicI64,
    /// As they were when the database was looked at last.
    totals: Mutex<Totals>,
    /// What is wrong with the database, while something is.
    trouble: Mutex<Option<Trouble>>,
    /// Standbys that commits may wait for; `None` if that can't be seen.
    standbys: Mutex<Option<i64>>,
    failure: watch::Sender<Option<String>>,
    retries_told: Turnstile,
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "each is a part that exists already")]
    pub(crate) fn new(
        connections: Connections,
        store: Store,
        node: i64,
        topics_max: usize,
        durability: Durability,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            connections,
            store,
            node,
            coverage: Coverage::new(&store, node),
            topics: Topics::default(),
            consuming: Consuming::default(),
            topics_max,
            durability,
            metrics,
            clock,
            rejected: AtomicI64::new(0),
            totals: Mutex::default(),
            trouble: Mutex::new(None),
            standbys: Mutex::new(None),
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
    pub(crate) fn committed(&self, slot: usize, row: &SlotRow, outcomes: &[Outcome], time: Duration) {
        self.coverage.note(slot, row);
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

    /// The database was looked at, and what it shows is covered.
    pub(crate) fn looked(&self, rows: &[SlotRow]) {
        rows.iter().enumerate().for_each(|(slot, row)| self.coverage.note(slot, row));
        *self.totals.lock() = total(rows);
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.totals.lock()
    }

    /// So many standbys are connected that commits may wait for.
    pub(crate) fn set_standbys(&self, standbys: Option<i64>) {
        *self.standbys.lock() = standbys;
    }

    /// Brings the figures of the database up to date.
    pub(crate) fn observe(&self) {
        self.connections.observe();
        let is_kept = self.trouble.lock().is_none();
        self.metrics.set(DATABASE_PROMISE, &[], f64::from(u8::from(is_kept)));
        if let Some(standbys) = *self.standbys.lock() {
            self.metrics.set(DATABASE_STANDBYS, &[], standbys as f64);
        }
    }

    /// What is wrong from now on; `None` if nothing is.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        let mut present = self.trouble.lock();
        match (&trouble, &*present) {
            (Some(trouble), before) if before.as_ref() != Some(trouble) => {
                warn!("not ready: {}", trouble.why());
            }
            (None, Some(_)) => info!("ready again"),
            _ => {}
        }
        *present = trouble;
    }

    /// An error if what is answered now would not be kept.
    pub(crate) fn check_promise(&self) -> Result<()> {
        match &*self.trouble.lock() {
            Some(Trouble::Unsafe(why)) => {
                let message = format!("no events are taken while {why}");
                Err(Error::new(ErrorKind::Overloaded, message))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn health(&self) -> Health {
        let failure = self.failure.borrow().clone();
        match failure.or_else(|| self.trouble.lock().as_ref().map(|trouble| trouble.why().to_owned())) {
            Some(why) => Health::NotReady(why),
            None => Health::Ready,
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
