//! Figures of a store in a database; a store in a directory does not have them.

use std::time::Duration;

use metrics::Recorder;

use super::{Figure, Kind, METADATA, Metrics, key};

/// Bounds of a statement's duration, in seconds.
const STATEMENT_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Connections, by pool and state.
pub const DATABASE_CONNECTIONS: &str = "sekali_database_connections";
/// Statements that wait for a connection, by pool.
pub const DATABASE_WAITING: &str = "sekali_database_waiting_statements";
const STATEMENT_DURATION: &str = "sekali_database_statement_duration_seconds";
const RETRIES: &str = "sekali_database_retries_total";
/// Standbys that commits may wait for.
pub const DATABASE_STANDBYS: &str = "sekali_database_synchronous_standbys";
/// Whether the database keeps what is promised.
pub const DATABASE_PROMISE: &str = "sekali_database_promise_kept";

/// All of them.
pub const DATABASE_FIGURES: [Figure; 6] = [
    (
        DATABASE_CONNECTIONS,
        Kind::Gauge,
        "Connections to the database, by pool and by whether they are in use.",
    ),
    (DATABASE_WAITING, Kind::Gauge, "Statements that wait for a connection to the database."),
    (
        STATEMENT_DURATION,
        Kind::Histogram(STATEMENT_SECONDS),
        "Seconds from a statement to its answer, by what the statement is for.",
    ),
    (RETRIES, Kind::Counter, "Times that the database was asked again, as it had not answered."),
    (DATABASE_STANDBYS, Kind::Gauge, "Standbys that are connected and that commits may wait for."),
    (
        DATABASE_PROMISE,
        Kind::Gauge,
        "1 if the database kept what is promised when it was looked at last, 0 if not.",
    ),
];

impl Metrics {
    /// A statement of one of few kinds was answered.
    pub fn statement(&self, kind: &'static str, took: Duration) {
        let key = key(STATEMENT_DURATION, &[("kind", kind)]);
        self.0.recorder.register_histogram(&key, &METADATA).record(took.as_secs_f64());
    }

    /// The database is asked again so many times.
    pub fn retried(&self, times: u64) {
        self.0.recorder.register_counter(&key(RETRIES, &[]), &METADATA).increment(times);
    }
}
