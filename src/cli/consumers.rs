//! `sekali consumers`: how far each consumer has got, and moving one.

use std::io::{self, BufRead, IsTerminal, Write};

use sekali::consumer::ConsumerName;
use sekali::limits::CLIENT_PAGE_BYTES_MAX;
use serde_json::json;
use ureq::http::Method;

use super::client::answers::{Consumer, ConsumerPage, Lease, PAGE_ENTRIES};
use super::client::listing::Listing;
use super::client::moment::place;
use super::client::remote::Remote;
use super::client::target::ServiceUrl;
use super::exit::{Exit, Failure};
use super::terminal::output::{print, unwritable};
use super::terminal::table::Table;
use super::terminal::text::for_stdout;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali consumers
  sekali consumers --json | jq 'select(.lag > 1000) | .name'
  sekali consumers seek billing 2026-11-22T10:00:00Z
  sekali consumers seek billing 10m

A table on a terminal, a consumer a line (NDJSON) everywhere else or with --json.
Exit codes: 0 done, 1 refused, 9 the service could not be reached.")]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    service: ServiceUrl,
    /// Print a consumer a line as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(clap::Subcommand)]
enum Step {
    /// Move a consumer, forwards or back, in all its topics
    Seek(SeekArguments),
}

#[derive(clap::Args)]
struct SeekArguments {
    #[command(flatten)]
    service: ServiceUrl,
    /// The name of the consumer
    name: ConsumerName,
    /// start, end, a time such as 2026-11-22T10:00:00Z, how long ago (10m), or a cursor that /events gave
    #[arg(value_parser = place)]
    to: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.step {
            Some(Step::Seek(arguments)) => arguments.run(),
            None => list(self.service, self.json),
        }
    }
}

fn list(service: ServiceUrl, is_json: bool) -> Result<Exit, Failure> {
    let mut remote = Remote::look(service)?;
    let stdout = io::stdout();
    let is_table = !is_json && stdout.is_terminal();
    let mut out = stdout.lock();
    let mut table = Table::new(["consumer", "topics", "lag", "seconds", "read by", "last error"]);
    let mut listing = Listing::default();
    loop {
        let path = format!("/consumers?limit={PAGE_ENTRIES}{}", listing.cursor());
        let body = remote.get(&path, CLIENT_PAGE_BYTES_MAX)?;
        let strange = |why: String| remote.strange("/consumers", "a page of consumers", why);
        let page: ConsumerPage<'_> = serde_json::from_slice(&body).map_err(|e| strange(e.to_string()))?;
        let entries = &page.consumers.0;
        let consumers = entries.iter().map(|text| serde_json::from_str::<Consumer>(text.get()));
        let consumers: Vec<_> = consumers.collect::<Result<_, _>>().map_err(|e| strange(e.to_string()))?;
        let lines: String = match is_table {
            true => table.render(&consumers.into_iter().map(row).collect::<Vec<_>>()),
            false => entries.iter().map(|text| format!("{}\n", for_stdout(text.get()))).collect(),
        };
        out.write_all(lines.as_bytes()).map_err(unwritable)?;
        if !listing.advance(page.next_cursor).map_err(strange)? {
            return Ok(Exit::Success);
        }
    }
}

fn row(consumer: Consumer) -> [String; 6] {
    let reader = |lease: &Lease| format!("{} ({})", lease.holder, lease.partition);
    let readers: Vec<_> = consumer.leases.iter().map(reader).collect();
    let (lag, seconds) = (consumer.lag.to_string(), format!("{:.0}", consumer.lag_seconds));
    let error = consumer.last_error.map(|error| format!("{} {}", error.at, error.reason)).unwrap_or_default();
    [consumer.name, consumer.topics.join(" "), lag, seconds, readers.join(", "), error]
}

impl SeekArguments {
    fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::look(self.service.clone())?;
        if !self.yes {
            self.confirm()?;
        }
        let path = format!("/consumers/{}/seek", self.name);
        let answer = remote.send(Method::POST, &path, &json!({"to": self.to}))?;
        if answer.status != 200 {
            return Err(remote.refused(&path, &answer));
        }
        let strange = |e: serde_json::Error| remote.strange(&path, "a consumer", e);
        let consumer: Consumer = serde_json::from_slice(&answer.body).map_err(strange)?;
        print(format_args!(
            "{} goes on at {}, {} events before the end",
            consumer.name, self.to, consumer.lag
        ))?;
        Ok(Exit::Success)
    }

    /// Asks whoever sits at the terminal.
    fn confirm(&self) -> Result<(), Failure> {
        let refuse = |why: &str| Err(Failure::new(Exit::Fault, why));
        if !io::stdin().is_terminal() {
            return refuse(
                "a move gives events again or passes over some: say --yes where nobody can be asked",
            );
        }
        let mut stderr = io::stderr();
        let asked = write!(
            stderr,
            "Move {} to {}? Events are given again, or passed over; what its workers hold is taken from them. [y/N] ",
            self.name, self.to
        );
        asked.and_then(|()| stderr.flush()).map_err(unwritable)?;
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        match read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
            true => Ok(()),
            false => refuse("not moved"),
        }
    }
}
