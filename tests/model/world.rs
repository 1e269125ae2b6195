//! A machine with a store on it: starts, stops and accidents. After every start the whole store is
//! read and held against the model.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fastrand::Rng;
use sekali::clock::{Clock, ManualClock, Timestamp};
use sekali::disk::Disk;
use sekali::error::{Error, ErrorKind};
use sekali::store::local::index::MemoryIndexes;
use sekali::store::local::{Local, Options, Seams};
use sekali::store::{EventStore, Order, Outcome, Query, StoredEvent};

use super::expected::{Expected, Sent, Verdict};
use super::flaw::{Flaw, FlawedDisk, FlawedIndexes};
use super::reading::Kept;
use super::runtime::{Running, blocking, discard, pause, spawn, wait};
use super::traffic::packed;
use crate::support::mem_disk::MemDisk;
use crate::support::now;

/// What takes longer hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The machine and what must be on it.
pub struct World {
    pub flaw: Flaw,
    pub disk: MemDisk,
    flawed: FlawedDisk,
    indexes: MemoryIndexes,
    pub lies: Arc<AtomicU64>,
    pub clock: Arc<ManualClock>,
    options: Options,
    store: Option<Arc<Local>>,
    /// The store is being closed beside requests.
    pub is_closing: bool,
    pub expected: Expected,
    pub kept: Vec<Kept>,
}

impl World {
    /// A machine with a new store.
    pub fn new(flaw: Flaw, seed: u64) -> Verdict<Self> {
        let mut world = Self::stopped(flaw, 100);
        world.start(&mut Rng::with_seed(seed))?;
        Ok(world)
    }

    /// A machine on which the store has not been started.
    pub fn stopped(flaw: Flaw, generation_events: u64) -> Self {
        let disk = MemDisk::new();
        Self {
            flaw,
            flawed: FlawedDisk::new(flaw, disk.clone()),
            disk,
            indexes: MemoryIndexes::default(),
            lies: Arc::default(),
            clock: Arc::new(ManualClock::new(Timestamp(1_795_000_000_000_000))),
            options: Options {
                data_dir: PathBuf::from("/data"),
                must_exist: false,
                workers: 1,
                generation_events,
                generation_bytes: 64 << 10,
                topics_max: 100,
            },
            store: None,
            is_closing: false,
            expected: Expected::default(),
            kept: Vec::new(),
        }
    }

