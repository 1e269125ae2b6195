//! Pauses before a statement is sent again: random, and longer each time, so that a database that
//! comes back is not met by all that waits for it at the same moment.
//!
//! How many are sent again at once is bounded by what a node has: one statement under way for each
//! slot, and the connections of its pools.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::limits::{DATABASE_PAUSE_MILLIS_MAX, DATABASE_PAUSE_MILLIS_MIN};
use crate::sync;

/// The pauses between the tries of one statement.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    passed: u32,
}

impl Pauses {
    /// Waits until the next try; `None` if time is over by then.
    pub(crate) async fn pass(&mut self, clock: &dyn Clock, deadline: Instant) -> Option<()> {
        let pause = length(self.passed, sync::random_u64().unwrap_or_default());
        self.passed = self.passed.saturating_add(1);
        (clock.monotonic() + pause < deadline).then_some(())?;
        tokio::time::sleep(pause).await;
        Some(())
    }
}

/// The pause after so many others: at least a half of what doubles each time.
fn length(passed: u32, random: u64) -> Duration {
    let half =
        DATABASE_PAUSE_MILLIS_MIN.saturating_mul(1 << passed.min(32)).min(DATABASE_PAUSE_MILLIS_MAX / 2);
    Duration::from_millis(half + random % (half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_the_same_for_all() {
        let range = |passed: u32| (length(passed, 0).as_millis(), length(passed, 500).as_millis());
        let (least, most) = (u128::from(DATABASE_PAUSE_MILLIS_MIN), u128::from(DATABASE_PAUSE_MILLIS_MAX));
        assert_eq!(range(0).0, least);
        for passed in 0..100 {
            let half = (least << passed.min(32)).min(most / 2);
            assert_eq!(length(passed, 0).as_millis(), half, "after {passed} pauses");
            let longest = length(passed, u64::try_from(half).unwrap()).as_millis();
            assert_eq!(longest, 2 * half, "after {passed} pauses");
        }
        assert_eq!(length(100, u64::try_from(most).unwrap() / 2).as_millis(), most);
    }
}
