//! Threads, what they wait for, and what is random.
//!
//! The operating system's; or, with the feature `simulation`, those of a scheduler that runs one thread at a time and takes
//! every decision from a seed, so that a run can be played again exactly. The store's code uses nothing else to wait, so
//! that nothing decides behind the scheduler's back. Only tests set the feature.

#[cfg(feature = "simulation")]
mod simulated;
#[cfg(not(feature = "simulation"))]
mod system;

#[cfg(feature = "simulation")]
pub use simulated::*;
#[cfg(not(feature = "simulation"))]
pub use system::*;
