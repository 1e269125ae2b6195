//! `sekali bench`: loads a running service and verifies its counts.
//!
//! `workload` makes requests, `connection` carries one at a time, `load` drives all connections from one thread,
//! `report` tells. One thread and plain `poll`, because the generator shares the machine with what it measures.

mod connection;
mod load;
mod report;
mod workload;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::load::Load;
use self::report::Report;
use self::workload::{EVENT_BYTES, Ids, Workload};
use super::remote::Target;
use super::{Exit, Failure, print};

/// Largest request that a service can be set to take.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Largest event.
const EVENT_BYTES_MAX: u32 = 64 << 10;
/// Longest wait for an answer, and for a service that is away to come back.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  sekali bench --events 1000000                 100 events a request, 40 % of them repeated
  sekali bench --batch 1                        one event a request
  sekali bench --ids uuidv7 --event-bytes 2048  larger events, ids in the order of time
  sekali bench --rate 50000 --json              open loop: latency counts from when a request was due

Topics follow Zipf's law; what repeats is one of the last 100,000 events.
Every run has its own ids unless --seed says otherwise. The counts are compared with the growth of /stats,
so nobody else may publish meanwhile. Exit codes: 0 verified, 1 counts differ or the service failed.")]
pub(super) struct Arguments {
    /// Base URL of the service
    #[arg(long, env = "SEKALI_URL", default_value = "http://127.0.0.1:8080", hide_env_values = true)]
    url: Target,
    /// Connections, each with one request at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Events in a request; 1 sends a single event instead of an array
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Percentage of what is sent that repeats a recent event
    #[arg(long, value_name = "PERCENT", default_value_t = 40.0, value_parser = percentage)]
    duplicates: f64,
    /// Topics
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: u32,
    /// What ids are like
    #[arg(long, value_name = "KIND", default_value = "uuidv4")]
    ids: Ids,
    /// Bytes of JSON an event; one that is but a few bytes larger than the smallest gets a few more
    #[arg(long, value_name = "BYTES", default_value_t = EVENT_BYTES, value_parser = clap::value_parser!(u32).range(i64::from(EVENT_BYTES)..=i64::from(EVENT_BYTES_MAX)))]
    event_bytes: u32,
    /// Events to send, repeated ones among them
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Events a second, sent whether or not the service keeps up [default: as fast as answers come]
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seed of ids and repetitions [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn percentage(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=100.0).contains(value))
        .ok_or("use a number from 0 to 100".to_owned())
}

/// The part of `/stats` that is verified.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Counts {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    #[serde(default)]
    conflicts: u64,
}

impl Counts {
    /// Growth since `earlier`; 0 where it shrank.
    fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            unique_processed: self.unique_processed.saturating_sub(earlier.unique_processed),
            duplicate_dropped: self.duplicate_dropped.saturating_sub(earlier.duplicate_dropped),
            conflicts: self.conflicts.saturating_sub(earlier.conflicts),
        }
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let workload = Workload::new(seed, self.topics, self.duplicates / 100.0, self.ids, self.event_bytes);
        let largest = u64::from(self.batch).min(self.events) as u32;
        if workload.body_bytes(largest) > REQUEST_BYTES_MAX {
            let why = "no service takes requests of more than 256 MiB: lower --batch or --event-bytes";
            return Err(Failure::new(Exit::Configuration, why.to_owned()));
        }
        let before = counts(&self.url)?;
        let measured = Load::new(&self, workload)?.run()?;
        let counted = counts(&self.url)?.since(before);
        let report = Report::new(&self, seed, &measured, counted);
        if self.json {
            print(serde_json::json!(report))?;
        } else {
            print(&report)?;
        }
        Ok(if report.verified { Exit::Success } else { Exit::Fault })
    }
}

fn counts(target: &Target) -> Result<Counts, Failure> {
    let fault = |why: String| {
        Failure::new(Exit::Fault, format!("no counts from http://{}/stats: {why}", target.host))
    };
    let (status, body) = target.get("/stats", PATIENCE).map_err(fault)?;
    if status != 200 {
        return Err(fault(format!("it answers {status}")));
    }
    serde_json::from_str(&body).map_err(|e| fault(e.to_string()))
}
