//! The local store: a journal that is the truth, and indexes that the journal can rebuild.
//!
//! ```text
//! append ─> workers (by topic) ─> journal (one frame, one fdatasync for all) ─> answers
//!                                    └┄> checkpoint ─> sled ┄> seal ─> claims, processed, frames, filter
//! ```
//! Four kinds of threads: workers decide (and commit what is small), one commits, one checkpoint works behind the acknowledgement, one
//! prepares zeroed room. Nothing reaches the index before the journal holds it durably.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use self::checkpoint::{Checkpoint, Committed, LiveIndex};
use self::commit::Journal;
use self::core::{Core, Failure, Lag, Watch};
use self::frame::Chain;
use self::hash::Secret;
use self::hold::Hold;
use self::index::Indexes;
use self::journal::{GROUPS_MAX, Writer};
use self::manifest::{Clean, ManifestFile};
use self::open_files::{FileCache, OPEN_FILES_MAX};
use self::queue::{Closed, Pace, Queue};
use self::recovery::{Recovered, recover};
use self::route::{Part, route, split};
use self::scans::Scans;
use self::space::Space;
use self::turns::Turns;
use self::worker::{Job, Outcomes, Worker};
use crate::clock::{Clock, Timestamp};
use crate::codec::{Covered, VERSION};
use crate::disk::{Disk, is_absent};
use crate::error::{During, Error, ErrorKind, Result};
use crate::event::Batch;
use crate::limits::{ADMISSION_SECONDS, PAGES_READ_MAX, SCANS_READ_MAX};
use crate::metrics::Metrics;
use crate::store::{
    EventStore, Health, Outcome, Page, Query, Stats, StoredEvent, TopicCount, TopicPage, TopicStats,
};
use crate::sync::atomic::AtomicU64;
use crate::sync::mpsc::sync_channel;
use crate::sync::{self, Builder, JoinHandle, Mutex, RwLock, mpsc};

mod ahead;
mod checkpoint;
mod claims;
mod commit;
mod core;
mod figures;
pub mod filter;
pub mod filters;
mod frame;
mod generation;
pub mod hash;
mod hold;
pub mod index;
mod journal;
mod keeper;
mod leftovers;
mod manifest;
pub mod open_files;
pub mod page;
mod queue;
mod read;
mod recovery;
pub mod repair;
mod route;
mod scans;
mod seal;
mod slots;
pub mod sorted_file;
mod space;
mod throttle;
mod topic;
mod turns;
pub mod verify;
mod walk;
mod worker;

/// How often a hanging disk is looked for.
const WATCH: Duration = Duration::from_secs(1);
/// If nobody looked for so long, the process or the machine stood still: SIGSTOP, a paused
/// container, a virtual machine that was moved. The disk is not to blame.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// What a start says that the operating system keeps from its files. Damage is something else, and has another cure.
const CURE: &str = "no event was touched: cure the disk or the permissions, then start again";

/// What a user sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the store lies.
    pub data_dir: PathBuf,
    /// Refuse to make a new store.
    pub must_exist: bool,
    /// Threads that decide; at least 1. May change from start to start.
    pub workers: usize,
    /// Events at which a generation is full.
    pub generation_events: u64,
    /// Journal bytes at which a generation is full.
    pub generation_bytes: u64,
    /// Most topics.
    pub topics_max: usize,
}

/// What the store reaches the world through.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The live index.
    pub indexes: Arc<dyn Indexes>,
    /// Where commits and rebuilds are counted.
    pub metrics: Metrics,
}

/// An open store. Dropping it stops it as a crash would; [`Local::close`] stops it cleanly.
#[derive(Debug)]
pub struct Local {
    core: Arc<Core>,
    journal: Mutex<Option<Journal>>,
    threads: Mutex<Option<Threads>>,
    /// Those who read pages, and those who scan.
    page_turns: Arc<Turns>,
    scan_turns: Arc<Turns>,
    scans: Scans,
}

/// A thread; `None` if it panicked.
type Handle<T> = JoinHandle<Option<T>>;

