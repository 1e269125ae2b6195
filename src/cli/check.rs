//! `sekali verify` and `sekali rebuild`: work on a store that no process has open.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use sekali::config::{Config, Layer};
use serde::Serialize;

use super::{Exit, Failure, File, logging, print};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali verify --data-dir /var/lib/sekali
  sekali rebuild --data-dir /var/lib/sekali --json

The store must be stopped. Exit codes: 0 sound, 1 faults were found, 4 a process has the store open,
5 there is no store, 7 damage that stops the work.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: File,
    /// Directory that holds the store
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Generations looked at.
    generations: u64,
    /// Events looked at.
    events: u64,
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
        let config = self.file.resolve(Layer { data_dir: self.data_dir, ..Layer::default() })?;
        logging::start(&config)?;
        let progress = progress();
        let report = work(&config, &progress)?;
        progress.finish_and_clear();
        if self.json {
            print(serde_json::json!(report))?;
        } else {
            print(format_args!("{} events in {} generations", report.events, report.generations))?;
            report.faults.iter().try_for_each(print)?;
        }
        Ok(if report.faults.is_empty() { Exit::Success } else { Exit::Fault })
    }
}

/// Bytes done of all bytes, on a terminal's stderr; hidden elsewhere.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let shape = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// SEAM: proves that the store in `config.data_dir` agrees with itself. Sets the bar's length and position in bytes.
fn verify_store(config: &Config, progress: &ProgressBar) -> Result<Report, Failure> {
    absent(config, progress)
}

/// SEAM: makes the indexes of the store in `config.data_dir` anew. Sets the bar's length and position in bytes.
fn rebuild_store(config: &Config, progress: &ProgressBar) -> Result<Report, Failure> {
    absent(config, progress)
}

fn absent(config: &Config, _progress: &ProgressBar) -> Result<Report, Failure> {
    Err(Failure::new(Exit::Unusable, format!("there is no store in {}", config.data_dir.display())))
}
