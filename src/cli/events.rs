//! `sekali events`: reads what is stored, to its end or on and on.

mod follow;
mod format;
mod output;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressFinish};
use sekali::limits::CLIENT_PAGE_BYTES_MAX;

use self::follow::Newest;
use self::format::{Asked, Format};
use self::output::Output;
use super::client::answers::{PAGE_ENTRIES, event_page};
use super::client::listing::Listing;
use super::client::moment::time;
use super::client::remote::{Patience, Remote, escape};
use super::exit::{Exit, Failure};
use super::terminal::output::unwritable;
use super::terminal::progress;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali events --topic orders.paid --order desc --limit 10
  sekali events --since 2026-11-22T10:00:00Z --output events.ndjson
  sekali events --since 10m                     of the last ten minutes; 2h, 3d
  sekali events --follow --topic orders.paid | jq .payload
  sekali events --follow --from now             only what comes from now on

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
    /// Only events that arrived at or after this time, such as 2026-11-22T10:00:00Z; or
    /// within a span up to now: 10m, 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Only events that arrived before this time, or before such a span
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "follow")]
    until: Option<String>,
    /// Oldest first or newest first, by time of arrival
    #[arg(long, value_name = "ORDER", default_value = "asc", value_parser = ["asc", "desc"], conflicts_with = "follow")]
    order: String,
    /// Return at most this number of events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Go on as events arrive
    #[arg(long, short)]
    follow: bool,
    /// Where to begin to follow: start or now
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "start",
        requires = "follow",
        conflicts_with = "since",
        hide_possible_values = true
    )]
    from: Beginning,
    /// Print an event a line as JSON
    #[arg(long)]
    json: bool,
    /// Write to this file, as JSON; it is there only once it is complete; - is stdout
    #[arg(long, short, value_name = "FILE", conflicts_with = "follow")]
    output: Option<PathBuf>,
}

/// Where `--follow` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Beginning {
    /// The oldest event
    Start,
    /// What is stored from now on
    Now,
}

impl Arguments {
    pub(super) fn run(mut self) -> Result<Exit, Failure> {
        let path = self.output.take();
        let Some(path) = path.as_ref().filter(|path| path.as_os_str() != "-") else {
            let stdout = io::stdout();
            let is_table = !self.json && path.is_none() && stdout.is_terminal();
            let format = if is_table { Format::table() } else { Format::lines(&stdout) };
            let mut out = BufWriter::new(stdout.lock());
            let hidden = ProgressBar::hidden();
            return self.write(&mut out, format, &hidden).map(|()| Exit::Success);
        };
        let unwritable =
            |e: io::Error| Failure::new(Exit::Fault, format!("cannot write {}: {e}", path.display()));
        let output = Output::open(path).map_err(unwritable)?;
        let format = Format::lines(output.file());
        let mut out = BufWriter::new(output);
        self.write(&mut out, format, &event_counter())?;
        let output = out.into_inner().map_err(|e| unwritable(e.into_error()))?;
        output.complete().map_err(unwritable)?;
        Ok(Exit::Success)
    }

    fn write(self, out: &mut impl Write, mut format: Format, bar: &ProgressBar) -> Result<(), Failure> {
        let filters = self.filters();
        let asked = Asked { topic: self.topic.clone(), source: self.source.clone() };
        let mut remote = Remote::reader(self.patience)?;
        if self.follow {
            let newest = match self.from {
                Beginning::Start => None,
                Beginning::Now => Some(Newest::of(&mut remote, self.topic.as_deref())?),
            };
            return follow::follow(&mut remote, (&filters, &asked), newest.as_ref(), self.limit, out, format);
        }
        let (mut left, mut listing) = (self.limit.unwrap_or(u64::MAX), Listing::default());
        while left > 0 {
            let limit = left.min(PAGE_ENTRIES);
            let path = format!("/events?limit={limit}&order={}{filters}{}", self.order, listing.cursor());
            let body = remote.get(&path, CLIENT_PAGE_BYTES_MAX)?;
            let strange = |why: String| remote.strange(&path, "a page of events", why);
            let page = event_page(&body, limit).map_err(strange)?;
            let events = page.events.0.iter().map(|event| event.get());
            let rendered = format.render(events, &asked).map_err(strange)?;
            out.write_all(rendered.as_bytes()).map_err(unwritable)?;
            left -= page.events.0.len() as u64;
            bar.inc(page.events.0.len() as u64);
            if !listing.advance(page.next_cursor).map_err(strange)? {
                break;
            }
        }
        out.flush().map_err(unwritable)?;
        bar.finish_and_clear();
        Ok(())
    }

    /// The filters as a query has them, each after a `&`.
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

/// The number of events read, on a terminal's stderr; hidden elsewhere. It is cleared however the
/// command ends.
fn event_counter() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar.with_style(progress::style("{spinner} {human_pos} events, {rate} {elapsed}"))
}
