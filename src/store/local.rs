//! The local store: a journal that is the truth, and indexes that the journal can rebuild.
//!
//! ```text
//! append ─> workers (by topic) ─> journal (one frame, one fdatasync for all) ─> answers
//!                                    └┄> checkpoint ─> sled ┄> seal ─> claims, processed, frames, filter
//! ```
//! Workers decide, and commit small groups themselves; the journal's thread commits the others. Off
//! the path of an answer, threads prepare room in the journal, put claims into the index and seal
//! full generations, merge filters, and look whether the data directory is still there. Nothing
//! reaches the index before the journal holds it durably.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use self::admission::job::{Job, Outcomes};
use self::admission::queue::{Closed, Queue};
use self::admission::route::{Part, route, split};
use self::admission::vitals::Watch;
use self::background::checkpoint::LiveIndex;
use self::format::frame::Chain;
use self::format::layout::INDEX;
use self::format::manifest::{Clean, random_u64};
use self::generation::topic::Pending;
use self::open::start::{Threads, start};
use self::read::step_thread::StepThread;
use self::read::{read_topic_cursor, write_topic_cursor};
use self::shared::Shared;
use self::write::group_commit::GroupCommit;
use crate::clock::Timestamp;
use crate::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Batch;
use crate::event::pattern::TopicPatterns;
use crate::limits::{
    ADMISSION_SECONDS, LAG_FIGURES_SECONDS, NICENESS, NICENESS_LOWEST, PAGES_READ_MAX, SCANS_READ_MAX,
    TAKES_READ_MAX,
};
use crate::store::{
    Condition, EventStore, Health, Outcome, Page, Priority, Query, Stats, StoredEvent, Taken, TopicCount,
    TopicPage, TopicStats,
};
use crate::sync::{self, Mutex};
use crate::turns::Turns;

mod admission;
mod background;
mod consume;
pub mod format;
pub mod generation;
mod offline;
mod open;
mod options;
mod read;
pub mod sealed;
mod shared;
mod write;

pub use self::offline::{rebuild, repair, verify};
pub use self::options::{Options, Seams};
pub use self::sealed::open_files;

/// The live generation's index: its seam, and what is behind it.
pub mod index {
    pub use super::generation::index::memory_index::MemoryIndexes;
    pub use super::generation::index::sled_index::SledIndexes;
    pub use super::generation::index::{BlockVisitor, ClaimVisitor, Index, Indexes};
}

/// How often a hanging disk is looked for.
const WATCH: Duration = Duration::from_secs(1);
/// If nobody looked for so long, the process or the machine stood still: SIGSTOP, a paused
/// container, a virtual machine that was moved. The disk is not to blame.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// What a start says that the operating system keeps from its files. Damage is something else, and
/// has another cure.
const CURE: &str = "no event was touched: cure the disk or the permissions, then start again";

/// An open store. Dropping it stops it as a crash would; [`Local::close`] stops it cleanly.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Shared>,
    commits: Mutex<Option<GroupCommit>>,
    threads: Mutex<Option<Threads>>,
    /// Those who read pages, those who scan, and consumers.
    page_turns: Arc<Turns>,
    scan_turns: Arc<Turns>,
    take_turns: Arc<Turns>,
    /// Threads of those who give way; one for each place among those who read pages.
    pages: [StepThread; PAGES_READ_MAX],
    scans: StepThread,
    takes: StepThread,
    /// Tells leases of this process from those of others.
    life: u32,
}

impl Local {
    /// Opens the store in `options.data_dir`, or makes one; returns once everything that was ever
    /// answered is durable and known.
    ///
    /// # Errors
    /// `Locked`, `Unusable`, `Corrupt`, `NoSpace`, `Io`.
    pub fn open(options: &Options, seams: Seams) -> Result<Self> {
        let (shared, commits, threads) = start(options, seams).map_err(|e| e.with_cure(CURE))?;
        Ok(Self {
            shared,
            commits: Mutex::new(Some(commits)),
            threads: Mutex::new(Some(threads)),
            page_turns: Turns::new(PAGES_READ_MAX),
            scan_turns: Turns::new(SCANS_READ_MAX),
            take_turns: Turns::new(TAKES_READ_MAX),
            pages: std::array::from_fn(|_| StepThread::new("pages", NICENESS)),
            scans: StepThread::new("scans", NICENESS_LOWEST),
            takes: StepThread::new("takes", NICENESS_LOWEST),
            life: random_u64()? as u32,
        })
    }

