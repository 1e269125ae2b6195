//! What the tests from outside share: a log of what clients were told, the checker that holds the
//! store to it, a server process that can be killed, a load, and a disk that loses what was not
//! synced.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test support: a surprise ends the test"
)]

pub mod authority;
pub mod checker;
pub mod client;
pub mod consuming;
pub mod door;
pub mod frames;
pub mod golden;
pub mod history;
pub mod in_process;
pub mod load;
pub mod mem_disk;
pub mod patroni;
pub mod postgres;
pub mod process;
pub mod reader;
pub mod relay;
pub mod rounds;
pub mod service;
pub mod sink;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sekali::clock::{Clock, SystemClock};

pub use rounds::rounds;

/// Where `make tools` puts programs.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// Prometheus' own checks: the one of `make tools`, or else what the system has.
pub fn promtool() -> PathBuf {
    let own = tools().join("promtool");
    if own.exists() { own } else { "promtool".into() }
}

/// The time of the monotonic clock.
pub fn now() -> Instant {
    SystemClock.monotonic()
}

/// Waits until `ready` gives something; `None` when `seconds` are over.
pub fn until<T>(seconds: u64, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if now() >= deadline {
            return None;
        }
        sekali::sync::park_timeout(Duration::from_millis(2));
    }
}

/// A number from the environment.
///
/// # Panics
/// If the variable is set to something else.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
        Err(_) => default,
    }
}

/// `SEKALI_SEED`, or a new one: printed with every failure, it replays the workload.
pub fn seed() -> u64 {
    number("SEKALI_SEED", fastrand::u64(..1 << 48))
}
