//! `sekali verify` and `sekali rebuild`: work on a store that no process has open.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use sekali::config::{Config, Layer};
use sekali::metrics::Metrics;
use sekali::store::local::verify;
use serde::Serialize;

use super::{Exit, Failure, File, keep_private, logging, print, store_options, store_seams};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali verify --data-dir /var/lib/sekali
  sekali rebuild --data-dir /var/lib/sekali --json

The store must be stopped. Exit codes: 0 sound, 1 faults were found, 4 a process has the store open,
5 there is no store, 7 damage that stops the work.")]
pub(super) struct Arguments {
    #[command(flatten)]
    store: Store,
}

/// A store that no process has open, and how to report.
#[derive(clap::Args)]
pub(super) struct Store {
    #[command(flatten)]
    file: File,
    /// Directory that holds the store
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Store {
    /// The configuration with this store's directory; logging has begun, and files are made for
    /// this user alone.
    pub(super) fn config(self) -> Result<Config, Failure> {
        let config = self.file.resolve(Layer { data_dir: self.data_dir, ..Layer::default() })?;
        logging::start(&config)?;
        keep_private();
        Ok(config)
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Generations looked at.
    generations: u64,
    /// Events looked at.
    events: u64,
    /// Bytes of journal looked at.
    bytes: u64,
    /// What is wrong, a sentence each.
    faults: Vec<String>,
}

impl Arguments {
    pub(super) fn verify(self) -> Result<Exit, Failure> {
        self.check(verify_store)
    }

    pub(super) fn rebuild(self) -> Result<Exit, Failure> {
        self.check(rebuild_store)
    }

    fn check(self, work: fn(&Config, &ProgressBar) -> Result<Report, Failure>) -> Result<Exit, Failure> {
        let (json, config) = (self.store.json, self.store.config()?);
        let progress = progress();
        let report = work(&config, &progress)?;
        progress.finish_and_clear();
        if json {
            print(serde_json::json!(report))?;
        } else {
            print(format_args!("{} events in {} generations", report.events, report.generations))?;
            report.faults.iter().try_for_each(print)?;
        }
        Ok(if report.faults.is_empty() { Exit::Success } else { Exit::Fault })
    }
}

/// Bytes done of all bytes, on a terminal's stderr; hidden elsewhere.
pub(super) fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let shape = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Proves that the store in `config.data_dir` agrees with itself.
fn verify_store(config: &Config, progress: &ProgressBar) -> Result<Report, Failure> {
    let report = verify::verify(&store_options(config), &store_seams(Metrics::default()), &|done, total| {
        show(progress, done, total);
    })?;
    Ok(report.into())
}

/// Makes the indexes of the store in `config.data_dir` anew.
fn rebuild_store(config: &Config, progress: &ProgressBar) -> Result<Report, Failure> {
    let report =
        verify::rebuild(&store_options(config), &store_seams(Metrics::default()), &|done, total| {
            show(progress, done, total);
        })?;
    Ok(report.into())
}

pub(super) fn show(progress: &ProgressBar, done: u64, total: u64) {
    progress.set_length(total);
    progress.set_position(done);
}

impl From<verify::Report> for Report {
    fn from(report: verify::Report) -> Self {
        let verify::Report { generations, events, bytes, faults } = report;
        Self { generations, events, bytes, faults }
    }
}
