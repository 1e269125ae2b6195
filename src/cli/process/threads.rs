//! Whether the system gives a service the threads that it needs.
//!
//! What starts threads later either panics without them, or waits for ever for one that never
//! comes. So it is tried first, with as many as there will be.

use std::sync::Arc;
use std::thread::Builder;

use crate::cli::exit::{Exit, Failure};

use sekali::sync::Mutex;

/// Has `threads` threads run at once, and end.
pub(crate) fn try_out(threads: usize) -> Result<(), Failure> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let started: std::io::Result<Vec<_>> = (0..threads)
        .map(|_| {
            let gate = Arc::clone(&gate);
            Builder::new().spawn(move || drop(gate.lock()))
        })
        .collect();
    drop(closed);
    let started = started.map_err(|e| {
        let sentence = format!(
            "the system does not allow the {threads} threads that the service needs ({e}): raise `ulimit -u`, TasksMax of systemd or \
             --pids-limit of the container"
        );
        Failure::new(Exit::StoreFailed, sentence)
    })?;
    for thread in started {
        // It does nothing that could fail.
        let _ = thread.join();
    }
    Ok(())
}
