//! How far consumers lag, as it was measured last. Kept here, so that it can be read back.

use std::collections::BTreeMap;

use crate::sync::Mutex;

/// How far a consumer lags.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerLag {
    /// Its name.
    pub name: Box<str>,
    /// Events that it has not acknowledged.
    pub events: u64,
    /// Age of the oldest of them, in seconds.
    pub seconds: f64,
}

/// By the names of all that were measured, of which there are few.
#[derive(Debug, Default)]
pub(super) struct Lags(Mutex<BTreeMap<Box<str>, ConsumerLag>>);

impl Lags {
    pub(super) fn set(&self, name: &str, events: u64, seconds: f64) {
        self.0.lock().insert(name.into(), ConsumerLag { name: name.into(), events, seconds });
    }

    /// The largest; `None` while no consumer lags.
    pub(super) fn largest(&self) -> Option<ConsumerLag> {
        let lags = self.0.lock();
        lags.values().filter(|lag| lag.events > 0).max_by_key(|lag| lag.events).cloned()
    }
}
