//! `sekali stats` and `sekali topics`: what the service has counted.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use sekali::clock::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::remote::{Place, Remote, escape};
use super::table::Table;
use super::{Exit, Failure, broken, print};

/// Topics asked for at once.
const PAGE_TOPICS: usize = 1_000;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali stats
  sekali stats --watch                 a line every two seconds, with rates
  sekali stats --watch=10 --json

Exit codes: 0 done, 1 refused, 9 the service could not be reached.")]
pub(super) struct StatsArguments {
    #[command(flatten)]
    place: Place,
    /// Look again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// Print the answer of /stats, a line each time
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Stats {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    rejected: u64,
    topics: Vec<String>,
    uptime_seconds: f64,
}

impl StatsArguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::from(self.place);
        let mut before: Option<(Instant, Stats)> = None;
        loop {
            let body = remote.get("/stats")?;
            let now = SystemClock.monotonic();
            let malformed =
                |e| Failure::new(Exit::Fault, format!("{} answers no totals: {e}", remote.host()));
            let stats: Stats = serde_json::from_slice(&body).map_err(malformed)?;
            match (self.json, self.watch) {
                (true, _) => print(String::from_utf8_lossy(&body))?,
                (false, None) => show(&stats)?,
                (false, Some(_)) => show_rates(before.as_ref(), now, &stats)?,
            }
            let Some(seconds) = self.watch else { return Ok(Exit::Success) };
            before = Some((now, stats));
            std::thread::sleep(Duration::from_secs(seconds));
        }
    }
}

fn show(stats: &Stats) -> Result<(), Failure> {
    for (number, what) in [
        (stats.unique_processed, "events stored"),
        (stats.duplicate_dropped, "dropped, as stored before"),
        (stats.conflicts, "of these with another payload"),
        (stats.rejected, "refused"),
        (stats.topics.len() as u64, "topics"),
        (stats.uptime_seconds as u64, "seconds up"),
    ] {
        print(format_args!("{number:>12} {what}"))?;
    }
    Ok(())
}

fn show_rates(before: Option<&(Instant, Stats)>, now: Instant, stats: &Stats) -> Result<(), Failure> {
    let rate = |of: fn(&Stats) -> u64| {
        before.map_or(0.0, |(then, earlier)| {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            of(stats).saturating_sub(of(earlier)) as f64 / seconds.max(0.001)
        })
    };
    if before.is_none() {
        let heading = ["stored", "stored/s", "dropped", "dropped/s", "conflicts", "refused"];
        print(heading.map(|name| format!("{name:>14}")).concat())?;
    }
    print(format_args!(
        "{:>14}{:>14.0}{:>14}{:>14.0}{:>14}{:>14}",
        stats.unique_processed,
        rate(|stats| stats.unique_processed),
        stats.duplicate_dropped,
        rate(|stats| stats.received - stats.unique_processed.min(stats.received)),
        stats.conflicts,
        stats.rejected
    ))
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali topics
  sekali topics --json | jq -r .topic

A table on a terminal, a topic a line (NDJSON) everywhere else or with --json.
Exit codes: 0 done, 1 refused, 9 the service could not be reached.")]
pub(super) struct TopicsArguments {
    #[command(flatten)]
    place: Place,
    /// Print a topic a line as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    topics: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Topic {
    topic: String,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    first_received_at: String,
    last_received_at: String,
}

impl TopicsArguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::from(self.place);
        let stdout = io::stdout();
        let is_table = !self.json && stdout.is_terminal();
        let mut out = stdout.lock();
        let mut table = Table::new(["topic", "stored", "dropped", "conflicts", "first", "last"]);
        let mut cursor = String::new();
        loop {
            let body = remote.get(&format!("/topics?limit={PAGE_TOPICS}{cursor}"))?;
            let malformed =
                |e| Failure::new(Exit::Fault, format!("{} answers no topics: {e}", remote.host()));
            let page: Page<'_> = serde_json::from_slice(&body).map_err(malformed)?;
            match is_table {
                true => show_topics(&mut out, &mut table, &page.topics),
                false => page.topics.iter().try_for_each(|topic| writeln!(out, "{topic}")),
            }
            .map_err(broken)?;
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={}", escape(&next)),
                None => return Ok(Exit::Success),
            }
        }
    }
}

fn show_topics(out: &mut impl Write, table: &mut Table<6>, topics: &[&RawValue]) -> io::Result<()> {
    let topics = topics.iter().filter_map(|text| serde_json::from_str::<Topic>(text.get()).ok());
    let rows: Vec<_> = topics
        .map(|topic| {
            let numbers = [topic.unique_processed, topic.duplicate_dropped, topic.conflicts];
            let [stored, dropped, conflicts] = numbers.map(|number| number.to_string());
            [topic.topic, stored, dropped, conflicts, topic.first_received_at, topic.last_received_at]
        })
        .collect();
    table.write(out, &rows)
}
