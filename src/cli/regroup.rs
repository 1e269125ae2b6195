//! `sekali regroup`: slots go into the databases that the configuration names for them.

use sekali::config::Layer;
use sekali::store::postgres::offline::regroup::{Moved, regroup};
use serde_json::json;
use tokio::runtime::Runtime;

use super::config::ConfigFile;
use super::database_store;
use super::exit::{Exit, Failure};
use super::process::logging;
use super::terminal::output::print;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali regroup --config /etc/sekali.toml

Each [[group]] of the configuration names a database and its slots. Slots that are elsewhere are
copied, compared and then removed where they were, one after the other. All databases that have
slots must be named, and all nodes be stopped. If it is interrupted, run it again: it goes on where
it was. Until its end no node starts.

Exit codes: 0 all slots are in their places, 3 bad configuration, 5 a database can't be used,
7 damage, 8 it did not get to the end: run it again.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Print a JSON object for each slot that was moved
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let config = self.file.clone().resolve(Layer::default())?;
        logging::start(&config)?;
        if config.is_local() {
            let sentence = "the store is in a data directory, which has no slots: `sekali move` moves it into a database";
            return Err(Failure::new(Exit::Configuration, sentence));
        }
        let options = database_store::options(&config)?;
        let runtime = Runtime::new()
            .map_err(|e| Failure::new(Exit::StoreFailed, format!("cannot start the runtime: {e}")))?;
        let mut printed = Ok(());
        let done = runtime.block_on(regroup(&options, &mut |moved| {
            if printed.is_ok() {
                printed = self.tell(moved);
            }
        }));
        done?;
        printed?;
        if !self.json {
            print("all slots are in their places: nodes can be started")?;
        }
        Ok(Exit::Success)
    }

    fn tell(&self, Moved { slot, events, from, to }: &Moved) -> Result<(), Failure> {
        match self.json {
            true => print(json!({"slot": slot, "events": events, "from": from, "to": to})),
            false => print(format_args!("slot {slot} with {events} events moved from {from} to {to}")),
        }
    }
}
