//! Gives freed memory back to the system, in a thread of its own.
//!
//! The allocator gives back what has been free for a second in whichever thread allocates next.
//! That is a worker as a rule, and every request waits meanwhile. This thread comes before it.
#![allow(unsafe_code, reason = "the allocator has no safe way to be told to")]

use std::thread::{self, Builder};
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};

/// Time between two rounds: less than the second after which other threads would give back.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(500);

/// Starts the thread, which ends with the process.
pub(crate) fn start() -> Result<(), Failure> {
    let give_back = || loop {
        thread::sleep(GIVE_BACK_EVERY);
        // SAFETY: it may be called by any thread at any time.
        unsafe { libmimalloc_sys::mi_collect(true) }
    };
    let started = Builder::new().name("memory".to_owned()).spawn(give_back);
    started.map(drop).map_err(|e| {
        Failure::new(Exit::StoreFailed, format!("cannot start a thread that gives memory back: {e}"))
    })
}