    /// Stops cleanly: what is queued is decided and committed, the index brought up to date, and
    /// the next start told that it may trust both. Must not be called from within an async task.
    ///
    /// # Errors
    /// `Unsure` if the store had failed; `NoSpace`, `Io` if the end could not be recorded (what was
    /// answered is safe).
    pub fn close(&self) -> Result<()> {
        let Some((chain, index)) = self.join() else { return Ok(()) };
        let (Some(chain), None) = (chain, self.shared.failure.get()) else {
            return Err(self.shared.failure.unsure());
        };
        let covered = index.flatten().and_then(|LiveIndex { index, covered }| {
            let live = self.shared.generations().last().map(|live| live.closed())?;
            let is_doubtful = self.shared.generations().last().is_some_and(|live| live.is_doubtful());
            let is_whole = covered.claims == live.events && covered.sum == live.claims_sum;
            if let Some(live) = self.shared.generations().last() {
                live.set_index(None);
            }
            drop(index);
            (is_whole && !is_doubtful).then(|| covered.into())
        });
        let dir = self.shared.generations().last().map(|live| live.dir.join(INDEX)).unwrap_or_default();
        if covered.is_some() {
            self.shared.seams.indexes.sync(&dir)?;
        }
        let clean = Clean { end: chain.at, last_frame: chain.sequence - 1, covered };
        self.shared.update_manifest(|manifest| manifest.clean = Some(clean))
    }

    /// The number of the store, which no other one has.
    pub fn id(&self) -> u128 {
        u128::from_be_bytes(self.shared.store_id)
    }

    /// Raises the counts of a topic, which must hold events, to what another store has counted;
    /// durable with the next [`EventStore::stats`].
    pub fn raise_counts(&self, topic: &str, duplicates: u64, conflicts: u64) {
        let Some(topic) = self.shared.topics.get(topic) else { return };
        let figures = topic.figures();
        let (duplicates, conflicts) =
            (duplicates.saturating_sub(figures.duplicates), conflicts.saturating_sub(figures.conflicts));
        self.shared.topics.count_pending(&Pending { topic, duplicates, conflicts });
    }

    /// Waits until the store fails: it then answers nothing more, and only a restart helps. An
    /// fdatasync or a sled call that hangs is such a failure.
    pub async fn failed(&self) -> Error {
        let mut looked = self.shared.now();
        loop {
            let wait = self.shared.failure.wait();
            if sync::timeout(WATCH, wait).await.is_some() {
                return self.shared.failure.unsure();
            }
            let now = self.shared.now();
            let since = now.saturating_duration_since(looked);
            if since > STOOD_STILL {
                self.watches().into_iter().for_each(|watch| watch.forgive(since));
            }
            looked = now;
            if let Err(e) = self.check_watches() {
                self.shared.failure.set(&e);
            }
        }
    }

    /// An error if a call into the operating system hangs.
    fn check_watches(&self) -> Result<()> {
        let now = self.shared.now();
        self.watches().into_iter().try_for_each(|watch| watch.check(now))
    }

    fn watches(&self) -> [&Watch; 4] {
        let shared = &self.shared;
        [&shared.watches.journal, &shared.watches.index, &shared.watches.hold, &shared.preallocation.watch]
    }

    /// Ends all threads, in the order in which they feed each other; `None` if that was done
    /// before.
    fn join(&self) -> Option<(Option<Chain>, Option<Option<LiveIndex>>)> {
        let threads = self.threads.lock().take()?;
        self.shared.queues.iter().for_each(Queue::close);
        self.pages.iter().chain([&self.scans, &self.takes]).for_each(StepThread::stop);
        Some(threads.join(&self.shared, self.commits.lock().take()))
    }

    /// Places in the queues of `workers`, all or none, in order so that no two requests wait for
    /// each other.
    async fn places(
        &self,
        workers: impl Iterator<Item = usize>,
    ) -> Result<SmallVec<[OwnedSemaphorePermit; 1]>> {
        let mut places = SmallVec::new();
        for worker in workers {
            places.push(self.place(worker).await?);
        }
        Ok(places)
    }

    async fn place(&self, worker: usize) -> Result<OwnedSemaphorePermit> {
        let queue = &self.shared.queues[worker].places;
        if let Ok(place) = Arc::clone(queue).try_acquire_owned() {
            return Ok(place);
        }
        let deadline = Duration::from_secs(ADMISSION_SECONDS);
        // Boxed: it is seldom waited for, and all requests' futures would have its size.
        match Box::pin(sync::timeout(deadline, Arc::clone(queue).acquire_owned())).await {
            Some(Ok(place)) => Ok(place),
            _ => Err(Error::new(ErrorKind::Overloaded, "too many requests wait; retry later")),
        }
    }

