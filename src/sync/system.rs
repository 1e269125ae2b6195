//! The operating system's.

pub(super) use std::sync::{Condvar, Mutex, RwLock};
pub use std::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, atomic, mpsc};
pub use std::thread::{Builder, JoinHandle, Thread, current, park_timeout, sleep, yield_now};

use std::future::Future;
use std::io;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time that never goes back.
#[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A number that nobody can guess.
///
/// # Errors
/// What the operating system says.
pub fn random_u64() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// Lets a thread go on that waits in [`park_timeout`], or will.
pub fn unpark(thread: &Thread) {
    thread.unpark();
}

/// Waits for a message, no longer than `time`.
///
/// # Errors
/// If there is none by then, or no sender any more.
pub fn recv_timeout<T>(messages: &Receiver<T>, time: Duration) -> Result<T, RecvTimeoutError> {
    messages.recv_timeout(time)
}

/// Waits for a change of what `guard`, of `mutex`, guards, no longer than `time`, while
/// `is_waiting` says so; whether it still does.
pub(super) fn wait_while<'a, T>(
    changed: &Condvar,
    _mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    time: Duration,
    is_waiting: impl FnMut(&mut T) -> bool,
) -> (MutexGuard<'a, T>, bool) {
    let waited = changed.wait_timeout_while(guard, time, is_waiting);
    let (guard, end) = waited.unwrap_or_else(PoisonError::into_inner);
    (guard, end.timed_out())
}

/// Runs `work` in a thread of its own, and `meanwhile` again and again in this one until that is
/// done; a panic goes on in this one.
///
/// # Errors
/// If no thread can be started.
pub fn in_own_thread<T: Send>(
    name: &str,
    work: impl FnOnce() -> T + Send,
    mut meanwhile: impl FnMut(),
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let working = Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
        while !working.is_finished() {
            meanwhile();
        }
        Ok(working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs what may block, in a thread that may wait; `None` if it panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Lets other tasks that are ready go first.
pub async fn yield_task() {
    tokio::task::yield_now().await;
}

/// Waits for a task, no longer than `time`; `None` if it is not done by then.
pub async fn timeout<T>(time: Duration, task: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, task).await.ok()
}

/// Lets other threads of the process go first, by so much of niceness. It is for good: only root
/// could take it back. `SCHED_IDLE` needs a crate, and would keep consumers from reading beside any
/// busy program.
pub fn give_way(niceness: i32) {
    // On Linux it is the thread's, elsewhere the process's. A system that refuses it is only less
    // smooth.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(niceness);
}
