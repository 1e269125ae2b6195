//! What a process that opens a store sets up first: its log, the threads it may have, the mode of
//! its files, that it leaves no core, when freed memory is given back, and what systemd gives and
//! is told.

pub(crate) mod authentication;
pub(crate) mod logging;
pub(crate) mod memory;
pub(crate) mod supervisor;
pub(crate) mod threads;
pub(crate) mod webhooks;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Makes every file that this process creates from now on readable by its user alone, also those
/// that sled creates, which sets no modes. A crash leaves no image of the memory, which has events,
/// tokens and keys.
pub(crate) fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // Whoever may not lower a limit of their own has none to lower.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
