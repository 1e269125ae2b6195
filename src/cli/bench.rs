//! `sekali bench`: loads a running service and verifies its counts.
//!
//! `workload` makes requests, `connection` carries one at a time, `load` drives all connections from one thread,
//! `report` tells. One thread and plain `poll`, because the generator shares the machine with what it measures.

mod connection;
mod load;
mod report;
mod scratch;
mod workload;

use std::time::Duration;

use sekali::limits::{CLIENT_PAGE_BYTES_MAX, CLIENT_STATS_BYTES_MAX};

use self::load::Load;
use self::report::Report;
use self::scratch::Scratch;
use self::workload::{EVENT_BYTES, Ids, Workload};
use super::answers::{Counts, PAGE_ENTRIES, Round, Topic, topic_page};
use super::exchange::{Miss, Route};
use super::remote::escape;
use super::target::Place;
use super::{Exit, Failure, print};

/// Largest request that a service can be set to take.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Largest event.
const EVENT_BYTES_MAX: u32 = 64 << 10;
/// Longest wait for an answer, and for a service that is away to come back.
const PATIENCE: Duration = Duration::from_secs(60);

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
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Start a service on a free port and an empty store, and remove both afterwards
    #[arg(long, conflicts_with_all = ["url", "force"])]
    scratch: bool,
    /// Load a store that holds other events too
    #[arg(long)]
    force: bool,
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

/// What grew between two looks at `/stats`; 0 where it shrank.
fn growth(earlier: Counts, now: Counts) -> Counts {
    Counts {
        received: now.received.saturating_sub(earlier.received),
        unique_processed: now.unique_processed.saturating_sub(earlier.unique_processed),
        duplicate_dropped: now.duplicate_dropped.saturating_sub(earlier.duplicate_dropped),
        conflicts: now.conflicts.saturating_sub(earlier.conflicts),
    }
}

impl Arguments {
    pub(super) fn run(mut self) -> Result<Exit, Failure> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let workload = Workload::new(seed, self.topics, self.duplicates / 100.0, self.ids, self.event_bytes);
        let largest = u64::from(self.batch).min(self.events) as u32;
        if workload.body_bytes(largest) > REQUEST_BYTES_MAX {
            let why = "no service takes requests of more than 256 MiB: lower --batch or --event-bytes";
            return Err(Failure::new(Exit::Configuration, why.to_owned()));
        }
        let scratch = self.scratch.then(Scratch::start).transpose()?;
        let target = match &scratch {
            Some(scratch) => scratch.target(),
            None => std::mem::take(&mut self.place).target()?,
        };
        // The load goes straight to it, so the rest does too.
        let route = Route::direct(target.clone());
        let before = counts(&route)?;
        if before.unique_processed > 0 && !self.force {
            refuse_others(&route)?;
        }
        let measured = Load::new(&self, &target, workload)?.run()?;
        let counted = growth(before, counts(&route)?);
        let report = Report::new(&self, &route.target, seed, &measured, counted);
        if self.json {
            print(serde_json::json!(report))?;
        } else {
            print(&report)?;
        }
        Ok(if report.verified { Exit::Success } else { Exit::Fault })
    }
}

/// The body of a 200.
fn get(route: &Route, path: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    match route.get(path, PATIENCE, bytes_max) {
        Ok(answer) if answer.status == 200 => Ok(answer.body),
        Ok(answer) => Err(strange(route, path, format!("it answers {}", answer.status))),
        Err(Miss::Lasting(why)) => Err(strange(route, path, why)),
        Err(miss) => {
            Err(Failure::new(Exit::Unreachable, format!("no answer from {}: {miss}", route.uri(path))))
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn strange(route: &Route, path: &str, why: String) -> Failure {
    let path = path.split('?').next().unwrap_or_default();
    Failure::new(Exit::Fault, format!("no counts from {} ({why}): is it sekali?", route.uri(path)))
}

fn counts(route: &Route) -> Result<Counts, Failure> {
    let body = get(route, "/stats", CLIENT_STATS_BYTES_MAX)?;
    let counts: Counts =
        serde_json::from_slice(&body).map_err(|e| strange(route, "/stats", e.to_string()))?;
    match counts.fault() {
        Some(fault) => Err(strange(route, "/stats", fault)),
        None => Ok(counts),
    }
}

/// A failure if a store holds events of other topics than those of a run.
fn refuse_others(route: &Route) -> Result<(), Failure> {
    let (mut cursor, mut round) = (String::new(), Round::default());
    loop {
        let path = format!("/topics?limit={PAGE_ENTRIES}{cursor}");
        let body = get(route, &path, CLIENT_PAGE_BYTES_MAX)?;
        let strange = |why: String| strange(route, "/topics", why);
        let page = topic_page(&body, PAGE_ENTRIES).map_err(strange)?;
        for text in page.topics.0 {
            let Topic { topic, .. } = serde_json::from_str(text.get()).map_err(|e| strange(e.to_string()))?;
            if !workload::is_topic(&topic) {
                let sentence = format!(
                    "the store of {route} holds other events, such as of topic {topic:?}, and what a run stores stays for ever: use --scratch, or --force"
                );
                return Err(Failure::new(Exit::Fault, sentence));
            }
        }
        match page.next_cursor {
            Some(next) if round.was_at(&next) => {
                return Err(strange("a next_cursor that was there before".to_owned()));
            }
            Some(next) => cursor = format!("&cursor={}", escape(&next)),
            None => return Ok(()),
        }
    }
}
