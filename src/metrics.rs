//! Figures for Prometheus. Handles are made once: counting costs an atomic add.
//!
//! The recorder is this value's own, not the process's, so that tests can have many.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Requests answered, by route and status.
pub const REQUESTS: &str = "sekali_http_requests_total";
/// Seconds from the head of a request to its answer, by route.
pub const DURATION: &str = "sekali_http_request_duration_seconds";
/// Events answered, by outcome.
pub const EVENTS: &str = "sekali_events_total";
/// Connections open.
pub const CONNECTIONS: &str = "sekali_http_connections";
/// Seconds since the service began.
pub const UPTIME: &str = "sekali_uptime_seconds";

/// Bounds of the duration's buckets.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the paths are")]
pub enum Route {
    Publish,
    Events,
    Event,
    Stats,
    Topics,
    Healthz,
    Readyz,
    Metrics,
    None,
}

const ROUTES: [Route; 9] = [
    Route::Publish,
    Route::Events,
    Route::Event,
    Route::Stats,
    Route::Topics,
    Route::Healthz,
    Route::Readyz,
    Route::Metrics,
    Route::None,
];

impl Route {
    /// The route as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "/publish",
            Self::Events => "/events",
            Self::Event => "/events/{topic}/{event_id}",
            Self::Stats => "/stats",
            Self::Topics => "/topics",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::None => "none",
        }
    }
}

const STATUSES: [u16; 15] = [200, 400, 404, 405, 408, 410, 413, 415, 422, 431, 500, 503, 507, 501, 0];

/// The service's figures.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    requests: [[OnceLock<Counter>; STATUSES.len()]; ROUTES.len()],
    durations: [Histogram; ROUTES.len()],
    stored: Counter,
    duplicates: Counter,
    conflicts: Counter,
    rejected: Counter,
    connections: Gauge,
    uptime: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

static METADATA: Metadata<'static> = Metadata::new("sekali", Level::INFO, None);

impl Default for Metrics {
    fn default() -> Self {
        let builder = PrometheusBuilder::new();
        // The bounds are not empty, which is all that can be wrong with them.
        let builder = builder
            .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let counter = |name: &'static str, unit, help: &'static str| {
            recorder.describe_counter(KeyName::from_const_str(name), unit, SharedString::const_str(help));
        };
        counter(REQUESTS, None, "Requests answered, by route and status.");
        counter(EVENTS, None, "Events answered, by what became of them.");
        recorder.describe_histogram(
            KeyName::from_const_str(DURATION),
            Some(Unit::Seconds),
            SharedString::const_str("Seconds from the head of a request to its answer, by route."),
        );
        for (name, unit, help) in [
            (CONNECTIONS, None, "Connections open."),
            (UPTIME, Some(Unit::Seconds), "Seconds since the service began."),
        ] {
            recorder.describe_gauge(KeyName::from_const_str(name), unit, SharedString::const_str(help));
        }
        let outcome = |value: &'static str| {
            let labels = vec![Label::from_static_parts("outcome", value)];
            recorder.register_counter(&Key::from_parts(EVENTS, labels), &METADATA)
        };
        let inner = Inner {
            handle: recorder.handle(),
            requests: Default::default(),
            durations: ROUTES.map(|route| {
                let labels = vec![Label::from_static_parts("route", route.name())];
                recorder.register_histogram(&Key::from_parts(DURATION, labels), &METADATA)
            }),
            stored: outcome("stored"),
            duplicates: outcome("duplicate"),
            conflicts: outcome("conflict"),
            rejected: outcome("rejected"),
            connections: recorder.register_gauge(&Key::from_static_name(CONNECTIONS), &METADATA),
            uptime: recorder.register_gauge(&Key::from_static_name(UPTIME), &METADATA),
            recorder,
        };
        Self(Arc::new(inner))
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, route: Route, status: StatusCode, took: Duration) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let counter = self.0.requests[route as usize][at].get_or_init(|| {
            let status = if STATUSES[at] == 0 { "other".to_owned() } else { STATUSES[at].to_string() };
            let labels = vec![Label::from_static_parts("route", route.name()), Label::new("status", status)];
            self.0.recorder.register_counter(&Key::from_parts(REQUESTS, labels), &METADATA)
        });
        counter.increment(1);
        self.0.durations[route as usize].record(took.as_secs_f64());
    }

    /// Events were answered; conflicts are not among the duplicates here.
    pub fn stored(&self, stored: u64, duplicates: u64, conflicts: u64) {
        self.0.stored.increment(stored);
        self.0.duplicates.increment(duplicates);
        self.0.conflicts.increment(conflicts);
    }

    /// Events were refused as invalid.
    pub fn rejected(&self, events: u64) {
        self.0.rejected.increment(events);
    }

    /// How many connections are open.
    pub fn connections(&self, open: usize) {
        self.0.connections.set(open as f64);
    }

    /// Bounds what the histograms hold; to be called every few seconds.
    pub fn upkeep(&self, uptime: Duration) {
        self.0.uptime.set(uptime.as_secs_f64());
        self.0.handle.run_upkeep();
    }

    /// All figures in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.handle.render()
    }
}