    pub fn seams(&self) -> Seams {
        let indexes =
            FlawedIndexes { flaw: self.flaw, indexes: self.indexes.clone(), lies: Arc::clone(&self.lies) };
        Seams {
            disk: Arc::new(self.flawed.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            indexes: Arc::new(indexes),
            metrics: sekali::metrics::Metrics::default(),
        }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The store.
    pub fn store(&self) -> Arc<Local> {
        self.store.clone().unwrap_or_else(|| panic!("the history uses a store that is stopped"))
    }

    /// A task that may run while others do.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Running<T> {
        spawn(task)
    }

    /// Opens the store with other settings. Nothing is checked.
    pub fn open(&mut self, rng: &mut Rng) -> Verdict<Result<(), Error>> {
        self.options.workers = rng.usize(1..=4);
        self.options.generation_events = rng.u64(5..=200);
        self.options.generation_bytes = (64 << 10) << rng.u8(..=4);
        self.try_open()
    }

    /// Opens the store. Nothing is checked.
    pub fn try_open(&mut self) -> Verdict<Result<(), Error>> {
        let (options, seams) = (self.options.clone(), self.seams());
        let opened = blocking("open", move || Local::open(&options, seams))?;
        Ok(opened.map(|store| self.store = Some(Arc::new(store))))
    }

    /// Opens the store and checks everything.
    pub fn start(&mut self, rng: &mut Rng) -> Verdict {
        self.open(rng)?.map_err(|e| format!("the store does not open ({:?}): {e}", e.kind()))?;
        self.audit()
    }

    /// Stops cleanly.
    pub fn close(&mut self) -> Verdict {
        self.begin_close()?;
        self.end_close()
    }

    /// Stops cleanly, under requests.
    pub fn begin_close(&mut self) -> Verdict {
        let store = self.store();
        let closed = blocking("close", move || store.close())?;
        closed.map_err(|e| format!("the store does not close: {e}"))
    }

    /// Drops what was stopped, once all requests have ended.
    pub fn end_close(&mut self) -> Verdict {
        self.expected.stopped(true);
        self.drop_store()
    }

    /// Kills the process; what it wrote stays.
    pub fn kill(&mut self) -> Verdict {
        let next = self.unplug(true, 0)?;
        self.replug(next)
    }

    /// Cuts the power.
    pub fn cut(&mut self, rng: &mut Rng) -> Verdict {
        let next = self.unplug(false, rng.u64(..))?;
        self.replug(next)
    }

    /// From now on the store's disk is dead; returns the one that the next start finds.
    pub fn unplug(&self, is_kill: bool, seed: u64) -> Verdict<MemDisk> {
        match is_kill {
            true => Ok(self.disk.kill()),
            false => self.flawed.crash(seed).map_err(|e| format!("the model's disk: {e}")),
        }
    }

    /// Ends what is left of the process.
    pub fn replug(&mut self, next: MemDisk) -> Verdict {
        self.drop_store()?;
        self.disk = next;
        self.flawed = FlawedDisk::new(self.flaw, self.disk.clone());
        self.expected.stopped(false);
        Ok(())
    }

    fn drop_store(&mut self) -> Verdict {
        let store = self.store.take();
        blocking("drop", move || drop(store))
    }

    /// The index loses its last sets, or all, as sled may.
    pub fn lose_index(&self, rng: &mut Rng) {
        let dir = Path::new("/data");
        for name in self.disk.list(dir).unwrap_or_default().iter().filter(|name| name.starts_with("gen-")) {
            self.indexes.lose_suffix(&dir.join(name).join("index"), rng.usize(..4));
        }
    }

    /// Sends a batch, again while an index is rebuilt, and holds the answer against the model.
    pub fn append(&mut self, batch: &[Sent]) -> Verdict<Result<(), ErrorKind>> {
        let deadline = now() + DEADLINE;
        loop {
            self.expected.attempt(batch);
            let (store, packed) = (self.store(), packed(batch)?);
            let answer = wait("append", async move { store.append(packed.into()).await })?;
            match self.answer(batch, answer)? {
                Err(ErrorKind::Rebuilding) if now() < deadline => sekali::sync::yield_now(),
                answer => return Ok(answer),
            }
        }
    }

    /// An answer to a batch that was sent.
    pub fn answer(
        &mut self,
        batch: &[Sent],
        answer: Result<Vec<Outcome>, Error>,
    ) -> Verdict<Result<(), ErrorKind>> {
        match answer {
            Ok(outcomes) => {
                self.expected.answered(batch, &outcomes, self.clock.now())?;
                Ok(Ok(()))
            }
            Err(e) => {
                match e.kind() {
                    // Nothing was decided, so nothing is counted.
                    ErrorKind::Stopping if self.is_closing => {}
                    ErrorKind::Unsure | ErrorKind::NoSpace | ErrorKind::Rebuilding | ErrorKind::Io => {
                        self.expected.unknown(batch);
                    }
                    kind => return Err(format!("an append fails ({kind:?}): {e}")),
                }
                Ok(Err(e.kind()))
            }
        }
    }

    /// The whole store, while nothing is on its way, against the model.
    pub fn audit(&mut self) -> Verdict {
        self.refresh()?;
        let stats = self.stats()?;
        self.expected.stats(&stats, true)?;
        super::reading::both_ways(self)?;
        super::reading::resume_all(self)
    }

    /// Reads the listing while nothing is on its way.
    pub fn refresh(&mut self) -> Verdict {
        let events =
            wait("listing", patiently(|| listing(self.store())))?.map_err(|e| format!("listing: {e}"))?;
        self.expected.whole_listing(events)
    }

    pub fn stats(&self) -> Verdict<sekali::store::Stats> {
        let store = self.store();
        wait("stats", async move { store.stats().await })?.map_err(|e| format!("stats: {e}"))
    }
}

impl Drop for World {
    /// After a failure, a store that hangs must not keep its test.
    fn drop(&mut self) {
        let store = self.store.take();
        discard(store);
    }
}

/// Asks again while an index is rebuilt.
pub async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, Error> {
    loop {
        match ask().await {
            Err(e) if e.kind() == ErrorKind::Rebuilding => pause().await,
            done => return done,
        }
    }
}

/// All events, oldest first.
pub async fn listing(store: Arc<Local>) -> Result<Vec<StoredEvent>, Error> {
    let mut query = Query { limit: 1_000, order: Order::Ascending, ..Query::default() };
    let mut events = Vec::new();
    loop {
        let page = store.read(query.clone()).await?;
        events.extend(page.events);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(events),
        }
    }
}
