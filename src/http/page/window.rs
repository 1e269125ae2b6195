//! What happened in the last hour, in fixed memory: each of the last seconds, and before that ten
//! seconds at a time.

use std::collections::VecDeque;

use serde::Serialize;

use crate::limits::{WINDOW_SECONDS, WINDOW_TENS};
use crate::metrics::Counts;

/// Seconds that are taken together.
const TEN: usize = 10;

const _: () = assert!(WINDOW_SECONDS >= TEN && WINDOW_TENS * TEN >= WINDOW_SECONDS);

/// What happened within a second, or within ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sample {
    /// 1 for the first one since the service began.
    pub(super) number: u64,
    pub(super) stored: u64,
    pub(super) duplicates: u64,
    pub(super) conflicts: u64,
    pub(super) rejected: u64,
    pub(super) commits: u64,
    pub(super) commit_bytes: u64,
    /// Microseconds within which half of the commits were done, if there was one.
    pub(super) commit_p50_us: Option<u64>,
    /// And nearly all.
    pub(super) commit_p99_us: Option<u64>,
}

impl Sample {
    fn of(number: u64, grown: &Counts) -> Self {
        Self {
            number,
            stored: grown.stored,
            duplicates: grown.duplicates,
            conflicts: grown.conflicts,
            rejected: grown.rejected,
            commits: grown.commits(),
            commit_bytes: grown.commit_bytes,
            commit_p50_us: grown.commit_micros(50),
            commit_p99_us: grown.commit_micros(99),
        }
    }
}

/// The last hour.
#[derive(Debug)]
pub(super) struct Window {
    seconds: VecDeque<Sample>,
    tens: VecDeque<Sample>,
    /// Counts at the last second.
    last: Counts,
    /// Counts where the ten seconds began that are under way, and how many of them are over.
    ten: (Counts, usize),
}

/// What a second adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    pub(super) second: Sample,
    /// The ten seconds that end with it.
    pub(super) ten: Option<Sample>,
}

impl Window {
    /// One that begins now.
    pub(super) fn new(now: Counts) -> Self {
        let seconds = VecDeque::with_capacity(WINDOW_SECONDS);
        let tens = VecDeque::with_capacity(WINDOW_TENS);
        Self { seconds, tens, last: now.clone(), ten: (now, 0) }
    }

    /// Adds the second that ends now.
    pub(super) fn add(&mut self, now: Counts) -> Added {
        let second = Sample::of(number_after(&self.seconds), &now.since(&self.last));
        push(&mut self.seconds, second, WINDOW_SECONDS);
        self.ten.1 += 1;
        let ten = (self.ten.1 == TEN).then(|| Sample::of(number_after(&self.tens), &now.since(&self.ten.0)));
        if let Some(ten) = ten {
            push(&mut self.tens, ten, WINDOW_TENS);
            self.ten = (now.clone(), 0);
        }
        self.last = now;
        Added { second, ten }
    }

    /// All of it as JSON: a list for each figure, the newest last.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "seconds": columns(1, &self.seconds), "tens": columns(TEN, &self.tens) })
    }
}

/// The number of the sample that comes next.
fn number_after(samples: &VecDeque<Sample>) -> u64 {
    samples.back().map_or(0, |last| last.number) + 1
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample, most: usize) {
    if samples.len() == most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn columns(step: usize, samples: &VecDeque<Sample>) -> serde_json::Value {
    let column = |figure: fn(&Sample) -> u64| samples.iter().map(figure).collect::<Vec<_>>();
    let gaps = |figure: fn(&Sample) -> Option<u64>| samples.iter().map(figure).collect::<Vec<_>>();
    serde_json::json!({
        "step_seconds": step,
        "number": samples.back().map_or(0, |last| last.number),
        "stored": column(|sample| sample.stored),
        "duplicates": column(|sample| sample.duplicates),
        "conflicts": column(|sample| sample.conflicts),
        "rejected": column(|sample| sample.rejected),
        "commits": column(|sample| sample.commits),
        "commit_bytes": column(|sample| sample.commit_bytes),
        "commit_p50_us": gaps(|sample| sample.commit_p50_us),
        "commit_p99_us": gaps(|sample| sample.commit_p99_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_window_has_what_each_second_and_each_ten_added_and_no_more_than_an_hour() {
        let metrics = Metrics::default();
        metrics.stored(1_000, 0, 0);
        let mut window = Window::new(metrics.counts());
        for second in 1..=4_000_u64 {
            metrics.stored(second, 2, u64::from(second == 4_000));
            let added = window.add(metrics.counts());
            assert_eq!(
                (added.second.number, added.second.stored, added.second.duplicates),
                (second, second, 2)
            );
            assert_eq!(added.ten.is_some(), second % 10 == 0);
            assert_eq!(added.ten.map_or(second / 10, |ten| ten.number), second / 10);
            if let Some(ten) = added.ten {
                assert_eq!((ten.stored, ten.duplicates), ((second - 9..=second).sum(), 20));
            }
        }
        let json = window.to_json();
        let list = |of: &str, figure: &str| json[of][figure].as_array().unwrap().clone();
        assert_eq!(list("seconds", "stored").len(), WINDOW_SECONDS);
        assert_eq!(list("tens", "stored").len(), WINDOW_TENS);
        assert_eq!(list("seconds", "stored").last().unwrap(), 4_000);
        assert_eq!((&json["seconds"]["number"], &json["tens"]["number"]), (&4_000.into(), &400.into()));
        assert_eq!(list("tens", "conflicts").last().unwrap(), 1);
        assert!(list("seconds", "commit_p99_us").last().unwrap().is_null());
        assert!(json.to_string().len() < crate::limits::WINDOW_BYTES_MAX);
    }
}