    /// Waits for an answer, or for the failure of the store.
    async fn answer<T>(&self, reply: oneshot::Receiver<Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = reply => answer.unwrap_or_else(|_| Err(self.shared.failure.unsure())),
            () = self.shared.failure.wait() => Err(self.shared.failure.unsure()),
        }
    }

    /// Makes counts durable that wait or are on their way, so that what is shown is never taken
    /// back.
    async fn flush(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let commits = self.commits.lock().clone().ok_or_else(Error::stopping)?;
        match sync::blocking(move || commits.flush(done)).await {
            Some(true) => self.answer(answer).await,
            _ => Err(self.shared.failure.unsure()),
        }
    }

    /// Runs what reads the disk where it may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        sync::blocking(move || read(&shared)).await.unwrap_or_else(|| Err(Error::stopping()))
    }
}

/// Wakes workers when the tasks that are ready to run have had their turn: what they send joins the
/// group. If this is given up meanwhile, the workers are woken all the same.
async fn wake_later<T>(wakes: T) {
    sync::yield_task().await;
    drop(wakes);
}

impl Drop for Local {
    fn drop(&mut self) {
        // A thread that hangs in the operating system is not waited for: the process is about to
        // end.
        if self.check_watches().is_ok() {
            self.join();
        }
    }
}

