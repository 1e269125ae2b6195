//! The queue of one worker, which wakes it no more often than is of use.
//!
//! While the journal commits, small requests only gather: deciding them earlier would not answer them earlier, and each
//! wake-up costs more than deciding an event. What has gathered is decided at once when the commit is done. Enough bytes
//! for a worthwhile group are decided while the commit runs.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::Semaphore;

use super::worker::{Job, QUEUE_REQUESTS_MAX};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// So many bytes are worth a group of their own.
pub(crate) const GROUP_WORTH_BYTES: usize = 32 << 10;

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: u64,
    /// Nothing more comes.
    is_closed: bool,
    /// The worker sleeps.
    is_waiting: bool,
}

/// Jobs for one worker.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Places for requests; a job holds one until it is taken.
    pub(crate) places: Arc<Semaphore>,
    state: Mutex<State>,
    filled: Condvar,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(QUEUE_REQUESTS_MAX)),
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Adds a job of so many bytes; false if the worker has gone.
    pub(crate) fn push(&self, job: Job, bytes: u64, pace: &Pace) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        state.jobs.push_back(job);
        state.bytes += bytes;
        self.wake(&mut state, pace);
        true
    }

    /// Adds a job that waits for no commit.
    pub(crate) fn push_urgent(&self, job: Job, pace: &Pace) -> bool {
        self.push(job, GROUP_WORTH_BYTES as u64, pace)
    }

    fn wake(&self, state: &mut State, pace: &Pace) {
        if state.is_waiting && state.is_due(pace) {
            state.is_waiting = false;
            self.filled.notify_one();
        }
    }

    /// All that has gathered, once it is worth deciding; `None` at the end.
    pub(crate) fn take(&self, pace: &Pace) -> Option<VecDeque<Job>> {
        let mut state = self.lock();
        loop {
            if state.is_due(pace) {
                state.bytes = 0;
                return Some(std::mem::take(&mut state.jobs)).filter(|jobs| !jobs.is_empty());
            }
            state.is_waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the end has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// The end: what is queued is still decided, nothing more is taken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.is_waiting = false;
        self.filled.notify_one();
    }
}

impl State {
    fn is_due(&self, pace: &Pace) -> bool {
        let is_worth_it =
            self.bytes >= GROUP_WORTH_BYTES as u64 || !pace.is_committing.load(Ordering::SeqCst);
        self.is_closed || (is_worth_it && !self.jobs.is_empty())
    }
}

/// Whether the journal commits.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_committing: AtomicBool,
}

impl Pace {
    /// A commit has begun; it ends, and workers are woken, when the guard is dropped.
    pub(crate) fn commit<'a>(&'a self, queues: &'a [Queue]) -> Committing<'a> {
        self.is_committing.store(true, Ordering::SeqCst);
        Committing { pace: self, queues }
    }
}

/// A commit under way.
#[derive(Debug)]
pub(crate) struct Committing<'a> {
    pace: &'a Pace,
    queues: &'a [Queue],
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.pace.is_committing.store(false, Ordering::SeqCst);
        for queue in self.queues {
            // Under the lock, so that a job added before it was cleared is seen here.
            queue.wake(&mut queue.lock(), self.pace);
        }
    }
}
