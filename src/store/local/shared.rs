//! What all parts of an open store share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind};
use crate::limits::ADMISSION_SECONDS;
use crate::metrics::Metrics;
use crate::store::local::admission::preallocation::Space;
use crate::store::local::admission::queue::{Pace, Queue};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::hold::Hold;
use crate::store::local::format::manifest::{Manifest, ManifestFile};
use crate::store::local::generation::Generation;
use crate::store::local::generation::index::Indexes;
use crate::store::local::generation::topic::Topics;
use crate::store::local::sealed::filter_set::Filters;
use crate::store::local::sealed::open_files::FileCache;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, RwLock};

/// An fdatasync or a sled call that takes longer has failed.
const STALL: Duration = Duration::from_secs(30);

/// Shared by the workers, the journal's writer, the checkpoint and readers.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) data_dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) indexes: Arc<dyn Indexes>,
    pub(crate) files: Arc<FileCache>,
    pub(crate) store_id: [u8; 16],
    pub(crate) secret: Secret,
    pub(crate) generation_events: u64,
    pub(crate) generation_bytes: u64,
    pub(crate) hold: Hold,
    pub(crate) manifest: ManifestFile,
    pub(crate) topics: Topics,
    pub(crate) filters: Filters,
    pub(crate) space: Space,
    /// One for each worker.
    pub(crate) queues: Vec<Queue>,
    pub(crate) pace: Pace,
    /// Oldest first; the last one is live. Replaced as a whole.
    pub(crate) generations: RwLock<Arc<Vec<Arc<Generation>>>>,
    /// Number of the last durable frame.
    pub(crate) durable: AtomicU64,
    /// Events that are durable and in their topics' counts.
    pub(crate) shown: AtomicU64,
    pub(crate) lag: Lag,
    pub(crate) failure: Failure,
    pub(crate) journal_watch: Watch,
    pub(crate) index_watch: Watch,
    pub(crate) hold_watch: Watch,
    /// Why an index that is needed can't be made anew for now.
    pub(crate) trouble: Mutex<Option<String>>,
    pub(crate) metrics: Metrics,
}

impl Core {
    /// The generations as they are now.
    pub(crate) fn generations(&self) -> Arc<Vec<Arc<Generation>>> {
        Arc::clone(&self.generations.read())
    }

    /// The generation with this number.
    pub(crate) fn generation(&self, id: u64) -> Option<Arc<Generation>> {
        let generations = self.generations();
        let at = generations.binary_search_by_key(&id, |generation| generation.id).ok()?;
        generations.get(at).cloned()
    }

    /// Adds a new live generation.
    pub(crate) fn push_generation(&self, generation: Arc<Generation>) {
        let mut generations = self.generations.write();
        let mut next = Vec::clone(&generations);
        next.push(generation);
        *generations = Arc::new(next);
    }

    /// How many generations have been filled, and how much of the live one is.
    pub(crate) fn filled(&self) -> f64 {
        let generations = self.generations();
        let Some(live) = generations.last() else { return 0.0 };
        let events = live.events() as f64 / self.generation_events as f64;
        let bytes = live.end() as f64 / self.generation_bytes as f64;
        live.id as f64 + events.max(bytes)
    }

    /// Which part of the time has elapsed that it takes from `begin` on to fill so many generations: more than all of it once the store stops.
    pub(crate) fn elapsed(&self, begin: f64, generations: f64) -> f64 {
        match self.is_stopping() {
            true => f64::INFINITY,
            false => (self.filled() - begin) / generations,
        }
    }

    /// Whether the store stops, or has failed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.failure.get().is_some() || self.queues.iter().any(Queue::is_closed)
    }

    /// Ends all writing: the store is of no use until a restart.
    pub(crate) fn fail(&self, why: &Error) {
        self.failure.set(why);
        self.space.stop();
    }

    /// Changes MANIFEST, durably. A directory that is not the one that is held any more fails the
    /// store: another process may have it.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), Error> {
        self.hold.check().inspect_err(|e| self.fail(e))?;
        self.manifest.update(&*self.disk, &self.hold, change)
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock() = why;
    }

    /// Most claims that may wait for the checkpoint: two generations.
    pub(crate) fn lag_max(&self) -> u64 {
        2 * self.generation_events.max(1_000)
    }
}

/// Claims that are in RAM only. Over the bound, deciding waits for the checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    claims: Mutex<u64>,
    fell: Condvar,
}

impl Lag {
    pub(crate) fn add(&self, claims: u64) {
        *self.claims.lock() += claims;
    }

    pub(crate) fn sub(&self, claims: u64) {
        let mut lag = self.claims.lock();
        *lag = lag.saturating_sub(claims);
        self.fell.notify_all();
    }

    pub(crate) fn claims(&self) -> u64 {
        *self.claims.lock()
    }

    /// Waits until no more than `max` claims wait; false if that takes longer than a request may wait.
    pub(crate) fn wait_below(&self, max: u64) -> bool {
        let lag = self.claims.lock();
        let deadline = Duration::from_secs(ADMISSION_SECONDS);
        let (lag, is_over) = self.fell.wait_while(&self.claims, lag, deadline, |lag| *lag > max);
        drop(lag);
        !is_over
    }
}

/// The first failure that makes the store useless until a restart.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    why: OnceLock<String>,
    changed: Notify,
}

impl Failure {
    /// Poisons the store. Only the first failure is kept.
    pub(crate) fn set(&self, why: &Error) {
        if self.why.set(why.to_string()).is_ok() {
            tracing::error!(error = %why, "the store failed; restart it to recover");
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn get(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    /// What a request is answered that was under way.
    pub(crate) fn unsure(&self) -> Error {
        let why = self.get().unwrap_or("the store is stopping");
        let message =
            format!("whether the events were stored is unknown ({why}); sending them again is safe");
        Error::new(ErrorKind::Unsure, message)
    }

    /// Waits for a failure.
    pub(crate) async fn wait(&self) {
        // From here on a change is heard, polled or not.
        let changed = self.changed.notified();
        if self.get().is_none() {
            changed.await;
        }
    }
}

/// Sees calls into the operating system that do not come back.
#[derive(Debug)]
pub(crate) struct Watch {
    name: &'static str,
    origin: Instant,
    /// Milliseconds since `origin` plus 1; 0 while no call is under way.
    since: AtomicU64,
}

impl Watch {
    pub(crate) fn new(name: &'static str, origin: Instant) -> Self {
        Self { name, origin, since: AtomicU64::new(0) }
    }

    /// Runs a call under watch.
    pub(crate) fn during<T>(&self, now: Instant, call: impl FnOnce() -> T) -> T {
        self.since.store(self.millis(now) + 1, Ordering::Release);
        let result = call();
        self.since.store(0, Ordering::Release);
        result
    }

    /// Counts a call that is under way as begun so much later: all of the process stood still
    /// meanwhile, so that says nothing of the call.
    pub(crate) fn forgive(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let later = |since: u64| (since != 0).then(|| since.saturating_add(millis));
        // None is under way, then.
        let _ = self.since.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// An error if a call has been under way for too long.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Error> {
        let since = self.since.load(Ordering::Acquire);
        if since == 0 || Duration::from_millis((self.millis(now) + 1).saturating_sub(since)) < STALL {
            return Ok(());
        }
        let message = format!("{} has not come back for {} seconds", self.name, STALL.as_secs());
        Err(Error::new(ErrorKind::Io, message))
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}
