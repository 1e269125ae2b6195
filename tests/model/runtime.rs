//! Where the model's tasks run: in threads of the machine, or in those of a simulation.

use std::future::Future;
#[cfg(not(feature = "simulation"))]
use std::sync::LazyLock;
#[cfg(not(feature = "simulation"))]
use std::time::Duration;

use super::expected::Verdict;
use super::flaw::Flaw;
use super::history::History;
use super::play::{Played, play};

/// What takes longer hangs.
#[cfg(not(feature = "simulation"))]
const DEADLINE: Duration = Duration::from_secs(60);

/// Never dropped: a hang fails its test, and does not keep the runtime's end waiting.
#[cfg(not(feature = "simulation"))]
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Waits for it, not longer than the deadline.
#[cfg(not(feature = "simulation"))]
pub fn wait<T>(what: &str, task: impl Future<Output = T>) -> Verdict<T> {
    let in_time = RUNTIME.block_on(async { tokio::time::timeout(DEADLINE, task).await });
    in_time.map_err(|_| format!("{what} hangs"))
}

/// Runs what blocks a thread, not longer than the deadline.
#[cfg(not(feature = "simulation"))]
pub fn blocking<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> Verdict<T> {
    wait(what, RUNTIME.spawn_blocking(call))?.map_err(|e| format!("{what} panicked: {e}"))
}

/// A request that runs beside others.
#[cfg(not(feature = "simulation"))]
pub type Running<T> = tokio::task::JoinHandle<T>;

/// A task that runs while others do.
#[cfg(not(feature = "simulation"))]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Running<T> {
    RUNTIME.spawn(task)
}

/// Drops a store that may hang, so that it does not keep its test.
#[cfg(not(feature = "simulation"))]
pub fn discard<T: Send + 'static>(store: T) {
    RUNTIME.spawn_blocking(move || drop(store));
}

/// Waits for it. The scheduler sees what hangs.
#[cfg(feature = "simulation")]
pub fn wait<T>(_what: &str, task: impl Future<Output = T>) -> Verdict<T> {
    Ok(shuttle::future::block_on(task))
}

/// Runs what blocks a thread.
#[cfg(feature = "simulation")]
pub fn blocking<T: Send + 'static>(_what: &str, call: impl FnOnce() -> T + Send + 'static) -> Verdict<T> {
    Ok(call())
}

/// A request that runs beside others.
#[cfg(feature = "simulation")]
pub type Running<T> = shuttle::future::JoinHandle<T>;

/// A task that runs while others do.
#[cfg(feature = "simulation")]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Running<T> {
    shuttle::future::spawn(task)
}

/// Drops a store.
#[cfg(feature = "simulation")]
pub fn discard<T>(store: T) {
    drop(store);
}

/// Lets others get on.
pub async fn pause() {
    sekali::sync::timeout(std::time::Duration::from_millis(1), std::future::pending::<()>()).await;
}

/// Plays a history.
#[cfg(not(feature = "simulation"))]
pub fn run(history: &History, flaw: Flaw) -> Verdict<Played> {
    play(history, flaw)
}

/// Plays a history, exactly the same each time.
#[cfg(feature = "simulation")]
pub fn run(history: &History, flaw: Flaw) -> Verdict<Played> {
    let history = history.clone();
    simulate(history.seed, move || play(&history, flaw))
}

/// Runs it; the threads are the machine's.
#[cfg(not(feature = "simulation"))]
pub fn simulate<T>(_seed: u64, work: impl Fn() -> Verdict<T>) -> Verdict<T> {
    work()
}

/// Runs it in a simulation, where a panic is a verdict too.
#[cfg(feature = "simulation")]
pub fn simulate<T: Send + 'static>(
    seed: u64,
    work: impl Fn() -> Verdict<T> + Send + Sync + std::panic::UnwindSafe + 'static,
) -> Verdict<T> {
    let simulated = std::panic::catch_unwind(|| sekali::sync::simulate(seed, work).ok_or("it does not end"));
    simulated.map_err(|panic| match panic.downcast::<String>() {
        Ok(why) => *why,
        Err(_) => "a panic".to_owned(),
    })??
}
