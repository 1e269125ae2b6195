//! What plays faults: `cargo test --test faults -- crash::` plays those of one module.
//! `tests/support/rounds.rs` says how often.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

mod attacks;
mod crash;
mod damage;
mod disk_full;
mod overload;
mod patroni;
mod postgres;
mod power_cut;
mod repair;
mod soak;
mod support;
mod syscalls;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A namespace keeps mounted what is mounted when it is made. So a test that mounts a file system and one
/// that makes machines, each with namespaces, never run at once.
static MOUNTS: RwLock<()> = RwLock::new(());

fn mounting() -> RwLockReadGuard<'static, ()> {
    MOUNTS.read().unwrap_or_else(PoisonError::into_inner)
}

fn nothing_mounted() -> RwLockWriteGuard<'static, ()> {
    MOUNTS.write().unwrap_or_else(PoisonError::into_inner)
}
