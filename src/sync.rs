//! Threads, what they wait for, and what is random.
//!
//! The operating system's; or, with the feature `simulation`, those of a scheduler that runs one
//! thread at a time and takes every decision from a seed, so that a run can be played again
//! exactly. The store's code uses nothing else to wait, so that nothing decides behind the
//! scheduler's back. Only tests set the feature.

mod lock;
#[cfg(feature = "simulation")]
#[path = "sync/simulated.rs"]
mod threads;
#[cfg(not(feature = "simulation"))]
#[path = "sync/system.rs"]
mod threads;

pub use lock::{Condvar, Mutex, RwLock};
pub use threads::*;
