//! Counts that are read back each second, which those of the recorder can't be: what became of
//! events, and how long commits took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps in which durations double.
const STEPS: u32 = 4;
/// Buckets of durations: from a microsecond to more than a minute.
const BUCKETS: usize = 26 * STEPS as usize;

/// What is counted, in one place for all threads.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) stored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) commit_bytes: AtomicU64,
    /// Commits by how long they took.
    commits: [AtomicU64; BUCKETS],
}

impl Default for Counting {
    fn default() -> Self {
        let [stored, duplicates, conflicts, rejected, commit_bytes] = Default::default();
        let commits = std::array::from_fn(|_| AtomicU64::new(0));
        Self { stored, duplicates, conflicts, rejected, commit_bytes, commits }
    }
}

impl Counting {
    pub(super) fn committed(&self, took: Duration, bytes: u64) {
        self.commit_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commits[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            stored: read(&self.stored),
            duplicates: read(&self.duplicates),
            conflicts: read(&self.conflicts),
            rejected: read(&self.rejected),
            commit_bytes: read(&self.commit_bytes),
            commits: std::array::from_fn(|number| read(&self.commits[number])),
        }
    }
}

/// Counts at one time, or what they grew by between two.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Events answered as stored.
    pub stored: u64,
    /// Events answered as duplicates; conflicts are not among them.
    pub duplicates: u64,
    /// Events answered as conflicts.
    pub conflicts: u64,
    /// Events refused as invalid.
    pub rejected: u64,
    /// Bytes that commits wrote.
    pub commit_bytes: u64,
    /// Commits by how long they took.
    commits: [u64; BUCKETS],
}

impl Counts {
    /// What was counted since an earlier time.
    pub fn since(&self, earlier: &Self) -> Self {
        let Self { stored, duplicates, conflicts, rejected, commit_bytes, commits } = self;
        Self {
            stored: stored.saturating_sub(earlier.stored),
            duplicates: duplicates.saturating_sub(earlier.duplicates),
            conflicts: conflicts.saturating_sub(earlier.conflicts),
            rejected: rejected.saturating_sub(earlier.rejected),
            commit_bytes: commit_bytes.saturating_sub(earlier.commit_bytes),
            commits: std::array::from_fn(|number| commits[number].saturating_sub(earlier.commits[number])),
        }
    }

    /// Commits.
    pub fn commits(&self) -> u64 {
        self.commits.iter().sum()
    }

    /// The time within which this many hundredths of all commits were done, in microseconds: the
    /// upper bound of its bucket. `None` if there was no commit.
    pub fn commit_micros(&self, hundredths: u64) -> Option<u64> {
        let wanted = (self.commits() * hundredths).div_ceil(100).max(1);
        let mut seen = 0;
        let number = self.commits.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        number.map(upper_micros)
    }
}

/// The bucket of a duration: the place of its first bit, and the bits after that.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let place = micros.ilog2();
    // What is below a step of its power of two counts for the step.
    let step = ((u128::from(micros) * u128::from(STEPS)) >> place) as u32 - STEPS;
    ((place * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn upper_micros(bucket: usize) -> u64 {
    let (place, step) = (bucket as u32 / STEPS, bucket as u32 % STEPS);
    ((u64::from(STEPS + step + 1) << place) - 1) / u64::from(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_the_durations_up_to_its_bound_and_no_longer_ones() {
        for micros in (1..5_000).chain([1 << 20, (1 << 20) + 1, 7_777_777, 40_000_000]) {
            let bucket = bucket(Duration::from_micros(micros));
            assert!(upper_micros(bucket) >= micros, "{micros}");
            let lower = bucket.checked_sub(1).map_or(0, upper_micros);
            assert!(lower <= micros && upper_micros(bucket) <= micros + micros / 4 + 1, "{micros}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::ZERO), 0);
    }

    #[test]
    fn hundredths_are_those_of_the_commits_between_two_times() {
        let counting = Counting::default();
        counting.committed(Duration::from_secs(9), 5);
        let before = counting.read();
        assert_eq!(before.since(&before).commit_micros(99), None);
        for _ in 0..98 {
            counting.committed(Duration::from_micros(100), 10);
        }
        counting.committed(Duration::from_millis(50), 10);
        counting.committed(Duration::from_millis(50), 10);
        let grown = counting.read().since(&before);
        assert_eq!((grown.commits(), grown.commit_bytes), (100, 1_000));
        assert!((100..130).contains(&grown.commit_micros(50).unwrap()));
        assert!((50_000..63_000).contains(&grown.commit_micros(99).unwrap()));
    }
}
