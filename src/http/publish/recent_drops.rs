//! The events that were dropped last, so that somebody can find out who sends them again.
//!
//! A sample: of each request some, and some each second. Beyond that a publish pays one look at a
//! number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Timestamp;
use crate::event::Batch;
use crate::limits::{DROPS_KEPT, DROPS_NOTED_PER_REQUEST, DROPS_NOTED_PER_SECOND};
use crate::store::{Outcome, Status};
use crate::sync::Mutex;

/// An event that was dropped, as its sender named it, and what is stored in its place.
#[derive(Clone, Debug)]
pub(crate) struct Dropped {
    pub(crate) at: Timestamp,
    pub(crate) topic: Box<str>,
    pub(crate) event_id: Box<str>,
    pub(crate) source: Box<str>,
    pub(crate) outcome: Outcome,
}

/// Those that were noted last.
#[derive(Debug)]
pub(crate) struct RecentDrops {
    /// How many may still be noted this second.
    left: AtomicUsize,
    /// The newest last.
    noted: Mutex<VecDeque<Dropped>>,
}

impl Default for RecentDrops {
    fn default() -> Self {
        Self { left: AtomicUsize::new(DROPS_NOTED_PER_SECOND), noted: Mutex::default() }
    }
}

impl RecentDrops {
    /// Whether one would be noted.
    pub(crate) fn is_open(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// A second is over.
    pub(crate) fn refill(&self) {
        self.left.store(DROPS_NOTED_PER_SECOND, Ordering::Relaxed);
    }

    /// Notes what was dropped of a batch, or some of it.
    pub(crate) fn note(&self, batch: &Batch, outcomes: &[Outcome], at: Timestamp) {
        let dropped = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.status != Status::Stored);
        for (index, outcome) in dropped.take(DROPS_NOTED_PER_REQUEST) {
            let take = |left: usize| left.checked_sub(1);
            if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return;
            }
            let event = batch.get(index);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
            let (topic, event_id, source) = (text(event.topic), text(event.event_id), text(event.source));
            let dropped = Dropped { at, topic, event_id, source, outcome: *outcome };
            let mut noted = self.noted.lock();
            if noted.len() == DROPS_KEPT {
                noted.pop_front();
            }
            noted.push_back(dropped);
        }
    }

    /// Those that `is_wanted` says yes to, the newest first.
    pub(crate) fn newest(&self, is_wanted: impl Fn(&Dropped) -> bool) -> Vec<Dropped> {
        self.noted.lock().iter().rev().filter(|dropped| is_wanted(dropped)).cloned().collect()
    }
}
