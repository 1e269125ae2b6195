//! Metrics for Prometheus. Handles are made once: counting costs an atomic add.
//!
//! The recorder is this value's own, not the process's, so that tests can have many. [`FIGURES`]
//! lists all but those of the process, which come from the library that reads them;
//! `docs/metrics.md` says what each is for.

mod counts;
mod database;
mod deliveries;
mod lags;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;

use self::counts::Counting;
pub use self::counts::Counts;
pub use self::database::{
    DATABASE_CONNECTIONS, DATABASE_FIGURES, DATABASE_PROMISE, DATABASE_STANDBYS, DATABASE_WAITING,
};
use self::deliveries::Deliveries;
pub use self::deliveries::{REFUSED, SourceCounts, TAKEN};
pub use self::lags::ConsumerLag;
use self::lags::Lags;
pub use self::text::{open_metrics, shown};
use crate::clock::Timestamp;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram(&'static [f64]),
}

/// A figure: its name, what it is, its help.
pub type Figure = (&'static str, Kind, &'static str);

/// Bounds of a request's duration, in seconds.
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of a commit's duration, in seconds.
const COMMIT_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Bounds of the events of a commit.
const COMMIT_COUNTS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 5_000.0];

const REQUESTS: &str = "sekali_http_requests_total";
const REQUEST_DURATION: &str = "sekali_http_request_duration_seconds";
const CONNECTIONS: &str = "sekali_http_connections";
const BODY_BYTES: &str = "sekali_http_body_bytes";
const ANSWER_BYTES: &str = "sekali_http_answer_bytes";
const EVENTS: &str = "sekali_events_total";
const COMMIT_DURATION: &str = "sekali_commit_duration_seconds";
const COMMIT_EVENTS: &str = "sekali_commit_events";
const COMMIT_BYTES: &str = "sekali_commit_bytes_total";
const REBUILDS: &str = "sekali_index_rebuilds_total";
const BUILD: &str = "sekali_build_info";
const UPTIME: &str = "sekali_uptime_seconds";
const DENIED: &str = "sekali_auth_failures_total";
/// Why requests are not let in, as [`Denied`](crate::auth::authenticator::Denied) names it, or
/// connections, whose certificate does not hold.
const DENIED_REASONS: [&str; 7] =
    ["missing", "malformed", "unknown", "wrong", "expired", "revoked", "certificate"];
/// Whether the tokens file was read as it is now.
pub const TOKENS_FILE_READ: &str = "sekali_tokens_file_read";
const DELIVERIES: &str = "sekali_source_requests_total";
/// Whether the sources' configuration and secrets were read as they are now.
pub const SOURCES_READ: &str = "sekali_sources_read";
const LINES_DROPPED: &str = "sekali_log_lines_dropped_total";
/// When the certificate of TLS expires.
pub const CERTIFICATE_EXPIRY: &str = "sekali_tls_certificate_expiry_timestamp_seconds";
/// Times that the files of TLS had changed and could not be used.
pub const TLS_RELOAD_FAILURES: &str = "sekali_tls_reload_failures_total";
/// By topic and outcome, over the life of the store.
pub const TOPIC_EVENTS: &str = "sekali_topic_events_total";
/// Topics that hold events.
pub const TOPICS: &str = "sekali_topics";
/// Most topics that the store takes.
pub const TOPICS_MOST: &str = "sekali_topics_max";
/// Events that a consumer has not acknowledged.
pub const CONSUMER_LAG: &str = "sekali_consumer_lag_events";
/// Age of the oldest of them.
pub const CONSUMER_LAG_TIME: &str = "sekali_consumer_lag_seconds";
/// Consumers.
pub const CONSUMERS: &str = "sekali_consumers";
/// Events in the store.
pub const STORED: &str = "sekali_stored_events";
/// Requests that wait for a worker, by worker.
pub const QUEUE: &str = "sekali_queue_requests";
/// Claims that only RAM and the journal have.
pub const LAG: &str = "sekali_checkpoint_lag_events";
/// Generations, by state.
pub const GENERATIONS: &str = "sekali_generations";
/// Indexes that are being rebuilt.
pub const REBUILDING: &str = "sekali_index_rebuilding";
/// Bytes of all journals.
pub const JOURNAL_BYTES: &str = "sekali_journal_bytes";
/// Free bytes of the disk.
pub const DISK_FREE: &str = "sekali_disk_free_bytes";
/// Free bytes below which nothing is taken any more.
pub const DISK_RESERVE: &str = "sekali_disk_reserve_bytes";
/// Whether the store takes events.
pub const READY: &str = "sekali_ready";

