//! Locks that a panic does not close for others.
//!
//! What these locks guard is whole at every moment, and a thread of the store that panics stops it
//! for good. So a lock that a panicking thread held is taken all the same. The exception is
//! [`Mutex::lock_checked`].

use std::sync::PoisonError;
use std::time::Duration;

use super::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, threads};

/// Lets one thread at a time reach a value.
#[derive(Debug, Default)]
pub struct Mutex<T>(threads::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(threads::Mutex::new(value))
    }

    /// Waits until no other thread holds the lock, and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_checked().unwrap_or_else(|guard| guard)
    }

    /// Takes the lock as [`Mutex::lock`] does.
    ///
    /// # Errors
    /// The guard itself, if a thread panicked while it held the lock: what it was changing may be
    /// half done.
    pub fn lock_checked(&self) -> Result<MutexGuard<'_, T>, MutexGuard<'_, T>> {
        self.0.lock().map_err(PoisonError::into_inner)
    }

    /// Takes the lock if that needs no waiting and no thread has panicked while it held the lock.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Lets several threads read a value, or one thread change it.
#[derive(Debug, Default)]
pub struct RwLock<T>(threads::RwLock<T>);

impl<T> RwLock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(threads::RwLock::new(value))
    }

    /// Waits until no thread changes the value, and holds changes up.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread reads or changes the value.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has threads wait for a change of what a [`Mutex`] guards.
#[derive(Debug, Default)]
pub struct Condvar(threads::Condvar);

impl Condvar {
    /// A condition that nobody waits for.
    pub const fn new() -> Self {
        Self(threads::Condvar::new())
    }

    /// Lets go of the lock, waits for a notification, and takes the lock again. It may return
    /// without a notification.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, no longer than `time`, while `is_waiting` says so; whether it still does.
    pub fn wait_while<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        time: Duration,
        is_waiting: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        threads::wait_while(&self.0, &mutex.0, guard, time, is_waiting)
    }

    /// Wakes one thread that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
