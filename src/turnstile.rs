//! Lets one log line a second of each kind through and counts the others, so that clients that
//! cause lines can't flood the log.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// How long one line stands for all of its kind.
const QUIET: Duration = Duration::from_secs(1);

/// What lines are told apart by: what they say, and a status or 0. There must be few.
pub type Kind = (&'static str, u16);

/// The kinds of lines that went through.
#[derive(Debug, Default)]
pub struct Turnstile(Mutex<Vec<Passed>>);

#[derive(Debug)]
struct Passed {
    kind: Kind,
    at: Instant,
    /// Lines since then.
    left_out: u64,
}

impl Turnstile {
    /// One that nothing has gone through.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// How many lines of a kind were left out since the one before, if a line may be written at
    /// `now`.
    pub fn pass(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock();
        let Some(passed) = kinds.iter_mut().find(|passed| passed.kind == kind) else {
            kinds.push(Passed { kind, at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(passed.at) < QUIET {
            passed.left_out += 1;
            return None;
        }
        passed.at = now;
        Some(std::mem::take(&mut passed.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn one_line_a_second_of_each_kind_goes_through_and_counts_the_others() {
        let (turnstile, begin) = (Turnstile::new(), SystemClock.monotonic());
        let (one, other) = (("failed", 503), ("failed", 507));
        assert_eq!(turnstile.pass(one, begin), Some(0));
        assert_eq!(turnstile.pass(other, begin), Some(0));
        for at in [0, 500, 999] {
            assert_eq!(turnstile.pass(one, begin + Duration::from_millis(at)), None);
        }
        assert_eq!(turnstile.pass(one, begin + QUIET), Some(3));
        assert_eq!(turnstile.pass(one, begin + QUIET * 2), Some(0));
        assert_eq!(turnstile.pass(other, begin + QUIET * 2), Some(0));
    }
}
