//! `sekali publish`: sends what a file, a pipe or a SQLite database holds.
//!
//! ```text
//! input (gzip or zstd is unpacked: lines, a document; or a database) → Sender (chunks of lines, tried again) → totals
//! ```

mod document;
mod publish_answer;
mod sender;
mod sqlite;
mod unpacked;

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressFinish};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::sender::Sender;
use self::sqlite::Plan;
use self::unpacked::Unpacked;
use super::client::remote::{Patience, Remote};
use super::exit::{Exit, Failure};
use super::terminal::interrupt::{Interrupt, Interruptible};
use super::terminal::output::print;
use super::terminal::progress;

/// Longest that an input says nothing before the lines that came are sent.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali publish events.ndjson                  an event a line, of any size
  sekali publish events.ndjson.gz               what gzip or zstd has packed
  sekali publish event.json                     an event, an array, or {\"events\": […]}
  producer | sekali publish -                   what comes on stdin
  sekali publish --sqlite aggregator.db         move over from a SQLite database; try --dry-run first

What is sent again is not stored again: after a fault or Ctrl-C, run the same command once more.
Exit codes: 0 all is stored, 1 something was refused, 9 the service could not be reached, 130 interrupted.")]
pub(super) struct Arguments {
    #[command(flatten)]
    patience: Patience,
    /// File of events: JSON or NDJSON, as it is or packed with gzip or zstd; - is stdin
    #[arg(required_unless_present = "sqlite", conflicts_with_all = [
        "sqlite", "table", "dedup_table", "columns", "topic", "dry_run", "payload_as_text", "ids_only",
    ])]
    file: Option<PathBuf>,
    #[command(flatten)]
    database: sqlite::Database,
    /// Print the totals as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let plan = self.database.plan()?;
        if let (Some(plan), true) = (&plan, self.database.is_dry_run()) {
            return plan.foretell(self.json);
        }
        // Opening may wait for a pipe's other end: until it is done, Ctrl-C ends the process at
        // once.
        let input = match plan {
            Some(plan) => Input::Database(Box::new(plan)),
            None => open(&self.file.unwrap_or_else(|| "-".into()))?,
        };
        let interrupt = Interrupt::watch()?;
        let remote = Remote::sender(self.patience, interrupt.clone())?;
        let (mut sender, fed) = match input {
            Input::Database(plan) => {
                let name = plan.path.display().to_string();
                let mut sender = Sender::new(remote, name, "row", progress(None), interrupt.clone());
                let fed = plan.feed(&mut sender);
                (sender, fed)
            }
            Input::File { file, name, length } => {
                let bar = progress(length);
                let other = file.try_clone().map_err(|e| unreadable(&name, &e))?;
                let input = Interruptible::new(file, name.clone(), interrupt.clone());
                let input = BufReader::with_capacity(1 << 16, bar.wrap_read(input));
                let input = BufReader::with_capacity(1 << 16, Unpacked::new(input, name.clone()));
                let mut sender = Sender::new(remote, name, "line", bar, interrupt.clone());
                let fed = document::feed(input, &mut sender, &|| stands_still(&other));
                (sender, fed)
            }
        };
        // An interrupt breaks off whatever fails then.
        let fed = fed.map_err(|failure| interrupt.check().err().unwrap_or(failure));
        let sent = match &fed {
            Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::Interrupted) => Ok(()),
            // What could be read is sent, whatever follows it.
            _ => sender.flush(),
        };
        let totals = sender.finish();
        let done = fed.and(sent);
        if self.json {
            print(serde_json::json!(totals))?;
        } else if done.is_ok() || totals.is_any() {
            // Before a failure, three zeros would say nothing.
            print(&totals)?;
        }
        done.map(|()| if totals.rejected == 0 { Exit::Success } else { Exit::Fault })
    }
}

enum Input {
    Database(Box<Plan>),
    File {
        file: File,
        /// What it is called in a sentence.
        name: String,
        /// Its bytes, if it has an end.
        length: Option<u64>,
    },
}

fn open(path: &Path) -> Result<Input, Failure> {
    if path.as_os_str() == "-" {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let file = stdin.map_err(|e| unreadable("stdin", &e))?.into();
        return Ok(Input::File { file, name: "stdin".to_owned(), length: None });
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| unreadable(&name, &e))?;
    let length = file.metadata().map_err(|e| unreadable(&name, &e))?;
    let length = length.is_file().then_some(length.len());
    Ok(Input::File { file, name, length })
}

fn unreadable(name: &str, e: &io::Error) -> Failure {
    Failure::new(Exit::Fault, format!("cannot read {name}: {e}"))
}

/// Whether nothing comes for a moment, and the end does not either.
fn stands_still(input: &File) -> bool {
    matches!(poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&MOMENT)), Ok(0))
}

/// Bytes read, on a terminal's stderr; hidden elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, shape) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    bar.with_style(progress::style(shape)).with_finish(ProgressFinish::AndClear)
}
