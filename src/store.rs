//! What a backend must do, in domain terms: events, outcomes, cursors and topics.
//!
//! Nothing above this seam knows how events are kept; nothing below it knows HTTP. [`local`] has a
//! journal and an index in a directory, and [`postgres`] drops, appends and counts in one statement
//! of a database. [`backend`] is the one that a process was started with.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::consumer::{ConsumerKey, ConsumerName, ConsumerStats, LeaseStats, Look, Start, Take};
use crate::error::{Error, Result};
use crate::event::Batch;
use crate::event::pattern::TopicPatterns;
use crate::limits::SCAN_PASSED_MIN;

pub mod backend;
pub mod local;
pub mod postgres;
pub mod target;
pub mod transfer;

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is new, and on disk.
    Stored,
    /// It was stored before with the same payload; dropped.
    Duplicate,
    /// Its id was stored before with another payload. The first write stays, and this event was
    /// dropped.
    Conflict,
}

/// The answer for one event: where the stored event is, whether it is this one or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub status: Status,
    /// Offset of the stored event within its topic.
    pub offset: u64,
    /// When the stored event arrived.
    pub first_seen: Timestamp,
}

/// An event as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its topic.
    pub topic: Box<str>,
    /// Its id.
    pub event_id: Box<str>,
    /// Its time, as it came.
    pub timestamp: Box<str>,
    /// Its source.
    pub source: Box<str>,
    /// One JSON value, byte for byte as it came.
    pub payload: Box<str>,
    /// Its number in its topic, from 0.
    pub offset: u64,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl StoredEvent {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let Self { topic, event_id, timestamp, source, payload, offset: _, received_at: _ } = self;
        topic.len() + event_id.len() + timestamp.len() + source.len() + payload.len()
    }
}

/// Order of a listing, by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only topics that these patterns mean.
    pub only: Option<Arc<TopicPatterns>>,
    /// Only events from this source.
    pub source: Option<String>,
    /// Only events that arrived at or after this time.
    pub since: Option<Timestamp>,
    /// Only events that arrived before this time.
    pub until: Option<Timestamp>,
    /// Order of the events.
    pub order: Order,
    /// Go on from here: a [`Page::next_cursor`], opaque.
    pub cursor: Option<String>,
    /// Leave out what comes after this cursor: an [`EventStore::end`] taken earlier.
    pub stop: Option<String>,
    /// At most this many events.
    pub limit: usize,
    /// End the page where its events, and what surrounds them in an answer, reach this many bytes,
    /// rather than at the store's own bound.
    pub bytes_max: Option<usize>,
    /// Whose listing it is, as a number that all reads of one client share: clients take turns.
    pub client: u64,
    /// Which listing of that client, as a number: these take turns too.
    pub reader: u64,
    /// How soon it wants to be read.
    pub priority: Priority,
    /// Also give the cursor after each event.
    pub cursors: bool,
}

/// How soon a page is read where others want the processor too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for its beginning.
    #[default]
    AtOnce,
    /// It goes on with a listing of which its reader has a part: whoever publishes or begins to
    /// read goes first.
    GivesWay,
    /// It goes on with a listing that looked at much and gave little. Such reads take turns of
    /// their own, after all others.
    Scan,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// The cursor after each event, if asked for.
    pub cursors: Vec<String>,
    /// Where to go on; `None` at the end. A page may be short, even empty, and still have one.
    pub next_cursor: Option<String>,
    /// The cursor reached, at the end too: from there, later pages have only what was stored later.
    pub reached: String,
    /// Events that were looked at and are not wanted.
    pub passed: usize,
    /// Bytes of the journal that were read.
    pub read_bytes: usize,
}

impl Page {
    /// Whether much was looked at for what it gives.
    pub fn is_scan(&self) -> bool {
        self.next_cursor.is_some() && self.events.len().saturating_mul(SCAN_PASSED_MIN) <= self.passed
    }

    /// How soon the page after it is read. A reader who has had all there was is one who waits for
    /// what comes.
    pub fn next_priority(&self) -> Priority {
        match self.next_cursor {
            Some(_) if self.is_scan() => Priority::Scan,
            Some(_) => Priority::GivesWay,
            None => Priority::AtOnce,
        }
    }
}

