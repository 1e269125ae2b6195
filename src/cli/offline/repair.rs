//! `sekali repair`: gives up what is damaged in journals, when no copy is left to restore.

use indicatif::HumanCount;
use sekali::config::Layer;
use sekali::metrics::Metrics;
use sekali::store::local::repair::{self, Loss, Repaired};
use serde_json::json;

use super::{Store, advance, progress};
use crate::cli::exit::{Exit, Failure};
use crate::cli::local_store;
use crate::cli::terminal::output::print;
use crate::cli::terminal::text::for_stdout;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali repair --data-dir /var/lib/sekali                 # what would be lost
  sekali repair --data-dir /var/lib/sekali --accept-loss   # give it up

Restoring a copy of the data directory loses nothing and comes first. Without --accept-loss nothing is
changed. With it, what is damaged is never read again, the offsets in it are not used again, and its events
may be published again; those that can still be read are in the file that is named at the end. What an earlier
repair gave up is told again. A whole MANIFEST that a power cut has left under a temporary name is put in its
place.

The store must be stopped. Exit codes: 0 nothing is damaged or all of it is given up, 1 damage was found,
4 a process has the store open, 5 there is no store, 7 damage that can't be repaired.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    store: Store,
    /// Give up what is damaged
    #[arg(long)]
    accept_loss: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (json, config) = (self.store.json, self.store.config(Layer::default())?);
        let bar = progress();
        let (options, seams) = (local_store::options(&config), local_store::seams(Metrics::default()));
        let repaired = repair::repair(&options, &seams, self.accept_loss, &|done, total| {
            advance(&bar, done, total);
        })?;
        bar.finish_and_clear();
        if json {
            print(as_json(&repaired))?;
        } else {
            tell(&repaired)?;
        }
        Ok(if repaired.is_done { Exit::Success } else { Exit::Fault })
    }
}

fn as_json(repaired: &Repaired) -> serde_json::Value {
    let Repaired { losses, given_up, events, salvaged, manifest, is_done } = repaired;
    let loss = |loss: &Loss| {
        let offsets =
            |(topic, first, next): &(String, u64, u64)| json!({"topic": topic, "first": first, "next": next});
        json!({
            "journal": loss.path,
            "bytes": [loss.bytes.0, loss.bytes.1],
            "events": loss.events,
            "salvaged": loss.salvaged,
            "offsets": loss.offsets.iter().map(offsets).collect::<Vec<_>>(),
        })
    };
    json!({
        "repaired": is_done,
        "events": events,
        "lost": losses.iter().map(loss).collect::<Vec<_>>(),
        "given_up": given_up.iter().map(loss).collect::<Vec<_>>(),
        "salvaged_to": salvaged,
        "manifest_found": manifest,
    })
}

fn tell(repaired: &Repaired) -> Result<(), Failure> {
    if let Some(path) = &repaired.manifest {
        let done = if repaired.is_done { "was put" } else { "can be put" };
        print(format_args!("MANIFEST is missing; {} is whole, and {done} in its place", path.display()))?;
    }
    repaired.given_up.iter().try_for_each(|loss| tell_loss(loss, "were given up by an earlier repair"))?;
    repaired.losses.iter().try_for_each(|loss| tell_loss(loss, "lost"))?;
    if let Some(path) = &repaired.salvaged {
        print(format_args!(
            "{} has the lost events that can be read: start the service and run `sekali publish {}`",
            path.display(),
            path.display()
        ))?;
    }
    let events = HumanCount(repaired.events);
    match (repaired.is_done, repaired.losses.is_empty()) {
        (true, true) if repaired.given_up.is_empty() => {
            print(format_args!("nothing is damaged in the journals of {events} events"))
        }
        (true, true) => print(format_args!("nothing else is damaged in the journals of {events} events")),
        (true, false) => print(format_args!("{events} events are sound; the store can be started")),
        (false, true) => print(format_args!(
            "{events} events are sound, and none is lost: `sekali repair --accept-loss` puts MANIFEST in its place"
        )),
        (false, false) => print(format_args!(
            "{events} events are sound. Restore a copy if there is one; `sekali repair --accept-loss` gives up what is lost"
        )),
    }
}

fn tell_loss(loss: &Loss, how: &str) -> Result<(), Failure> {
    let events = match loss.events {
        Some(events) => format!("{} events", HumanCount(events)),
        None => "an unknown number of events".to_owned(),
    };
    let (from, to) = loss.bytes;
    print(format_args!(
        "{}, bytes {from} to {to}: {events} {how}, {} of them can be read",
        loss.path.display(),
        HumanCount(loss.salvaged)
    ))?;
    for (topic, first, next) in &loss.offsets {
        let line = format!("  {topic}: offsets {first} to {} hold nothing any more", next - 1);
        print(for_stdout(&line))?;
    }
    Ok(())
}