struct Threads {
    filters: Handle<()>,
    workers: Vec<Handle<()>>,
    journal: Handle<Chain>,
    checkpoint: Handle<Option<LiveIndex>>,
    space: Handle<()>,
    hold: Handle<()>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Local {
    /// Opens the store in `options.data_dir`, or makes one; returns once everything that was ever answered is durable
    /// and known.
    ///
    /// # Errors
    /// `Locked`, `Unusable`, `Corrupt`, `NoSpace`, `Io`.
    pub fn open(options: &Options, seams: Seams) -> Result<Self> {
        Self::start(options, seams).map_err(|e| e.with_cure(CURE))
    }

    fn start(options: &Options, seams: Seams) -> Result<Self> {
        let Seams { disk, clock, indexes, metrics } = seams;
        let hold = take_lock(options, &*disk)?;
        let files = FileCache::new(Arc::clone(&disk), OPEN_FILES_MAX);
        let recovered = recover(options, &disk, &hold, &files)?;
        let Recovered {
            manifest,
            topics,
            filters,
            generations,
            tables,
            committed,
            claims,
            chain,
            zeroed,
            clean,
        } = recovered;
        let Some(live) = generations.last().cloned() else {
            return Err(Error::new(ErrorKind::Corrupt, "MANIFEST names no generation"));
        };
        let origin = clock.monotonic();
        let space = Space::new(
            Arc::clone(&disk),
            Arc::clone(&clock),
            &options.data_dir,
            (options.generation_events, options.generation_bytes),
            live.id,
            (chain.at, zeroed),
        )?;
        let core = Arc::new(Core {
            data_dir: options.data_dir.clone(),
            disk,
            clock,
            indexes,
            files,
            store_id: manifest.store_id(),
            secret: Secret::new(manifest.secret()),
            generation_events: options.generation_events,
            generation_bytes: options.generation_bytes,
            hold,
            manifest: ManifestFile::new(manifest),
            topics,
            filters,
            space,
            queues: (0..options.workers).map(|_| Queue::default()).collect(),
            pace: Pace::default(),
            generations: RwLock::new(Arc::new(generations.clone())),
            durable: AtomicU64::new(chain.durable_through),
            shown: AtomicU64::new(live.first_event + live.events()),
            lag: Lag::default(),
            failure: Failure::default(),
            journal_watch: Watch::new("a write to the journal", origin),
            index_watch: Watch::new("a write to the index", origin),
            hold_watch: Watch::new("a look at the data directory", origin),
            trouble: Mutex::default(),
            metrics,
        });
        core.lag.add(claims);
        for sealed in generations.iter().filter(|generation| generation.is_sealed()) {
            // Left by a process that ended between sealing and removing it.
            core.indexes.remove(&sealed.dir.join(checkpoint::INDEX))?;
        }
        let open: Vec<_> = generations.into_iter().filter(|generation| !generation.is_sealed()).collect();
        let index = open_trusted_index(&core, clean, &open)?;

        let (committed_tx, committed_rx) = mpsc::channel::<Committed>();
        for committed in committed {
            // The receiver lives in this function.
            let _ = committed_tx.send(committed);
        }
        let (sender, groups) = sync_channel(GROUPS_MAX);
        let writer = Writer::new(Arc::clone(&core), groups, committed_tx, chain, live)?;
        let (journal, committing) = Journal::new(sender, writer);
        let checkpoint = Checkpoint::new(Arc::clone(&core), committed_rx, open, index);
        let mut workers = Vec::new();
        for (number, tables) in tables.into_iter().enumerate() {
            let worker = Worker::new(Arc::clone(&core), number, journal.clone(), tables);
            workers.push(spawn(&core, &format!("worker-{number}"), move || worker.run())?);
        }
        let preparing = Arc::clone(&core);
        let prepare = move || {
            if let Err(e) = preparing.space.run() {
                preparing.failure.set(&e);
            }
        };
        let (reading, holding) = (Arc::clone(&core), Arc::clone(&core));
        let threads = Threads {
            workers,
            filters: spawn(&core, "filters", move || keeper::run(&reading))?,
            journal: spawn(&core, "journal", committing)?,
            checkpoint: spawn(&core, "checkpoint", move || checkpoint.run())?,
            space: spawn(&core, "space", prepare)?,
            hold: spawn(&core, "hold", move || hold::run(&holding))?,
        };
        Ok(Self {
            core,
            journal: Mutex::new(Some(journal)),
            threads: Mutex::new(Some(threads)),
            page_turns: Turns::new(PAGES_READ_MAX),
            scan_turns: Turns::new(SCANS_READ_MAX),
            scans: Scans::default(),
        })
    }

    /// Stops cleanly: what is queued is decided and committed, the index brought up to date, and the next start told
    /// that it may trust both. Must not be called from within an async task.
    ///
    /// # Errors
    /// `Unsure` if the store had failed; `NoSpace`, `Io` if the end could not be recorded (what was answered is safe).
    pub fn close(&self) -> Result<()> {
        let Some((chain, index)) = self.join() else { return Ok(()) };
        let (Some(chain), None) = (chain, self.core.failure.get()) else {
            return Err(self.core.failure.unsure());
        };
        let covered = index.flatten().and_then(|LiveIndex { index, covered }| {
            let live = self.core.generations().last().map(|live| live.closed())?;
            let is_doubtful = self.core.generations().last().is_some_and(|live| live.is_doubtful());
            let is_whole = covered.claims == live.events && covered.sum == live.claims_sum;
            if let Some(live) = self.core.generations().last() {
                live.set_index(None);
            }
            drop(index);
            (is_whole && !is_doubtful).then(|| covered.into())
        });
        let dir =
            self.core.generations().last().map(|live| live.dir.join(checkpoint::INDEX)).unwrap_or_default();
        if covered.is_some() {
            self.core.indexes.sync(&dir)?;
        }
        let clean = Clean { end: chain.at, last_frame: chain.sequence - 1, covered };
        self.core.update_manifest(|manifest| manifest.clean = Some(clean))
    }

    /// Waits until the store fails: it then answers nothing more, and only a restart helps. An fdatasync or a sled call
    /// that hangs is such a failure.
    pub async fn failed(&self) -> Error {
        let mut looked = self.core.clock.monotonic();
        loop {
            let wait = self.core.failure.wait();
            if sync::timeout(WATCH, wait).await.is_some() {
                return self.core.failure.unsure();
            }
            let now = self.core.clock.monotonic();
            let since = now.saturating_duration_since(looked);
            if since > STOOD_STILL {
                self.watches().into_iter().for_each(|watch| watch.forgive(since));
            }
            looked = now;
            if let Err(e) = self.check_watches() {
                self.core.failure.set(&e);
            }
        }
    }

    /// An error if a call into the operating system hangs.
    fn check_watches(&self) -> Result<()> {
        let now = self.core.clock.monotonic();
        self.watches().into_iter().try_for_each(|watch| watch.check(now))
    }

    fn watches(&self) -> [&Watch; 4] {
        let core = &self.core;
        [&core.journal_watch, &core.index_watch, &core.hold_watch, &core.space.watch]
    }

    /// Ends all threads, in the order in which they feed each other; `None` if that was done before.
    fn join(&self) -> Option<(Option<Chain>, Option<Option<LiveIndex>>)> {
        let threads = self.threads.lock().take()?;
        self.core.queues.iter().for_each(Queue::close);
        self.scans.stop();
        for worker in threads.workers {
            let _ = worker.join();
        }
        self.journal.lock().take();
        sync::unpark(threads.journal.thread());
        let chain = threads.journal.join().ok().flatten();
        self.core.space.stop();
        let index = threads.checkpoint.join().ok().flatten();
        let _ = threads.space.join();
        for thread in [threads.filters, threads.hold] {
            sync::unpark(thread.thread());
            let _ = thread.join();
        }
        Some((chain, index))
    }

    /// Places in the queues of `workers`, all or none, in order so that no two requests wait for each other.
    async fn places(
        &self,
        workers: impl Iterator<Item = usize>,
    ) -> Result<SmallVec<[OwnedSemaphorePermit; 1]>> {
        let mut places = SmallVec::new();
        for worker in workers {
            let queue = &self.core.queues[worker].places;
            let place = match Arc::clone(queue).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    let deadline = Duration::from_secs(ADMISSION_SECONDS);
                    // Boxed: it is seldom waited for, and all requests' futures would have its size.
                    match Box::pin(sync::timeout(deadline, Arc::clone(queue).acquire_owned())).await {
                        Some(Ok(place)) => place,
                        _ => {
                            return Err(Error::new(
                                ErrorKind::Overloaded,
                                "too many requests wait; retry later",
                            ));
                        }
                    }
                }
            };
            places.push(place);
        }
        Ok(places)
    }

    /// Waits for an answer, or for the failure of the store.
    async fn answer<T>(&self, reply: oneshot::Receiver<Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = reply => answer.unwrap_or_else(|_| Err(self.core.failure.unsure())),
            () = self.core.failure.wait() => Err(self.core.failure.unsure()),
        }
    }

    /// Makes counts durable that wait or are on their way, so that what is shown is never taken back.
    async fn flush(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let journal = self.journal.lock().clone().ok_or_else(stopping)?;
        match sync::blocking(move || journal.flush(done)).await {
            Some(true) => self.answer(answer).await,
            _ => Err(self.core.failure.unsure()),
        }
    }

    /// Runs what reads the disk where it may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = Arc::clone(&self.core);
        sync::blocking(move || read(&core)).await.unwrap_or_else(|| Err(stopping()))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // A thread that hangs in the operating system is not waited for: the process is about to end.
        if self.check_watches().is_ok() {
            self.join();
        }
    }
}

