//! `sekali verify` and `sekali rebuild`.

use std::path::PathBuf;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use sekali::config::{Config, Layer, StoreUrl};
use sekali::error::Error;
use sekali::metrics::Metrics;
use sekali::store::local::rebuild::rebuild;
use sekali::store::local::verify::{self, Report};
use sekali::store::local::{Options, Seams};
use sekali::store::postgres::offline::verify as database;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Store, advance, progress};
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::output::print;
use crate::cli::terminal::text::for_stdout;
use crate::cli::{database_store, local_store};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali verify --data-dir /var/lib/sekali
  sekali verify --store postgres://sekali@db1,db2,db3/events --store-password-file /run/secrets/db

A store in a directory must be stopped. One in a database is read as of one moment, so its nodes may go on.
Exit codes: 0 sound, 1 faults were found, 4 a process has the store open, 5 there is no store, 7 damage that
stops the work.")]
pub(crate) struct Verify {
    #[command(flatten)]
    store: Store,
    /// URL of the PostgreSQL database that holds the store, instead of a directory
    #[arg(long = "store", value_name = "URL", conflicts_with = "data_dir")]
    url: Option<StoreUrl>,
    /// File with the password of the database's user
    #[arg(long, value_name = "FILE")]
    store_password_file: Option<PathBuf>,
}

impl Verify {
    /// Proves that a store agrees with itself.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        // A directory that is named is meant, whatever the configuration says.
        let is_directory = self.store.data_dir.is_some();
        let store = self.url.or_else(|| is_directory.then(StoreUrl::default));
        let layer = Layer { store, store_password_file: self.store_password_file, ..Layer::default() };
        let (json, config) = (self.store.json, self.store.config(layer)?);
        if is_directory || config.is_local() {
            return check(&config, json, verify::verify, |report| Told {
                json: proof(report),
                text: proven(report),
            });
        }
        let report = in_database(&config)?;
        tell(&told_of_database(&report), &report.faults, json)
    }
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali rebuild --data-dir /var/lib/sekali
  sekali rebuild --data-dir /var/lib/sekali --json

The store must be stopped. Exit codes: 0 sound, 1 faults were found, 4 a process has the store open,
5 there is no store, 7 damage that stops the work.")]
pub(crate) struct Rebuild {
    #[command(flatten)]
    store: Store,
}

impl Rebuild {
    /// Rebuilds the indexes of a store.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (json, config) = (self.store.json, self.store.config(Layer::default())?);
        check(&config, json, rebuild, |report| Told { json: counts(report), text: rebuilt(report) })
    }
}

/// Works on the store of a data directory.
fn check(config: &Config, json: bool, work: Work, told: fn(&Report) -> Told) -> Result<Exit, Failure> {
    let bar = progress();
    let (options, seams) = (local_store::options(config), local_store::seams(Metrics::default()));
    let done = work(&options, &seams, &|done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let report = done?;
    tell(&told(&report), &report.faults, json)
}

/// Verifies the store of a database.
fn in_database(config: &Config) -> Result<database::Report, Failure> {
    let options = database_store::options(config)?;
    let runtime = Runtime::new()
        .map_err(|e| Failure::new(Exit::StoreFailed, format!("cannot start the runtime: {e}")))?;
    let bar = ProgressBar::new(0);
    let shape = "{bar:40} {pos}/{len} slots {eta}";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = runtime.block_on(database::verify(&options, &|done, total| advance(&bar, done, total)));
    bar.finish_and_clear();
    Ok(report?)
}

/// Prints a report, and says how the command ends.
fn tell(told: &Told, faults: &[String], json: bool) -> Result<Exit, Failure> {
    if json {
        print(&told.json)?;
    } else {
        print(&told.text)?;
        faults.iter().try_for_each(|fault| print(for_stdout(fault)))?;
    }
    Ok(if faults.is_empty() { Exit::Success } else { Exit::Fault })
}

fn told_of_database(report: &database::Report) -> Told {
    let all = format!(
        "{} of {}",
        several(report.events, "event", "events"),
        several(report.topics, "topic", "topics")
    );
    let text = match report.faults.len() as u64 {
        0 => format!("sound: ids, events, offsets and counters agree on {all}"),
        faults => format!("not sound: {} among {all}:", several(faults, "fault", "faults")),
    };
    let json = json!({
        "events": report.events,
        "topics": report.topics,
        "faults": report.faults,
        "sound": report.faults.is_empty(),
    });
    Told { json, text }
}

type Work = fn(&Options, &Seams, verify::Progress<'_>) -> Result<Report, Error>;

/// A report for programs and one for people.
struct Told {
    json: Value,
    text: String,
}

fn counts(report: &Report) -> Value {
    json!({
        "generations": report.generations,
        "events": report.events,
        "sealed_generations": report.sealed_generations,
        "sealed_events": report.sealed_events,
        "bytes": report.bytes,
        "faults": report.faults,
    })
}

fn proof(report: &Report) -> Value {
    let mut proof = counts(report);
    proof["sound"] = report.faults.is_empty().into();
    proof
}

fn proven(report: &Report) -> String {
    let all = format!(
        "{} in {}",
        several(report.events, "event", "events"),
        several(report.generations, "generation", "generations")
    );
    match report.faults.len() as u64 {
        0 => format!("sound: journals, indexes, filters and counters agree on {all}"),
        faults => format!("not sound: {} among {all}:", several(faults, "fault", "faults")),
    }
}

fn rebuilt(report: &Report) -> String {
    let sealed = match report.sealed_generations {
        0 => "no generation is sealed yet, so there was nothing to rebuild".to_owned(),
        sealed => format!(
            "the indexes of {} with {} were rebuilt from {}",
            several(sealed, "sealed generation", "sealed generations"),
            several(report.sealed_events, "event", "events"),
            if sealed == 1 { "its journal" } else { "their journals" },
        ),
    };
    let open = report.generations - report.sealed_generations;
    format!(
        "{} in {}\n{sealed}\n{} with {} {} not touched, but for the index, which the next start rebuilds",
        several(report.events, "event", "events"),
        several(report.generations, "generation", "generations"),
        several(open, "live generation", "generations that are not sealed"),
        several(report.events - report.sealed_events, "event", "events"),
        if open == 1 { "was" } else { "were" },
    )
}

/// A count with its noun.
fn several(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}