/// Totals over the life of the store. `received = unique_processed + duplicate_dropped`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events stored.
    pub unique_processed: u64,
    /// Events dropped as known, conflicts among them.
    pub duplicate_dropped: u64,
    /// Events dropped whose payload differed from the stored one.
    pub conflicts: u64,
    /// Events refused as invalid.
    pub rejected: u64,
}

impl Totals {
    /// Valid events answered.
    pub fn received(&self) -> u64 {
        self.unique_processed + self.duplicate_dropped
    }

    /// These and others.
    pub fn plus(self, other: Self) -> Self {
        Self {
            unique_processed: self.unique_processed + other.unique_processed,
            duplicate_dropped: self.duplicate_dropped + other.duplicate_dropped,
            conflicts: self.conflicts + other.conflicts,
            rejected: self.rejected + other.rejected,
        }
    }
}

/// Totals, and how many topics there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Totals over the life of the store.
    pub totals: Totals,
    /// Topics that hold events.
    pub topics: u64,
}

/// How many topics a store may still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCount {
    /// Topics that there are.
    pub made: usize,
    /// Most that there may be.
    pub max: usize,
}

/// One topic's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicStats {
    /// Its name.
    pub topic: String,
    /// Events stored.
    pub unique_processed: u64,
    /// Events dropped as known, conflicts among them.
    pub duplicate_dropped: u64,
    /// Events dropped whose payload differed.
    pub conflicts: u64,
    /// Offset of the first event still stored.
    pub first_offset: u64,
    /// Offset of the last event.
    pub last_offset: u64,
    /// Arrival of the first event.
    pub first_received_at: Timestamp,
    /// Arrival of the last event.
    pub last_received_at: Timestamp,
}

/// One page of topics, sorted by their bytes.
#[derive(Clone, Debug, Default)]
pub struct TopicPage {
    /// The topics.
    pub topics: Vec<TopicStats>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
}

/// What is given to whoever reads for a consumer.
#[derive(Clone, Debug, Default)]
pub struct Given<T> {
    /// Events from the positions on that are acknowledged, in each topic in order; or what was made
    /// of them.
    pub events: T,
    /// What stands for them; `None` if there are none.
    pub receipt: Option<String>,
    /// Events that are not acknowledged, in all topics of the consumer; these are among them.
    pub lag: u64,
    /// The lease that they are given under.
    pub lease_id: u64,
    /// When it ends.
    pub until: Timestamp,
    /// There may be more that was not looked for yet: to ask again at once gets further.
    pub is_looking: bool,
}

impl<T> Given<T> {
    /// The same with other events.
    pub fn with<U>(self, events: U) -> Given<U> {
        let Self { receipt, lag, lease_id, until, is_looking, .. } = self;
        Given { events, receipt, lag, lease_id, until, is_looking }
    }
}

/// What becomes of a [`Take`].
#[derive(Clone, Debug)]
pub enum Taken<T> {
    /// The topics are the asker's, and these are their next events, if there are any.
    Given(Given<T>),
    /// Another has a lease that stands against it.
    Held(LeaseStats),
}

/// Whether the store takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Recovered, disk fine, not poisoned.
    Ready,
    /// It takes events of some topics, and why not of the others, in a sentence.
    ReadyInPart(String),
    /// Not ready, and why, in a sentence.
    NotReady(String),
}

/// How the store is at one time, for somebody who looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Totals that are durable; what was answered within the last second may be missing of those
    /// dropped.
    pub totals: Totals,
    /// What holds of an event once it is answered: where it then is.
    pub promise: Promise,
    /// Free bytes of the disk, and those below which nothing is taken any more; `None` if the disk
    /// does not tell.
    pub disk: Option<Disk>,
    /// `None` for a store without journals.
    pub journals: Option<Journals>,
}

/// How the journals of a store are, and what is made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journals {
    /// Bytes of events in them.
    pub bytes: u64,
    /// Stored events that the index does not have yet.
    pub lag_events: u64,
    /// Generations that events may still be written to, or that wait to be sealed.
    pub open_generations: usize,
    /// Generations that never change.
    pub sealed_generations: usize,
    /// Indexes that are being rebuilt, or wait for it.
    pub rebuilding: usize,
}