impl EventStore for Local {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        if self.core.failure.get().is_some() {
            return Err(self.core.failure.unsure());
        }
        let parts = split(&self.core, &batch);
        let places = self.places(parts.iter().map(|part| part.worker)).await?;
        let (mut replies, mut wakes) = (SmallVec::<[_; 1]>::new(), SmallVec::<[_; 1]>::new());
        let is_whole = parts.len() == 1;
        for (Part { worker, items, bytes }, place) in parts.into_iter().zip(places) {
            let (reply, answer) = oneshot::channel();
            // A whole batch is answered in its own order.
            let indexes = if is_whole { Vec::new() } else { items.iter().map(|item| item.index).collect() };
            replies.push((indexes, answer));
            let job = Job::Append { place, batch: Arc::clone(&batch), items, bytes, reply };
            match self.core.queues[worker].push(job, bytes, &self.core.pace) {
                Ok(wake) => wakes.extend(wake),
                Err(Closed) => return Err(if replies.len() > 1 { in_part(stopping()) } else { stopping() }),
            }
        }
        if !wakes.is_empty() {
            // What they send joins the group. If this is given up meanwhile, the worker is woken all the same.
            sync::yield_task().await;
            drop(wakes);
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
            (Some(e), _) => Err(in_part(e)),
            (None, None) => Err(self.core.failure.unsure()),
        }
    }

    fn count_rejected(&self, events: u64) {
        self.core.topics.count_rejected(events);
    }

    async fn find(&self, topic: &str, event_id: &str) -> Result<Option<StoredEvent>> {
        let Some(known) = self.core.topics.get(topic) else { return Ok(None) };
        let hash = self.core.secret.event(topic.as_bytes(), event_id.as_bytes());
        let key = ([topic.as_bytes(), b"\0", event_id.as_bytes()].concat(), topic.len() + 1);
        let (reply, answer) = oneshot::channel();
        let queue = &self.core.queues[route(known.hash, self.core.queues.len())];
        if !queue.push_urgent(Job::Find { key, hash, reply }, &self.core.pace) {
            return Err(stopping());
        }
        match self.answer(answer).await? {
            Some(offset) => self.blocking(move |core| read::event(core, &known, offset)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read(&self, query: Query) -> Result<Page> {
        let turns = if query.is_scan { &self.scan_turns } else { &self.page_turns };
        let turn = turns.wait(query.reader).await;
        let is_scan = query.is_scan;
        if is_scan {
            // It may have waited for long: whoever has gone meanwhile is noticed before anything is read for it.
            sync::yield_task().await;
        }
        // The place is given back when the read is done, whether anybody waits for it or not.
        let read = move |core: &Core| {
            let page = read::page(core, &query);
            drop(turn);
            page
        };
        if is_scan {
            return self.scans.run(&self.core, read).await?.unwrap_or_else(|| Err(stopping()));
        }
        self.blocking(read).await
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        Ok(read::end(&self.core, topic))
    }

    async fn topics(&self, cursor: Option<&str>, limit: usize) -> Result<TopicPage> {
        let after = cursor.map(|cursor| read_topic_cursor(&self.core, cursor)).transpose()?;
        let mut topics = self.core.topics.holders(after.as_deref(), limit.saturating_add(1));
        let has_more = topics.len() > limit;
        topics.truncate(limit);
        let next_cursor =
            topics.last().filter(|_| has_more).map(|topic| write_topic_cursor(&self.core, &topic.name));
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
        Ok(Stats { totals: self.core.topics.totals(), topics: self.core.topics.holding() })
    }

    fn topic_count(&self) -> TopicCount {
        TopicCount { made: self.core.topics.made(), max: self.core.topics.max() }
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        let is_known =
            |topic| std::str::from_utf8(topic).is_ok_and(|topic| self.core.topics.get(topic).is_some());
        Ok(topics.iter().filter(|topic| !is_known(topic)).count())
    }

    fn health(&self) -> Health {
        if let Some(why) = self.core.failure.get() {
            return Health::NotReady(format!("the store failed: {why}; restart it to recover"));
        }
        match self.core.space.full().or_else(|| self.core.trouble()) {
            Some(why) => Health::NotReady(why),
            None => Health::Ready,
        }
    }

    async fn observe(&self) {
        figures::observe(&self.core, self.health() == Health::Ready);
    }

    async fn failed(&self) -> Error {
        self.failed().await
    }

    fn close(&self) -> Result<()> {
        self.close()
    }
}

/// The index that a clean stop left, if all of it is there. What is not trusted is removed when the checkpoint needs
/// the place.
fn open_trusted_index(
    core: &Core,
    clean: Option<Clean>,
    open: &[Arc<generation::Generation>],
) -> Result<Option<LiveIndex>> {
    let (Some(Clean { covered: Some(clean), .. }), Some(live)) = (clean, open.last()) else {
        return Ok(None);
    };
    let dir = live.dir.join(checkpoint::INDEX);
    let opened = core.index_watch.during(core.clock.monotonic(), || {
        let index = core.indexes.open(&dir)?;
        let covered = index.covered()?;
        Ok::<_, Error>((index, covered))
    });
    let figures = live.closed();
    let expected = Covered {
        version: VERSION,
        nonce: live.nonce,
        through: clean.through,
        claims: figures.events,
        sum: figures.claims_sum,
    };
    match opened {
        Ok((index, Some(covered))) if covered == expected => {
            let index: Arc<dyn index::Index> = Arc::from(index);
            live.set_index(Some(Arc::clone(&index)));
            Ok(Some(LiveIndex { index, covered }))
        }
        Ok(_) => Ok(doubt(live, "it does not hold what MANIFEST says")),
        Err(e) => Ok(doubt(live, &e.to_string())),
    }
}

/// The index can't be trusted although its claims have not been read into RAM: it is made anew from the journal, and
/// until then what needs it is answered "rebuilding".
fn doubt(live: &generation::Generation, why: &str) -> Option<LiveIndex> {
    tracing::warn!(generation = live.id, why, "the index is made anew from the journal");
    live.begin_rebuild();
    None
}

fn take_lock(options: &Options, disk: &dyn Disk) -> Result<Hold> {
    let dir = &options.data_dir;
    let manifest = dir.join(manifest::MANIFEST);
    let has_manifest = || {
        Ok::<_, Error>(
            !is_absent(disk, &manifest).during("look for", &manifest)?
                || manifest::leftover::newest(disk, dir)?.is_some(),
        )
    };
    if options.must_exist && !has_manifest()? {
        let message = format!(
            "{} holds no store: mount the right volume, or start without --must-exist to create one",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Unusable, message));
    }
    Hold::take(disk, dir)
}

/// A thread whose panic poisons the store, and kills nothing else.
fn spawn<T: Send + 'static>(
    core: &Arc<Core>,
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<Handle<T>> {
    let core = Arc::clone(core);
    let named = name.to_owned();
    let guarded = move || match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(_) => {
            let message = format!("the {named} thread panicked: this is a bug, please report it");
            core.failure.set(&Error::new(ErrorKind::Io, message));
            core.space.stop();
            None
        }
    };
    Builder::new().name(name.to_owned()).spawn(guarded).map_err(|e| {
        let message = format!("cannot start a thread: {e}");
        Error::new(ErrorKind::Io, message)
    })
}

/// The answer to a batch of which another part was or may be decided.
fn in_part(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Overloaded | ErrorKind::Stopping => {
            let message = format!("part of the batch may be stored, sending all of it again is safe: {e}");
            Error::new(ErrorKind::Unsure, message)
        }
        _ => e,
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::Stopping, "the service is stopping; send the request again later")
}

/// Half of the store's id and the last topic given, in hexadecimal.
fn write_topic_cursor(core: &Core, name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = name.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let name: String = digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect();
    format!("{:016x}{name}", page::store_half(core))
}

fn read_topic_cursor(core: &Core, text: &str) -> Result<String> {
    let digits = text.get(16..).unwrap_or_default();
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| !name.is_empty() && write_topic_cursor(core, name) == text).ok_or_else(|| {
        let message = "the cursor is not one that /topics of this store gave; start again without a cursor";
        Error::new(ErrorKind::BadCursor, message)
    })
}

#[cfg(test)]
mod tests;
