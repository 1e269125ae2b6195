//! `sekali stats` and `sekali topics`: what the service has counted.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use sekali::clock::{Clock, SystemClock};
use sekali::limits::{CLIENT_PAGE_BYTES_MAX, CLIENT_STATS_BYTES_MAX};

use super::client::answers::{Counts, PAGE_ENTRIES, Stats, Topic, topic_page};
use super::client::listing::Listing;
use super::client::remote::Remote;
use super::client::target::ServiceUrl;
use super::exit::{Exit, Failure};
use super::terminal::output::{print, unwritable};
use super::terminal::table::Table;
use super::terminal::text::for_stdout;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali stats
  sekali stats --watch                 a line every two seconds, with rates
  sekali stats --watch=10 --json

Exit codes: 0 done, 1 refused, 9 the service could not be reached.")]
pub(super) struct StatsArguments {
    #[command(flatten)]
    service: ServiceUrl,
    /// Look again after this number of seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// Print the answer of /stats, a line each time
    #[arg(long)]
    json: bool,
}

impl StatsArguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::look(self.service)?;
        let mut before: Option<(Instant, Stats)> = None;
        loop {
            let body = remote.get("/stats", CLIENT_STATS_BYTES_MAX)?;
            let now = SystemClock.monotonic();
            let strange = |why: String| remote.strange("/stats", "totals", why);
            let stats: Stats = serde_json::from_slice(&body).map_err(|e| strange(e.to_string()))?;
            if let Some(fault) = stats.counts().fault() {
                return Err(strange(fault));
            }
            match (self.json, self.watch) {
                (true, _) => print(for_stdout(&String::from_utf8_lossy(&body)))?,
                (false, None) => print_totals(&stats)?,
                (false, Some(_)) => print_rates(before.as_ref(), now, &stats)?,
            }
            let Some(seconds) = self.watch else { return Ok(Exit::Success) };
            before = Some((now, stats));
            std::thread::sleep(Duration::from_secs(seconds));
        }
    }
}

fn print_totals(stats: &Stats) -> Result<(), Failure> {
    let counts = stats.counts();
    for (number, what) in [
        (Some(counts.unique_processed), "events stored"),
        (Some(counts.duplicate_dropped), "dropped, as stored before"),
        (Some(counts.conflicts), "of these with another payload"),
        (stats.rejected, "refused"),
        (Some(stats.topics.len() as u64), "topics"),
        (Some(stats.uptime_seconds as u64), "seconds up"),
    ] {
        print(format_args!("{:>12} {what}", shown(number)))?;
    }
    Ok(())
}

fn print_rates(before: Option<&(Instant, Stats)>, now: Instant, stats: &Stats) -> Result<(), Failure> {
    let counts = stats.counts();
    let rate = |of: fn(&Counts) -> u64| {
        before.map_or(0.0, |(then, earlier)| {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            of(&counts).saturating_sub(of(&earlier.counts())) as f64 / seconds.max(0.001)
        })
    };
    if before.is_none() {
        let heading = ["stored", "stored/s", "dropped", "dropped/s", "conflicts", "refused"];
        print(heading.map(|name| format!("{name:>14}")).concat())?;
    }
    print(format_args!(
        "{:>14}{:>14.0}{:>14}{:>14.0}{:>14}{:>14}",
        counts.unique_processed,
        rate(|counts| counts.unique_processed),
        counts.duplicate_dropped,
        rate(|counts| counts.duplicate_dropped),
        counts.conflicts,
        shown(stats.rejected)
    ))
}

/// A number, or that it is not for this reader to know.
fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali topics
  sekali topics --json | jq -r .topic

A table on a terminal, a topic a line (NDJSON) everywhere else or with --json.
Exit codes: 0 done, 1 refused, 9 the service could not be reached.")]
pub(super) struct TopicsArguments {
    #[command(flatten)]
    service: ServiceUrl,
    /// Print a topic a line as JSON
    #[arg(long)]
    json: bool,
}

impl TopicsArguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::look(self.service)?;
        let stdout = io::stdout();
        let is_table = !self.json && stdout.is_terminal();
        let mut out = stdout.lock();
        let mut table = Table::new(["topic", "stored", "dropped", "conflicts", "first", "last"]);
        let mut listing = Listing::default();
        loop {
            let path = format!("/topics?limit={PAGE_ENTRIES}{}", listing.cursor());
            let body = remote.get(&path, CLIENT_PAGE_BYTES_MAX)?;
            let strange = |why: String| remote.strange("/topics", "a page of topics", why);
            let page = topic_page(&body, PAGE_ENTRIES).map_err(strange)?;
            let topics = page.topics.0.iter().map(|text| serde_json::from_str::<Topic>(text.get()));
            let topics: Vec<Topic> = topics.collect::<Result<_, _>>().map_err(|e| strange(e.to_string()))?;
            let lines: String = match is_table {
                true => table.render(&topics.into_iter().map(row).collect::<Vec<_>>()),
                false => page.topics.0.iter().map(|topic| format!("{}\n", for_stdout(topic.get()))).collect(),
            };
            out.write_all(lines.as_bytes()).map_err(unwritable)?;
            if !listing.advance(page.next_cursor).map_err(strange)? {
                return Ok(Exit::Success);
            }
        }
    }
}

fn row(topic: Topic) -> [String; 6] {
    let numbers = [topic.unique_processed, topic.duplicate_dropped, topic.conflicts];
    let [stored, dropped, conflicts] = numbers.map(|number| number.to_string());
    [topic.topic, stored, dropped, conflicts, topic.first_received_at, topic.last_received_at]
}
