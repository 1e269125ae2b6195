//! Whether a store lives: calls that do not come back, the first failure, and claims that wait for
//! the checkpoint.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};
use crate::limits::ADMISSION_SECONDS;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// An fdatasync or a sled call that takes longer has failed.
const STALL: Duration = Duration::from_secs(30);

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

    /// Waits until no more than `max` claims wait; false if that takes longer than a request may
    /// wait.
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

/// The watches over calls that all parts of the store make.
#[derive(Debug)]
pub(crate) struct Watches {
    pub(crate) journal: Watch,
    pub(crate) index: Watch,
    pub(crate) hold: Watch,
}

impl Watches {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            journal: Watch::new("a write to the journal", origin),
            index: Watch::new("a write to the index", origin),
            hold: Watch::new("a look at the data directory", origin),
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
