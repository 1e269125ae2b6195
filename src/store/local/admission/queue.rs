//! The queue of one worker, which wakes it no more often than is of use.
//!
//! While the journal commits, small requests only gather: deciding them earlier would answer none
//! earlier but known ones, and each wake-up costs more than deciding an event. What has gathered is
//! decided at once when the commit is done. Enough bytes for a worthwhile group are decided while
//! the commit runs.
//!
//! A worker that sleeps is woken by the request that comes first, but after the tasks that are
//! ready to run then: what they send joins the group, and its fdatasync. A request that was alone
//! in the last group holds nothing up: it wakes at once.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::job::Job;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};

/// Requests that may wait for one worker.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 4_096;
/// So many bytes are worth a group of their own.
pub(crate) const GROUP_WORTH_BYTES: usize = 32 << 10;

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: u64,
    /// Jobs that were taken together the last time.
    taken: usize,
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
    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// Adds a job of so many bytes. If other tasks may go first, what wakes the worker when it is
    /// dropped.
    pub(crate) fn push<'a>(
        &'a self,
        job: Job,
        bytes: u64,
        pace: &'a Pace,
    ) -> Result<Option<Wake<'a>>, Closed> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Closed);
        }
        let is_first = state.jobs.is_empty();
        state.jobs.push_back(job);
        state.bytes += bytes;
        if state.is_waiting && state.taken > 1 && state.bytes < GROUP_WORTH_BYTES as u64 {
            // Not `then_some`: one that is made and dropped here would wait for the lock.
            return Ok(is_first.then(|| Wake { queue: self, pace }));
        }
        self.wake(&mut state, pace);
        Ok(None)
    }

    /// Adds a job that waits for no commit and for no other task; false if the worker has gone.
    pub(crate) fn push_urgent(&self, job: Job, pace: &Pace) -> bool {
        self.push(job, GROUP_WORTH_BYTES as u64, pace).is_ok()
    }

    fn wake(&self, state: &mut State, pace: &Pace) {
        if state.is_waiting && state.is_due(pace) {
            state.is_waiting = false;
            self.filled.notify_one();
        }
    }

    /// All that has gathered, once it is worth deciding; `None` at the end.
    pub(crate) fn take(&self, pace: &Pace) -> Option<VecDeque<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.is_due(pace) {
                state.bytes = 0;
                state.taken = state.jobs.len();
                return Some(std::mem::take(&mut state.jobs)).filter(|jobs| !jobs.is_empty());
            }
            state.is_waiting = true;
            state = self.filled.wait(state);
        }
    }

    /// Whether the end has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// The end: what is queued is still decided, nothing more is taken.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.is_waiting = false;
        self.filled.notify_one();
    }
}

/// The worker has gone.
#[derive(Debug)]
pub(crate) struct Closed;

/// Wakes a worker when it is dropped.
#[derive(Debug)]
#[must_use = "nothing else wakes the worker"]
pub(crate) struct Wake<'a> {
    queue: &'a Queue,
    pace: &'a Pace,
}

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.queue.wake(&mut self.queue.state.lock(), self.pace);
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
            queue.wake(&mut queue.state.lock(), self.pace);
        }
    }
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use super::*;

    type Step = fn(&Queue, &Pace);

    /// How many jobs one worker takes, take by take, while `steps` are played; each begins once it
    /// sleeps.
    fn takes(steps: &[Step]) -> Vec<usize> {
        let (queue, pace) = (Queue::default(), Pace::default());
        let take = || queue.take(&pace).map(|jobs| jobs.len());
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| std::iter::from_fn(take).collect());
            // A step that fails ends the worker, too.
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for step in steps {
                    while !queue.state.lock().is_waiting {
                        std::thread::yield_now();
                    }
                    step(&queue, &pace);
                }
            }));
            queue.close();
            played.and(worker.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Two requests that are taken together.
    fn two(queue: &Queue, pace: &Pace) {
        let mut state = queue.state.lock();
        state.jobs.extend([Job::Forget, Job::Forget]);
        queue.wake(&mut state, pace);
    }

    fn alone(queue: &Queue, pace: &Pace) {
        assert!(matches!(queue.push(Job::Forget, 1, pace), Ok(None)));
    }

    #[test]
    fn behind_a_group_a_worker_sleeps_until_the_first_request_wakes_it() {
        let gather = |queue: &Queue, pace: &Pace| {
            let first = queue.push(Job::Forget, 1, pace).unwrap();
            assert!(first.is_some(), "others may go first");
            for _ in 0..4 {
                assert!(queue.push(Job::Forget, 1, pace).unwrap().is_none(), "one wakes for all");
            }
            assert!(queue.state.lock().is_waiting, "nobody has woken it");
            drop(first);
        };
        assert_eq!(takes(&[two, gather, two]), [2, 5, 2]);
    }

    #[test]
    fn who_was_alone_and_what_is_large_or_urgent_wakes_at_once() {
        let large = |queue: &Queue, pace: &Pace| {
            let first = queue.push(Job::Forget, 1, pace).unwrap();
            assert!(first.is_some());
            assert!(queue.push(Job::Forget, GROUP_WORTH_BYTES as u64, pace).unwrap().is_none());
            while queue.len() > 0 {
                std::thread::yield_now();
            }
            drop(first);
        };
        let urgent = |queue: &Queue, pace: &Pace| assert!(queue.push_urgent(Job::Forget, pace));
        assert_eq!(takes(&[alone, alone, two, large, urgent, alone, alone]), [1, 1, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn while_the_journal_commits_only_its_end_wakes() {
        let commit = |queue: &Queue, pace: &Pace| {
            let committing = pace.commit(std::slice::from_ref(queue));
            drop(queue.push(Job::Forget, 1, pace).unwrap());
            assert!(queue.state.lock().is_waiting);
            drop(committing);
        };
        assert_eq!(takes(&[commit, two, commit, alone]), [1, 2, 1, 1]);
    }
}
