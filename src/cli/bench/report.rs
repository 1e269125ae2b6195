//! What a run came to, for a person and for programs.

use std::fmt::{self, Display};

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::arguments::Arguments;
use super::load::Measured;
use super::workload::Ids;
use crate::cli::client::answers::Counts;
use crate::cli::client::target::Target;

/// Latencies of requests in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Latency {
    fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: nanoseconds.max() as f64 / 1e3,
        }
    }
}

/// The whole report. Keys are stable: programs read them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    seed: u64,
    connections: u16,
    batch: u32,
    topics: u32,
    duplicates_percent: f64,
    ids: Ids,
    event_bytes: u32,
    /// Events a second that were asked for; none in a closed loop.
    rate: Option<u32>,
    events: u64,
    unique: u64,
    requests: u64,
    seconds: f64,
    events_per_second: f64,
    requests_per_second: f64,
    latency_microseconds: Latency,
    retries: u64,
    reconnects: u64,
    generator_cpu_seconds: f64,
    /// The growth of `/stats` during the run.
    counted: Counts,
    /// The sum over all answers.
    answered_unique: u64,
    answered_duplicates: u64,
    /// Whether all counts are what they must be.
    pub(super) verified: bool,
    /// Where they are not, a sentence each.
    faults: Vec<String>,
}

impl Report {
    pub(super) fn new(
        arguments: &Arguments,
        target: &Target,
        seed: u64,
        measured: &Measured,
        counted: Counts,
    ) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let faults = faults(measured, counted);
        Self {
            url: target.url(),
            seed,
            connections: arguments.connections,
            batch: arguments.batch,
            topics: arguments.topics,
            duplicates_percent: arguments.duplicates,
            ids: arguments.ids,
            event_bytes: arguments.event_bytes,
            rate: arguments.rate,
            events: measured.events,
            unique: measured.unique,
            requests: measured.requests,
            seconds: rounded(seconds, 1e6),
            events_per_second: rounded(measured.events as f64 / seconds, 10.0),
            requests_per_second: rounded(measured.requests as f64 / seconds, 10.0),
            latency_microseconds: Latency::of(&measured.latencies),
            retries: measured.retries,
            reconnects: measured.reconnects,
            generator_cpu_seconds: measured.cpu.as_secs_f64(),
            counted,
            answered_unique: measured.answered_unique,
            answered_duplicates: measured.answered_duplicates,
            verified: faults.is_empty(),
            faults,
        }
    }
}

/// A figure without digits that mean nothing.
fn rounded(figure: f64, steps: f64) -> f64 {
    (figure * steps).round() / steps
}

/// What is wrong with the counts. A request that was sent again may have been counted, in part, the
/// first time: then more may be received and answered as duplicate, but what is unique stays exact.
fn faults(measured: &Measured, counted: Counts) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |sound: bool, what: &str, is: u64, must: u64| {
        if !sound {
            faults.push(format!("{what} is {is}, sent were {must}"));
        }
    };
    let sent_once = measured.retries + measured.reconnects == 0;
    let (events, unique) = (measured.events, measured.unique);
    let duplicates = events - unique;
    let exact = |is: u64, must: u64| is == must || (!sent_once && is > must);
    check(counted.unique_processed == unique, "unique_processed in /stats", counted.unique_processed, unique);
    check(exact(counted.received, events), "received in /stats", counted.received, events);
    check(counted.conflicts == 0, "conflicts in /stats", counted.conflicts, 0);
    let fewer = !sent_once && measured.answered_unique < unique;
    check(
        measured.answered_unique == unique || fewer,
        "unique in the answers",
        measured.answered_unique,
        unique,
    );
    check(
        exact(measured.answered_duplicates, duplicates),
        "duplicates in the answers",
        measured.answered_duplicates,
        duplicates,
    );
    faults.extend(measured.unaccounted.clone());
    faults
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency_microseconds;
        let loop_ = self.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} events/s asked for"));
        writeln!(
            f,
            "{}, {loop_}, {} connections, {} events a request",
            self.url, self.connections, self.batch
        )?;
        let (percent, topics, seed) = (self.duplicates_percent, self.topics, self.seed);
        let (ids, bytes) = (self.ids.to_possible_value(), self.event_bytes);
        let ids = ids.as_ref().map_or("", |ids| ids.get_name());
        writeln!(f, "{percent} % repeated, {topics} topics, {ids}, {bytes} bytes an event, seed {seed}")?;
        writeln!(f)?;
        writeln!(f, "events     {:>12}   {:>12.0} /s", self.events, self.events_per_second)?;
        writeln!(f, "requests   {:>12}   {:>12.0} /s", self.requests, self.requests_per_second)?;
        writeln!(f, "unique     {:>12}", self.unique)?;
        writeln!(
            f,
            "seconds    {:>12.3}   {:>12.3} CPU of the generator",
            self.seconds, self.generator_cpu_seconds
        )?;
        writeln!(f, "retries    {:>12}   {:>12} reconnects", self.retries, self.reconnects)?;
        let rows = [
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p99_9),
            ("max", latency.max),
        ];
        for (name, microseconds) in rows {
            writeln!(f, "{name:10} {:>12.3} ms", microseconds / 1e3)?;
        }
        writeln!(f)?;
        if self.verified {
            return write!(f, "verified: /stats grew by exactly the {} unique events sent", self.unique);
        }
        write!(f, "NOT verified: {}", self.faults.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(retries: u64, answered_unique: u64, answered_duplicates: u64) -> Measured {
        Measured {
            events: 10,
            unique: 6,
            requests: 1,
            answered_unique,
            answered_duplicates,
            unaccounted: None,
            retries,
            reconnects: 0,
            elapsed: Duration::from_secs(1),
            cpu: Duration::ZERO,
            latencies: Histogram::new(3).unwrap(),
        }
    }

    fn counts(received: u64, unique_processed: u64) -> Counts {
        Counts { received, unique_processed, ..Counts::default() }
    }

    #[test]
    fn exact_counts_are_sound() {
        assert!(faults(&measured(0, 6, 4), counts(10, 6)).is_empty());
    }

    #[test]
    fn an_event_lost_or_counted_twice_is_a_fault_even_after_retries() {
        for retries in [0, 1] {
            for unique in [5, 7] {
                assert_eq!(faults(&measured(retries, 6, 4), counts(10, unique)).len(), 1);
            }
            assert_eq!(faults(&measured(retries, 6, 4), counts(9, 6)).len(), 1);
        }
    }

    #[test]
    fn more_received_than_sent_is_a_fault_unless_something_was_sent_again() {
        assert!(!faults(&measured(0, 6, 4), counts(11, 6)).is_empty());
        assert!(faults(&measured(1, 5, 5), counts(12, 6)).is_empty());
    }
}
