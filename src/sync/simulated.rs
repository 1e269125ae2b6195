//! A scheduler's: [shuttle](https://docs.rs/shuttle) chooses which thread goes on wherever one
//! could wait, from a seed.
//!
//! Time goes on while a thread waits for it, and faster the longer nothing else happens: so
//! deadlines pass at any moment that a real machine could choose, and a run of minutes takes none.

pub(super) use shuttle::sync::{Condvar, Mutex, RwLock};
pub use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, atomic, mpsc};
pub use shuttle::thread::{Builder, JoinHandle, Thread, current};

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use shuttle::scheduler::RandomScheduler;
use shuttle::thread::ThreadId;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// What a simulation takes at most, in steps from one decision to the next: it hangs.
const STEPS_MAX: usize = 20_000_000;
const STACK_BYTES: usize = 1 << 20;
/// How far time goes each time that a waiting thread has its turn.
const TICK: Duration = Duration::from_micros(20);
/// It goes twice as fast after so many turns in which nothing else happened.
const PATIENCE: u32 = 1_000;

struct World {
    rng: fastrand::Rng,
    now: Duration,
    /// Turns of waiting threads since something happened.
    idle: u32,
    /// Threads that need not wait next time.
    unparked: HashSet<ThreadId>,
}

std::thread_local! {
    /// All threads of a simulation are run by one of the operating system's.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| {
        look(world.get_or_insert_with(|| World {
            rng: fastrand::Rng::with_seed(0),
            now: Duration::ZERO,
            idle: 0,
            unparked: HashSet::new(),
        }))
    })
}

/// Runs `work` and all threads that it starts as the seed says.
///
/// # Panics
/// As a thread does, if all wait for each other, or if they never end.
pub fn simulate<T: Send + 'static>(seed: u64, work: impl Fn() -> T + Send + Sync + 'static) -> Option<T> {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // All atomics are sequentially consistent here: weaker orders are for the tests on real
    // threads.
    config.silence_warnings = true;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    WORLD.set(None);
    world(|world| world.rng.seed(seed));
    let done = Arc::new(std::sync::Mutex::new(None));
    let result = Arc::clone(&done);
    Runner::new(RandomScheduler::new_from_seed(seed, 1), config)
        .run(move || *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(work()));
    WORLD.set(None);
    result.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A thread that waits for time has its turn, and lets another have it.
fn tick() {
    world(|world| {
        world.now += TICK * (1 << (world.idle / PATIENCE).min(16));
        world.idle += 1;
    });
    shuttle::thread::yield_now();
}

/// Something happened, and others may go on.
pub fn yield_now() {
    world(|world| world.idle = 0);
    shuttle::thread::yield_now();
}

/// Has the thread tick until `done` gives something or the time is over.
fn tick_until<T>(time: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = world(|world| world.now).saturating_add(time);
    loop {
        if let Some(found) = done() {
            world(|world| world.idle = 0);
            return Some(found);
        }
        if world(|world| world.now) >= end {
            return None;
        }
        tick();
    }
}

/// Time that never goes back.
#[allow(clippy::disallowed_methods, reason = "only differences are told")]
pub fn monotonic() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now) + world(|world| world.now)
}

/// The seed's next number.
///
/// # Errors
/// None.
pub fn random_u64() -> io::Result<u64> {
    Ok(world(|world| world.rng.u64(..)))
}

/// Waits for so long.
pub fn sleep(time: Duration) {
    tick_until(time, || None::<()>);
}

/// Waits to be told to go on, no longer than `time`.
pub fn park_timeout(time: Duration) {
    let own = current().id();
    tick_until(time, || world(|world| world.unparked.remove(&own)).then_some(()));
}

/// Lets a thread go on that waits in [`park_timeout`], or will.
pub fn unpark(thread: &Thread) {
    world(|world| world.unparked.insert(thread.id()));
    yield_now();
}

/// Waits for a message, no longer than `time`.
///
/// # Errors
/// If there is none by then, or no sender any more.
pub fn recv_timeout<T>(messages: &Receiver<T>, time: Duration) -> Result<T, RecvTimeoutError> {
    let received = tick_until(time, || match messages.try_recv() {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvTimeoutError::Disconnected)),
        Err(TryRecvError::Empty) => None,
    });
    received.unwrap_or(Err(RecvTimeoutError::Timeout))
}

/// Waits for a change of what `guard`, of `mutex`, guards, no longer than `time`, while
/// `is_waiting` says so; whether it still does.
pub(super) fn wait_while<'a, T>(
    _changed: &Condvar,
    mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    time: Duration,
    mut is_waiting: impl FnMut(&mut T) -> bool,
) -> (MutexGuard<'a, T>, bool) {
    drop(guard);
    let look = || mutex.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = tick_until(time, || {
        let mut guard = look();
        (!is_waiting(&mut guard)).then_some(guard)
    });
    let is_over = ended.is_none();
    (ended.unwrap_or_else(look), is_over)
}

/// Runs `work` in a thread of its own, and `meanwhile` again and again in this one until that is
/// done; a panic goes on in this one.
///
/// # Errors
/// None.
pub fn in_own_thread<T: Send>(
    _name: &str,
    work: impl FnOnce() -> T + Send,
    mut meanwhile: impl FnMut(),
) -> io::Result<T> {
    let joined = shuttle::thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            meanwhile();
        }
        working.join()
    });
    Ok(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs what may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    yield_now();
    Some(work())
}

/// Lets other tasks go first.
pub async fn yield_task() {
    world(|world| world.idle = 0);
    shuttle::future::yield_now().await;
}

/// Waits for a task, no longer than `time`; `None` if it is not done by then.
pub async fn timeout<T>(time: Duration, task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    let end = world(|world| world.now).saturating_add(time);
    std::future::poll_fn(move |context| {
        if let Poll::Ready(done) = task.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if world(|world| world.now) >= end {
            return Poll::Ready(None);
        }
        tick();
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Nothing: the scheduler favours none.
pub fn give_way(_niceness: i32) {}
