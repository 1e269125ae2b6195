//! The arguments of `sekali bench`.

use super::workload::{EVENT_BYTES, Ids};
use crate::cli::client::target::ServiceUrl;

/// Largest event that a run makes.
const EVENT_BYTES_MAX: u32 = 64 << 10;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sekali bench --scratch                        a service of its own, on a store that is removed afterwards
  sekali bench --events 1000000                 100 events a request, 40 % of them repeated
  sekali bench --batch 1                        one event a request
  sekali bench --ids uuidv7 --event-bytes 2048  larger events, ids in the order of time
  sekali bench --rate 50000 --json              open loop: latency counts from when a request was due

Topics follow Zipf's law; what repeats is one of the last 100,000 events.
Every run has its own ids unless --seed says otherwise. The counts are compared with the growth of /stats,
so nobody else may publish meanwhile. What is stored stays for ever: a store that holds other events is loaded with --force only.
A scratch store lies where temporary files do (TMPDIR): about 200 bytes an event, and as fast as the disk there.
Exit codes: 0 verified, 1 counts differ, the store holds other events or the service failed, 9 it could not be reached.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) service: ServiceUrl,
    /// Start a service on a free port and an empty store, and remove both afterwards
    #[arg(long, conflicts_with_all = ["url", "force"])]
    pub(super) scratch: bool,
    /// Load a store that holds other events too
    #[arg(long)]
    pub(super) force: bool,
    /// Connections, each with one request at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    /// Events in a request; 1 sends a single event instead of an array
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) batch: u32,
    /// Percentage of what is sent that repeats a recent event
    #[arg(long, value_name = "PERCENT", default_value_t = 40.0, value_parser = percentage)]
    pub(super) duplicates: f64,
    /// Topics
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) topics: u32,
    /// What ids are like
    #[arg(long, value_name = "KIND", default_value = "uuidv4")]
    pub(super) ids: Ids,
    /// Bytes of JSON an event; one that is but a few bytes larger than the smallest gets a few more
    #[arg(long, value_name = "BYTES", default_value_t = EVENT_BYTES, value_parser = clap::value_parser!(u32).range(i64::from(EVENT_BYTES)..=i64::from(EVENT_BYTES_MAX)))]
    pub(super) event_bytes: u32,
    /// Events to send, repeated ones among them
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) events: u64,
    /// Events a second, sent whether or not the service keeps up [default: as fast as answers come]
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// Seed of ids and repetitions [default: random]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn percentage(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=100.0).contains(value))
        .ok_or("use a number from 0 to 100".to_owned())
}