/// Where an event is once it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// On the disk of this machine, synced.
    #[default]
    Disk,
    /// On the disk of the database's primary, and on its synchronous standbys.
    Replicated,
    /// On the disk of the database's primary alone.
    Primary,
}

/// Room on the disk of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free bytes.
    pub free_bytes: u64,
    /// Free bytes below which nothing is taken any more.
    pub reserve_bytes: u64,
}

/// A backend. All methods may be called at once from many tasks. [`Backend`](backend::Backend) is
/// the one that a process was started with.
pub trait EventStore: Send + Sync + 'static {
    /// Stores what is new of `batch` and answers for each event, in the order of the batch, once
    /// every answer rests on what is durable. Not a transaction: if it fails, part of the batch may
    /// be stored, and sending it again is safe.
    ///
    /// # Errors
    /// `Overloaded` and `Stopping`: nothing was decided. `NoSpace`, `Rebuilding`, `Unsure`: send it
    /// all again later.
    fn append(&self, batch: Arc<Batch>) -> impl Future<Output = Result<Vec<Outcome>>> + Send;

    /// Counts `events` that were refused as invalid before they got here.
    fn count_rejected(&self, events: u64);

    /// The stored event with this id. `check` is told how many bytes a long one has, before they
    /// are read where that is known then, and may refuse them.
    ///
    /// # Errors
    /// `Rebuilding`, `Corrupt`, `Io`, `Stopping`, and those of `check`.
    fn find(
        &self,
        topic: &str,
        event_id: &str,
        check: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> impl Future<Output = Result<Option<StoredEvent>>> + Send;

    /// One page of durable events. A query with `limit` 0 gives an empty page. It takes a bounded
    /// time: where it would have to look at more, the page is short, and says where to go on.
    /// Dropped before its turn, it reads nothing.
    ///
    /// # Errors
    /// `BadCursor`, `ExpiredCursor`, `Rebuilding`, `Corrupt`, `Io`.
    fn read(&self, query: Query) -> impl Future<Output = Result<Page>> + Send {
        async { Ok(self.read_as(query, |_| ()).await?.0) }
    }

    /// The same, and what `write` makes of it where it is read: others go first there, if the query
    /// says so.
    ///
    /// # Errors
    /// Those of [`EventStore::read`].
    fn read_as<T: Send + 'static>(
        &self,
        query: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> impl Future<Output = Result<(Page, T)>> + Send;

    /// The cursor after the newest durable event, of `topic` or of all. It is asked for often, by
    /// readers that wait for events. The cursor of all moves after that of a topic, so a reader
    /// that sees it move sees the other too.
    ///
    /// # Errors
    /// `Unsure`.
    fn end(&self, topic: Option<&str>) -> impl Future<Output = Result<String>> + Send;

    /// A text that is another one after events became visible that readers may wait for. It is that
    /// of [`EventStore::end`] for all topics, but leaves out what does not answer where other
    /// topics do.
    ///
    /// # Errors
    /// As for [`EventStore::end`].
    fn pulse(&self) -> impl Future<Output = Result<String>> + Send {
        self.end(None)
    }

    /// Topics that hold events, in order of their bytes, at most `limit`, from `cursor` on; of all,
    /// or of those that `only` means. All of it is durable; counts that are not yet are in it once
    /// [`EventStore::stats`] has answered.
    ///
    /// # Errors
    /// `BadCursor`.
    fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> impl Future<Output = Result<TopicPage>> + Send;

    /// Totals that a restart will not take back, with all that was answered before.
    ///
    /// # Errors
    /// `Unsure` if pending counts could not be made durable.
    fn stats(&self) -> impl Future<Output = Result<Stats>> + Send;

    /// How many topics there may still be. Asked for each publish, so it answers from memory; it
    /// may lag behind topics that are being made.
    fn topic_count(&self) -> TopicCount;

    /// How many of `topics`, which are all different, the store does not have yet.
    ///
    /// # Errors
    /// `Unsure`.
    fn count_new_topics(&self, topics: &[&[u8]]) -> impl Future<Output = Result<usize>> + Send;

    /// Makes a consumer of these topics that reads from `start` on; whether it was made. One that
    /// is there with the same topics stays as it is.
    ///
    /// # Errors
    /// `Conflict` if there is one with other topics; `BadCursor`, `ExpiredCursor`; `NoSpace` if
    /// there are as many consumers or positions as there may be; `Stopping`, `Unsure`, and those of
    /// [`EventStore::read`].
    fn put_consumer(
        &self,
        consumer: &ConsumerKey,
        start: &Start,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Ends a consumer, its positions and its leases; whether there was one.
    ///
    /// # Errors
    /// `Stopping`, `Unsure`.
    fn delete_consumer(&self, consumer: &ConsumerKey) -> impl Future<Output = Result<bool>> + Send;

    /// Moves a consumer, forwards or back, and ends its leases: what was given under them can't be
    /// acknowledged any more. A cursor in one topic moves that topic alone.
    ///
    /// # Errors
    /// `NoConsumer`, `Conflict` if it is changed at the same time, and those of
    /// [`EventStore::put_consumer`].
    fn seek_consumer(&self, consumer: &ConsumerKey, to: &Start) -> impl Future<Output = Result<()>> + Send;

    /// The filter of a consumer; `None` if there is no such consumer. Asked for with each request
    /// of a consumer, so it takes at most one look-up.
    ///
    /// # Errors
    /// `Overloaded`.
    fn consumer_topics(
        &self,
        name: &ConsumerName,
    ) -> impl Future<Output = Result<Option<Arc<TopicPatterns>>>> + Send;

    /// What is known of a consumer. How far it lags is found out in short steps, which take turns
    /// with those of other clients; dropped before its turn, it looks at nothing.
    ///
    /// # Errors
    /// `NoConsumer`, `Stopping`, and those of [`EventStore::read`].
    fn consumer(
        &self,
        consumer: &ConsumerKey,
        look: Look,
    ) -> impl Future<Output = Result<ConsumerStats>> + Send;

    /// At most `limit` consumers, in order of their names, after `after`.
    ///
    /// # Errors
    /// `Unsure`.
    fn consumers(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ConsumerKey>>> + Send;

    /// The next events for a consumer, under a lease. It takes a bounded time and does not wait for
    /// events. What it gives begins at what is acknowledged: to ask again gives the same again.
    /// `write` makes of the events what is given, where they are read: publishers go first there.
    ///
    /// # Errors
    /// `NoConsumer`, and those of [`EventStore::read`].
    fn take<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> impl Future<Output = Result<Taken<T>>> + Send;

    /// Moves a consumer on over the events that a receipt stands for, and all before them in their
    /// topics, durably. It never moves back.
    ///
    /// # Errors
    /// `NoConsumer`; `BadCursor` if the receipt is none; `Conflict` if the lease is over that it
    /// was given under; `NoSpace`, `Stopping`, `Unsure`.
    fn acknowledge(&self, consumer: &ConsumerKey, receipt: &str) -> impl Future<Output = Result<()>> + Send;

    /// Ends a lease that was taken for nothing. What it can't end ends by itself, later.
    fn release(&self, name: &ConsumerName, lease_id: u64) -> impl Future<Output = ()> + Send;

    /// Whether it takes events, as far as it knows without asking the disk or another machine.
    fn health(&self) -> Health;

    /// Brings the figures up to date that are read when somebody asks for all figures. It reads few
    /// events: the oldest that consumers lag behind. Figures that a backend does not have are not
    /// shown.
    fn observe(&self) -> impl Future<Output = ()> + Send;

    /// How it is. It reads no events and waits for none; it may ask the disk how much is free.
    fn condition(&self) -> impl Future<Output = Condition> + Send;

    /// Waits until the store fails for good: it then answers nothing more, and only a restart
    /// helps.
    fn failed(&self) -> impl Future<Output = Error> + Send;

    /// Stops the store cleanly; what comes afterwards is refused with `Stopping`. It blocks, so it
    /// must not be called from within an async task.
    ///
    /// # Errors
    /// `Unsure` if the store had failed; `NoSpace`, `Io` if the end could not be recorded. What was
    /// answered is safe in any case.
    fn close(&self) -> Result<()>;
}