/// All figures of the service but for those of a database.
pub const FIGURES: [Figure; 34] = [
    (REQUESTS, Kind::Counter, "Requests answered, by route and status."),
    (
        REQUEST_DURATION,
        Kind::Histogram(REQUEST_SECONDS),
        "Seconds from the head of a request to that of its answer, by route and status.",
    ),
    (CONNECTIONS, Kind::Gauge, "Connections open."),
    (BODY_BYTES, Kind::Gauge, "Bytes of request bodies held."),
    (ANSWER_BYTES, Kind::Gauge, "Bytes of answers held for their readers."),
    (EVENTS, Kind::Counter, "Events answered, by what became of them."),
    (TOPIC_EVENTS, Kind::Counter, "Events over the life of the store, by topic and by what became of them."),
    (TOPICS, Kind::Gauge, "Topics that hold events."),
    (TOPICS_MOST, Kind::Gauge, "Most topics that the store takes."),
    (CONSUMERS, Kind::Gauge, "Consumers."),
    (CONSUMER_LAG, Kind::Gauge, "Events that a consumer has not acknowledged."),
    (
        CONSUMER_LAG_TIME,
        Kind::Gauge,
        "Age of the oldest event that a consumer has not acknowledged, in seconds.",
    ),
    (STORED, Kind::Gauge, "Events in the store."),
    (COMMIT_DURATION, Kind::Histogram(COMMIT_SECONDS), "Seconds that a commit takes to be on disk."),
    (COMMIT_EVENTS, Kind::Histogram(COMMIT_COUNTS), "Events that a commit stores."),
    (COMMIT_BYTES, Kind::Counter, "Bytes that commits have written to journals."),
    (QUEUE, Kind::Gauge, "Requests that wait for a worker."),
    (LAG, Kind::Gauge, "Stored events that the index does not have yet."),
    (GENERATIONS, Kind::Gauge, "Generations, by state."),
    (REBUILDS, Kind::Counter, "Indexes rebuilt from a journal."),
    (REBUILDING, Kind::Gauge, "Indexes that are being rebuilt, or wait for it."),
    (JOURNAL_BYTES, Kind::Gauge, "Bytes of events in all journals."),
    (DISK_FREE, Kind::Gauge, "Bytes that are free on the disk of the store."),
    (DISK_RESERVE, Kind::Gauge, "Free bytes below which no events are taken."),
    (DENIED, Kind::Counter, "Requests that were not let in, by reason."),
    (
        TOKENS_FILE_READ,
        Kind::Gauge,
        "1 if the tokens file is in use as it is now, 0 if it is wrong and an earlier one is.",
    ),
    (DELIVERIES, Kind::Counter, "Requests of webhooks' senders, by source and by what became of them."),
    (
        SOURCES_READ,
        Kind::Gauge,
        "1 if the sources and their secrets are in use as they are now, 0 if something is wrong and earlier ones are.",
    ),
    (READY, Kind::Gauge, "1 if the store takes events of all topics, else 0."),
    (BUILD, Kind::Gauge, "1, with the version of the program."),
    (UPTIME, Kind::Gauge, "Seconds since the service began."),
    (CERTIFICATE_EXPIRY, Kind::Gauge, "When the certificate expires, in seconds since 1970; only with TLS."),
    (
        TLS_RELOAD_FAILURES,
        Kind::Counter,
        "Times that the files of TLS had changed and could not be used; only with TLS.",
    ),
    (LINES_DROPPED, Kind::Counter, "Lines of the log that were dropped, as stderr did not take them."),
];

/// Most kinds of requests that are counted apart.
pub const ROUTES_MAX: usize = 32;

/// What a request is counted as: the route that it took, with a number below [`ROUTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLabel {
    /// The value of the label.
    pub name: &'static str,
    /// Tells routes apart.
    pub number: usize,
}

impl RouteLabel {
    /// The label of requests for which there is no route.
    pub const NONE: Self = Self { name: "none", number: 0 };
}

const STATUSES: [u16; 27] = [
    200, 201, 204, 207, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 421, 422, 429, 431, 500,
    501, 502, 503, 504, 507, 0,
];

