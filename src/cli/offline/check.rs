//! `sekali verify` and `sekali rebuild`: work on a store that no process has open.

use indicatif::HumanCount;
use sekali::error::Error;
use sekali::metrics::Metrics;
use sekali::store::local::rebuild::rebuild;
use sekali::store::local::verify::{self, Report};
use sekali::store::local::{Options, Seams};
use serde_json::{Value, json};

use super::{Store, advance, progress};
use crate::cli::exit::{Exit, Failure};
use crate::cli::local_store;
use crate::cli::terminal::output::print;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali verify --data-dir /var/lib/sekali
  sekali rebuild --data-dir /var/lib/sekali --json

The store must be stopped. Exit codes: 0 sound, 1 faults were found, 4 a process has the store open,
5 there is no store, 7 damage that stops the work.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    store: Store,
}

impl Arguments {
    /// Proves that a store agrees with itself.
    pub(crate) fn verify(self) -> Result<Exit, Failure> {
        self.check(verify::verify, |report| Told { json: proof(report), text: proven(report) })
    }

    /// Rebuilds the indexes of a store.
    pub(crate) fn rebuild(self) -> Result<Exit, Failure> {
        self.check(rebuild, |report| Told { json: counts(report), text: rebuilt(report) })
    }

    fn check(self, work: Work, tell: fn(&Report) -> Told) -> Result<Exit, Failure> {
        let (json, config) = (self.store.json, self.store.config()?);
        let bar = progress();
        let (options, seams) = (local_store::options(&config), local_store::seams(Metrics::default()));
        let done = work(&options, &seams, &|done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        let report = done?;
        let told = tell(&report);
        if json {
            print(told.json)?;
        } else {
            print(told.text)?;
            report.faults.iter().try_for_each(print)?;
        }
        Ok(if report.faults.is_empty() { Exit::Success } else { Exit::Fault })
    }
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
        0 => "no generation is sealed yet, so there was nothing to make anew".to_owned(),
        sealed => format!(
            "the indexes of {} with {} were made anew from {}",
            several(sealed, "sealed generation", "sealed generations"),
            several(report.sealed_events, "event", "events"),
            if sealed == 1 { "its journal" } else { "their journals" },
        ),
    };
    let open = report.generations - report.sealed_generations;
    format!(
        "{} in {}\n{sealed}\n{} with {} {} not touched, but for the index, which the next start makes anew",
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