impl EventStore for Local {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        if self.shared.failure.get().is_some() {
            return Err(self.shared.failure.unsure());
        }
        let parts = split(&self.shared.secret, self.shared.queues.len(), &batch);
        let places = self.places(parts.iter().map(|part| part.worker)).await?;
        let (mut replies, mut wakes) = (SmallVec::<[_; 1]>::new(), SmallVec::<[_; 1]>::new());
        let is_whole = parts.len() == 1;
        for (Part { worker, items, bytes }, place) in parts.into_iter().zip(places) {
            let (reply, answer) = oneshot::channel();
            // A whole batch is answered in its own order.
            let indexes = if is_whole { Vec::new() } else { items.iter().map(|item| item.index).collect() };
            replies.push((indexes, answer));
            let job = Job::Append { place, batch: Arc::clone(&batch), items, bytes, reply };
            match self.shared.queues[worker].push(job, bytes, &self.shared.pace) {
                Ok(wake) => wakes.extend(wake),
                Err(Closed) if replies.len() > 1 => return Err(Error::stopping().in_part()),
                Err(Closed) => return Err(Error::stopping()),
            }
        }
        if !wakes.is_empty() {
            wake_later(wakes).await;
        }
        if is_whole && let Some((_, answer)) = replies.pop() {
            return self.answer(answer).await.map(Outcomes::into_vec);
        }
        let mut outcomes = vec![None; batch.len()];
        let mut failed = None;
        for (indexes, answer) in replies {
            match self.answer(answer).await {
                Ok(part) => {
                    for (index, outcome) in indexes.into_iter().zip(part) {
                        outcomes[index as usize] = Some(outcome);
                    }
                }
                Err(e) => failed = Some(e),
            }
        }
        match (failed, outcomes.into_iter().collect()) {
            (None, Some(outcomes)) => Ok(outcomes),
            (Some(e), _) => Err(e.in_part()),
            (None, None) => Err(self.shared.failure.unsure()),
        }
    }

    fn count_rejected(&self, events: u64) {
        self.shared.topics.count_rejected(events);
    }

    async fn find(
        &self,
        topic: &str,
        event_id: &str,
        check: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> Result<Option<StoredEvent>> {
        let Some(known) = self.shared.topics.get(topic) else { return Ok(None) };
        let hash = self.shared.secret.event(topic.as_bytes(), event_id.as_bytes());
        let key = ([topic.as_bytes(), b"\0", event_id.as_bytes()].concat(), topic.len() + 1);
        let (reply, answer) = oneshot::channel();
        let queue = &self.shared.queues[route(known.hash, self.shared.queues.len())];
        if !queue.push_urgent(Job::Find { key, hash, reply }, &self.shared.pace) {
            return Err(Error::stopping());
        }
        match self.answer(answer).await? {
            Some(offset) => {
                self.blocking(move |shared| read::event(shared, &known, offset, check)).await.map(Some)
            }
            None => Ok(None),
        }
    }

    async fn read_as<T: Send + 'static>(
        &self,
        query: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<(Page, T)> {
        let priority = query.priority;
        let turns = if priority == Priority::Scan { &self.scan_turns } else { &self.page_turns };
        let turn = turns.wait(query.client, query.reader).await;
        let place = turn.place();
        if priority == Priority::Scan {
            // It may have waited for long: whoever has gone meanwhile is noticed before anything is
            // read for it.
            sync::yield_task().await;
        }
        // The place is given back when the read is done, whether anybody waits for it or not.
        let read = move |shared: &Shared| {
            let page = read::page(shared, &query).map(|page| {
                let written = write(&page);
                (page, written)
            });
            drop(turn);
            page
        };
        let thread = match priority {
            Priority::AtOnce => return self.blocking(read).await,
            Priority::GivesWay => &self.pages[place],
            Priority::Scan => &self.scans,
        };
        thread.run(&self.shared, read).await?.unwrap_or_else(|| Err(Error::stopping()))
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        Ok(read::end(&self.shared, topic))
    }

    async fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Result<TopicPage> {
        let after = cursor.map(|cursor| read_topic_cursor(&self.shared, cursor)).transpose()?;
        let mut topics = self.shared.topics.holders(after.as_deref(), limit.saturating_add(1), only);
        let has_more = topics.len() > limit;
        topics.truncate(limit);
        let next_cursor =
            topics.last().filter(|_| has_more).map(|topic| write_topic_cursor(&self.shared, &topic.name));
        let topics = topics.iter().map(|topic| {
            let figures = topic.figures();
            TopicStats {
                topic: topic.name.to_string(),
                unique_processed: topic.events(),
                duplicate_dropped: figures.duplicates,
                conflicts: figures.conflicts,
                first_offset: topic.first_offset(),
                last_offset: figures.next_offset.saturating_sub(1),
                first_received_at: Timestamp(figures.first_received_at),
                last_received_at: Timestamp(figures.last_received_at),
            }
        });
        Ok(TopicPage { topics: topics.collect(), next_cursor })
    }

    async fn stats(&self) -> Result<Stats> {
        self.flush().await?;
        Ok(Stats { totals: self.shared.topics.totals(), topics: self.shared.topics.holding() })
    }

    fn topic_count(&self) -> TopicCount {
        TopicCount { made: self.shared.topics.made(), max: self.shared.topics.max() }
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        let is_known =
            |topic| std::str::from_utf8(topic).is_ok_and(|topic| self.shared.topics.get(topic).is_some());
        Ok(topics.iter().filter(|topic| !is_known(topic)).count())
    }

    async fn put_consumer(&self, consumer: &ConsumerKey, start: &Start) -> Result<bool> {
        self.begin_consumer(consumer, start).await
    }

    async fn delete_consumer(&self, consumer: &ConsumerKey) -> Result<bool> {
        self.end_consumer(consumer).await
    }

    async fn seek_consumer(&self, consumer: &ConsumerKey, to: &Start) -> Result<()> {
        self.move_consumer(consumer, to).await
    }

    async fn consumer_topics(&self, name: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        Ok(self.shared.consumers.get(name.as_str()).map(|consumer| Arc::clone(&consumer.topics)))
    }

    async fn consumer(&self, consumer: &ConsumerKey, look: Look) -> Result<ConsumerStats> {
        self.consumer_stats(consumer, look).await
    }

    async fn consumers(&self, after: Option<&str>, limit: usize) -> Result<Vec<ConsumerKey>> {
        Ok(self.shared.consumers.after(after, limit).iter().filter_map(|own| own.key()).collect())
    }

    async fn take<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> Result<Taken<T>> {
        self.take_events(take, write).await
    }

    async fn acknowledge(&self, consumer: &ConsumerKey, receipt: &str) -> Result<()> {
        self.reach(consumer, receipt).await
    }

    async fn release(&self, name: &ConsumerName, lease_id: u64) {
        if let Some(consumer) = self.shared.consumers.get(name.as_str()) {
            consumer.leases.lock().end(lease_id);
        }
    }

    fn health(&self) -> Health {
        if let Some(why) = self.shared.failure.get() {
            return Health::NotReady(format!("the store failed: {why}; restart it to recover"));
        }
        match self.shared.preallocation.full().or_else(|| self.shared.trouble()) {
            Some(why) => Health::NotReady(why),
            None => Health::Ready,
        }
    }

    async fn observe(&self) {
        read::observe(&self.shared, self.health() == Health::Ready);
        // What can't be read now is shown as it was.
        let patience = Duration::from_secs(LAG_FIGURES_SECONDS);
        let _ = sync::timeout(patience, self.observe_consumers()).await;
    }

    async fn condition(&self) -> Condition {
        read::condition(&self.shared)
    }

    async fn failed(&self) -> Error {
        self.failed().await
    }

    fn close(&self) -> Result<()> {
        self.close()
    }
}

#[cfg(test)]
mod tests;
