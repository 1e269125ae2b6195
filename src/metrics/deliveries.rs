//! What became of the requests of webhooks' senders, by source. Counted here, so that it can be
//! read back.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::sync::Mutex;

/// What becomes of a delivery that is taken.
pub const TAKEN: [&str; 5] = ["stored", "duplicate", "conflict", "quarantined", "challenge"];
/// Why one is refused. The last three are not about its proof or its content: its body is too large
/// or compressed, or the service could not store it then.
pub const REFUSED: [&str; 8] =
    ["missing", "malformed", "wrong", "stale", "unmapped", "large", "compressed", "unstored"];
/// The outcome of a request for a source that there is not.
const UNKNOWN: &str = "unknown";

/// What was counted of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceCounts {
    outcomes: BTreeMap<&'static str, u64>,
    last_refused: Option<(Timestamp, &'static str)>,
}

impl SourceCounts {
    /// How many requests had this outcome.
    pub fn of(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }

    /// When the last one was refused, and why.
    pub fn last_refused(&self) -> Option<(Timestamp, &'static str)> {
        self.last_refused
    }
}

/// All sources, by their names. Requests for sources that there are not have none.
#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<BTreeMap<Box<str>, SourceCounts>>);

impl Deliveries {
    pub(super) fn count(&self, source: &str, outcome: &'static str) {
        self.change(source, |counts| *counts.outcomes.entry(outcome).or_default() += 1);
    }

    pub(super) fn refuse(&self, source: &str, reason: &'static str, at: Timestamp) {
        self.change(source, |counts| {
            *counts.outcomes.entry(reason).or_default() += 1;
            counts.last_refused = Some((at, reason));
        });
    }

    pub(super) fn count_unknown(&self) {
        self.count("", UNKNOWN);
    }

    fn change(&self, source: &str, change: impl FnOnce(&mut SourceCounts)) {
        let mut all = self.0.lock();
        match all.get_mut(source) {
            Some(counts) => change(counts),
            None => change(all.entry(source.into()).or_default()),
        }
    }

    pub(super) fn of(&self, source: &str) -> SourceCounts {
        self.0.lock().get(source).cloned().unwrap_or_default()
    }

    /// Refusals of all sources by reason; requests for sources that there are not are among them.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        let all = self.0.lock();
        let sum = |reason| all.values().map(|counts| counts.of(reason)).sum();
        REFUSED.into_iter().chain([UNKNOWN]).map(|reason| (reason, sum(reason))).collect()
    }

    pub(super) fn unknown(&self) -> u64 {
        self.of("").of(UNKNOWN)
    }

    /// Shows each count with its source and its outcome.
    pub(super) fn each(&self, mut show: impl FnMut(&str, &'static str, u64)) {
        show("", UNKNOWN, self.unknown());
        for (source, counts) in self.0.lock().iter().filter(|(source, _)| !source.is_empty()) {
            counts.outcomes.iter().for_each(|(outcome, count)| show(source, outcome, *count));
        }
    }
}