/// The service's figures.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    /// How many, and how long they took; made when the first is answered.
    requests: [[OnceLock<(Counter, Histogram)>; STATUSES.len()]; ROUTES_MAX],
    counting: Counting,
    deliveries: Deliveries,
    lags: Lags,
    open: AtomicU64,
    body_bytes: Gauge,
    answer_bytes: Gauge,
    uptime: Gauge,
    lines_dropped: OnceLock<Arc<AtomicU64>>,
    commit_duration: Histogram,
    commit_events: Histogram,
    rebuilds: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

static METADATA: Metadata<'static> = Metadata::new("sekali", Level::INFO, None);

impl Default for Metrics {
    fn default() -> Self {
        let recorder = recorder();
        let version = vec![Label::from_static_parts("version", env!("CARGO_PKG_VERSION"))];
        recorder.register_gauge(&Key::from_parts(BUILD, version), &METADATA).set(1.0);
        for reason in DENIED_REASONS {
            recorder.register_counter(&key(DENIED, &[("reason", reason)]), &METADATA).increment(0);
        }
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let inner = Inner {
            handle: recorder.handle(),
            process,
            requests: Default::default(),
            counting: Counting::default(),
            deliveries: Deliveries::default(),
            lags: Lags::default(),
            open: AtomicU64::new(0),
            body_bytes: recorder.register_gauge(&Key::from_static_name(BODY_BYTES), &METADATA),
            lines_dropped: OnceLock::new(),
            answer_bytes: recorder.register_gauge(&Key::from_static_name(ANSWER_BYTES), &METADATA),
            uptime: recorder.register_gauge(&Key::from_static_name(UPTIME), &METADATA),
            commit_duration: recorder.register_histogram(&Key::from_static_name(COMMIT_DURATION), &METADATA),
            commit_events: recorder.register_histogram(&Key::from_static_name(COMMIT_EVENTS), &METADATA),
            rebuilds: recorder.register_counter(&Key::from_static_name(REBUILDS), &METADATA),
            recorder,
        };
        Self(Arc::new(inner))
    }
}

