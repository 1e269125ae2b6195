//! `sekali events`: reads what is stored, to its end or on and on.

mod output;
mod shape;
mod tail;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use sekali::clock::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::output::Output;
use self::shape::Shape;
use super::remote::{Patience, Remote, escape};
use super::{Exit, Failure, broken};

/// Events asked for at once.
const PAGE_EVENTS: u64 = 1_000;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali events --topic orders.paid --order desc --limit 10
  sekali events --since 2026-11-22T10:00:00Z --output events.ndjson
  sekali events --follow --topic orders.paid | jq .payload

A table on a terminal, an event a line (NDJSON) everywhere else or with --json. What is written to a file can be published again.
Exit codes: 0 done, 1 refused or the output can't be written, 9 the service could not be reached.")]
pub(super) struct Arguments {
    #[command(flatten)]
    patience: Patience,
    /// Only events of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only events from this source
    #[arg(long)]
    source: Option<String>,
    /// Only events that arrived at or after this time, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Only events that arrived before this time
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "follow")]
    until: Option<String>,
    /// By arrival: oldest or newest first
    #[arg(long, value_name = "ORDER", default_value = "asc", value_parser = ["asc", "desc"], conflicts_with = "follow")]
    order: String,
    /// At most so many events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Go on as events arrive
    #[arg(long, short)]
    follow: bool,
    /// Print an event a line as JSON
    #[arg(long)]
    json: bool,
    /// Write to this file, as JSON; it is there only once it is complete; - is stdout
    #[arg(long, short, value_name = "FILE", conflicts_with = "follow")]
    output: Option<PathBuf>,
}

/// A time as the service takes it; as it was given.
fn time(text: &str) -> Result<String, String> {
    Timestamp::parse(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| "use a time such as 2026-11-22T10:00:00Z".to_owned())
}

/// One page.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

impl Arguments {
    pub(super) fn run(mut self) -> Result<Exit, Failure> {
        let path = self.output.take();
        let Some(path) = path.as_ref().filter(|path| path.as_os_str() != "-") else {
            let stdout = io::stdout();
            let is_table = !self.json && path.is_none() && stdout.is_terminal();
            let shape = if is_table { Shape::table() } else { Shape::Lines };
            let mut out = BufWriter::new(stdout.lock());
            let hidden = ProgressBar::hidden();
            return self.write(&mut out, shape, &hidden).map(|()| Exit::Success);
        };
        let unwritable =
            |e: io::Error| Failure::new(Exit::Fault, format!("cannot write {}: {e}", path.display()));
        let mut out = BufWriter::new(Output::open(path).map_err(unwritable)?);
        self.write(&mut out, Shape::Lines, &progress())?;
        out.get_mut().complete().map_err(unwritable)?;
        Ok(Exit::Success)
    }

    fn write(self, out: &mut impl Write, mut shape: Shape, bar: &ProgressBar) -> Result<(), Failure> {
        let filters = self.filters();
        let mut remote = Remote::from(self.patience);
        if self.follow {
            return tail::follow(&mut remote, &filters, self.limit, out, shape);
        }
        let (mut left, mut cursor) = (self.limit.unwrap_or(u64::MAX), String::new());
        while left > 0 {
            let limit = left.min(PAGE_EVENTS);
            let body = remote.get(&format!("/events?limit={limit}&order={}{filters}{cursor}", self.order))?;
            let malformed = |e| Failure::new(Exit::Fault, format!("{} answers no page: {e}", remote.host()));
            let page: Page<'_> = serde_json::from_slice(&body).map_err(malformed)?;
            left -= (page.events.len() as u64).min(left);
            shape.write(out, page.events.iter().map(|event| event.get())).map_err(broken)?;
            bar.inc(page.events.len() as u64);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={}", escape(&next)),
                None => break,
            }
        }
        out.flush().map_err(broken)?;
        bar.finish_and_clear();
        Ok(())
    }

    /// As they stand in a query, each behind a `&`.
    fn filters(&self) -> String {
        let filters = [
            ("topic", &self.topic),
            ("source", &self.source),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = filters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.map(|(name, value)| format!("&{name}={}", escape(value))).collect()
    }
}

/// Events read, on a terminal's stderr; hidden elsewhere.
fn progress() -> ProgressBar {
    let shape = ProgressStyle::with_template("{spinner} {human_pos} events {per_sec} {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar.with_style(shape.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
