//! What a process that opens a store sets up first: its log, the threads it may have, the mode
//! of its files, when freed memory is given back, and what systemd gives and is told.

pub(crate) mod authentication;
pub(crate) mod logging;
pub(crate) mod memory;
pub(crate) mod supervisor;
pub(crate) mod threads;
pub(crate) mod webhooks;

use rustix::fs::Mode;

/// Makes every file that this process creates from now on readable by its user alone, also those
/// that sled creates, which sets no modes.
pub(crate) fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