/// A recorder that knows all figures.
fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (name, kind, _) in FIGURES.into_iter().chain(DATABASE_FIGURES) {
        if let Kind::Histogram(bounds) = kind {
            // The bounds are not empty, which is all that can be wrong with them.
            builder = builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
                .unwrap_or_else(|_| PrometheusBuilder::new());
        }
    }
    let recorder = builder.build_recorder();
    for (name, kind, help) in FIGURES.into_iter().chain(DATABASE_FIGURES) {
        let (key, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
        let unit = match name.trim_end_matches("_total") {
            name if name.ends_with("_seconds") => Some(Unit::Seconds),
            name if name.ends_with("_bytes") => Some(Unit::Bytes),
            _ => None,
        };
        match kind {
            Kind::Counter => recorder.describe_counter(key, unit, help),
            Kind::Gauge => recorder.describe_gauge(key, unit, help),
            Kind::Histogram(_) => recorder.describe_histogram(key, unit, help),
        }
    }
    recorder
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, route: RouteLabel, status: StatusCode, took: Duration) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let (count, duration) = self.0.requests[route.number][at].get_or_init(|| {
            let status = if STATUSES[at] == 0 { "other".to_owned() } else { STATUSES[at].to_string() };
            let labels = vec![Label::from_static_parts("route", route.name), Label::new("status", status)];
            let count = Key::from_parts(REQUESTS, labels.clone());
            let duration = Key::from_parts(REQUEST_DURATION, labels);
            (
                self.0.recorder.register_counter(&count, &METADATA),
                self.0.recorder.register_histogram(&duration, &METADATA),
            )
        });
        count.increment(1);
        duration.record(took.as_secs_f64());
    }

    /// Events were answered; conflicts are not among the duplicates here.
    pub fn stored(&self, stored: u64, duplicates: u64, conflicts: u64) {
        let Counting { stored: all_stored, duplicates: all_duplicates, conflicts: all_conflicts, .. } =
            &self.0.counting;
        for (counter, events) in
            [(all_stored, stored), (all_duplicates, duplicates), (all_conflicts, conflicts)]
        {
            // Each is shared by all threads: what adds nothing is left out.
            if events > 0 {
                counter.fetch_add(events, Ordering::Relaxed);
            }
        }
    }

    /// Events were refused as invalid.
    pub fn rejected(&self, events: u64) {
        self.0.counting.rejected.fetch_add(events, Ordering::Relaxed);
    }

    /// A request was not let in, for a reason of which there are few.
    pub fn denied(&self, reason: &'static str) {
        self.0.recorder.register_counter(&key(DENIED, &[("reason", reason)]), &METADATA).increment(1);
    }

    /// A request of a sender of webhooks was taken, with an outcome of [`TAKEN`]; the source is one
    /// that is configured.
    pub fn delivered(&self, source: &str, outcome: &'static str) {
        self.0.deliveries.count(source, outcome);
    }

    /// One was refused, for a reason of [`REFUSED`].
    pub fn refused(&self, source: &str, reason: &'static str, at: Timestamp) {
        self.0.deliveries.refuse(source, reason, at);
    }

    /// A request came for a source that there is not.
    pub fn undelivered(&self) {
        self.0.deliveries.count_unknown();
    }

    /// What was counted of a source.
    pub fn source(&self, name: &str) -> SourceCounts {
        self.0.deliveries.of(name)
    }

    /// Requests for sources that there are not.
    pub fn unknown_sources(&self) -> u64 {
        self.0.deliveries.unknown()
    }

    /// Deliveries that were refused, by reason, of all sources; a request for a source that there
    /// is not is one too.
    pub fn all_refused(&self) -> BTreeMap<&'static str, u64> {
        self.0.deliveries.refused()
    }

    /// How far a consumer lags was measured: events that it has not acknowledged, and the age of
    /// the oldest of them in seconds.
    pub fn consumer_lags(&self, name: &str, events: u64, seconds: f64) {
        self.set(CONSUMER_LAG, &[("consumer", name)], events as f64);
        self.set(CONSUMER_LAG_TIME, &[("consumer", name)], seconds);
        self.0.lags.set(name, events, seconds);
    }

    /// The consumer that lagged most when that was measured last; `None` if none did.
    pub fn largest_lag(&self) -> Option<ConsumerLag> {
        self.0.lags.largest()
    }

    /// A connection was accepted.
    pub fn connection_begun(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    pub fn connection_ended(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// A commit is on disk.
    pub fn committed(&self, took: Duration, events: u64, bytes: u64) {
        self.0.commit_duration.record(took.as_secs_f64());
        self.0.commit_events.record(events as f64);
        self.0.counting.committed(took, bytes);
    }

    /// What is counted of events and commits, as it is now.
    pub fn counts(&self) -> Counts {
        self.0.counting.read()
    }

    /// An index was rebuilt.
    pub fn rebuilt(&self) {
        self.0.rebuilds.increment(1);
    }

    /// Has `lines` shown as what the log dropped; those of the first call.
    pub fn show_lines_dropped(&self, lines: Arc<AtomicU64>) {
        let _ = self.0.lines_dropped.set(lines);
    }

    /// Sets a figure that is known when it is asked for.
    pub fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.0.recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    }

    /// Sets a total that is known when it is asked for.
    pub fn set_total(&self, name: &'static str, labels: &[(&'static str, &str)], total: u64) {
        self.0.recorder.register_counter(&key(name, labels), &METADATA).absolute(total);
    }

    /// Bounds what the histograms hold; to be called every few seconds.
    pub fn upkeep(&self) {
        self.0.handle.run_upkeep();
    }

    /// All figures in Prometheus' text format. Those of requests under way are given.
    pub fn render(&self, uptime: Duration, body_bytes: usize, answer_bytes: usize) -> String {
        self.0.uptime.set(uptime.as_secs_f64());
        let lines = self.0.lines_dropped.get().map_or(0, |lines| lines.load(Ordering::Relaxed));
        self.set_total(LINES_DROPPED, &[], lines);
        let counts = self.counts();
        for (outcome, events) in [
            ("stored", counts.stored),
            ("duplicate", counts.duplicates),
            ("conflict", counts.conflicts),
            ("rejected", counts.rejected),
        ] {
            self.set_total(EVENTS, &[("outcome", outcome)], events);
        }
        self.0.deliveries.each(|source, outcome, count| {
            self.set_total(DELIVERIES, &[("source", source), ("outcome", outcome)], count);
        });
        self.set_total(COMMIT_BYTES, &[], counts.commit_bytes);
        self.set(CONNECTIONS, &[], self.connections() as f64);
        self.0.body_bytes.set(body_bytes as f64);
        self.0.answer_bytes.set(answer_bytes as f64);
        metrics::with_local_recorder(&self.0.recorder, || self.0.process.collect());
        self.0.handle.render()
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}
