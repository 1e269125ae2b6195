//! `sekali move`: all that a store has goes into another one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use sekali::clock::SystemClock;
use sekali::config::{Config, Durability, Layer, StoreUrl};
use sekali::metrics::Metrics;
use sekali::store::EventStore;
use sekali::store::backend::Backend;
use sekali::store::local::Local;
use sekali::store::postgres::Postgres;
use sekali::store::postgres::offline::filling::Filling;
use sekali::store::target::Target;
use sekali::store::transfer::{Directory, Moved, Progress, transfer};
use serde_json::json;
use tokio::runtime::Runtime;

use super::config::ConfigFile;
use super::exit::{Exit, Failure};
use super::process::{keep_private, logging};
use super::terminal::output::print;
use super::{database_store, local_store};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali move --from ./data --to postgres://sekali@db1,db2,db3/events --store-password-file /run/secrets/db
  sekali move --from postgres://sekali@db1,db2,db3/events --to ./data

Ids, offsets, order, times of arrival and counts are kept; positions of consumers are not. What serves either
store must be stopped. The new store must be empty, or be one that an earlier run has begun to fill: the command
goes on where that ended. Nothing can be served from it until all is there, was read back and compared.

Exit codes: 0 all is moved, 3 bad configuration, 4 a process has the store open, 5 a store can't be used,
7 damage, or the new store is not what the old one is, 8 it did not get to the end: run it again.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The store that has the events: a data directory, or the URL of a database
    #[arg(long, value_name = "DIR|URL")]
    from: StoreLocation,
    /// The store that gets them
    #[arg(long, value_name = "DIR|URL")]
    to: StoreLocation,
    /// File with the password of the database's user
    #[arg(long, value_name = "FILE")]
    store_password_file: Option<PathBuf>,
    /// What an answer of the database promises: replicated, or local for one server without
    /// standbys
    #[arg(long, value_name = "PROMISE")]
    store_durability: Option<Durability>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Where a store is.
#[derive(Clone, Debug)]
enum StoreLocation {
    Directory(PathBuf),
    Database(StoreUrl),
}

impl From<OsString> for StoreLocation {
    fn from(text: OsString) -> Self {
        match text.to_str() {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                url.parse().map_or_else(|_| Self::Directory(url.into()), Self::Database)
            }
            _ => Self::Directory(text.into()),
        }
    }
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (from, to) = (self.config(&self.from)?, self.config(&self.to)?);
        logging::start(&from)?;
        keep_private();
        let runtime = Runtime::new()
            .map_err(|e| Failure::new(Exit::StoreFailed, format!("cannot start the runtime: {e}")))?;
        let source = runtime.block_on(open(from))?;
        let moved = match to.store.is_local() {
            true => into_directory(&runtime, &source, &to),
            false => into_database(&runtime, &source, &to),
        };
        let closed = source.close();
        let moved = moved?;
        closed?;
        self.tell(&moved)?;
        Ok(Exit::Success)
    }

    /// The configuration with the store at this location.
    fn config(&self, location: &StoreLocation) -> Result<Config, Failure> {
        let (store, data_dir) = match location {
            StoreLocation::Directory(path) => (StoreUrl::default(), Some(path.clone())),
            StoreLocation::Database(url) => (url.clone(), None),
        };
        self.file.clone().resolve(Layer {
            store: Some(store),
            data_dir,
            store_password_file: self.store_password_file.clone(),
            store_durability: self.store_durability,
            ..Layer::default()
        })
    }

    fn tell(&self, moved: &Moved) -> Result<(), Failure> {
        let (totals, topics) = (moved.stats.totals, moved.stats.topics);
        if self.json {
            return print(json!({
                "events": totals.unique_processed,
                "topics": topics,
                "duplicate_dropped": totals.duplicate_dropped,
                "conflicts": totals.conflicts,
                "rejected": totals.rejected,
            }));
        }
        print(format_args!(
            "moved {} events of {} topics; the new store was read back, and has the same events, offsets and counts",
            HumanCount(totals.unique_processed),
            HumanCount(topics),
        ))
    }
}

/// Opens the store that has the events.
async fn open(mut config: Config) -> Result<Backend, Failure> {
    config.must_exist = true;
    if !config.store.is_local() {
        let store =
            Postgres::open(database_store::options(&config)?, Metrics::default(), Arc::new(SystemClock));
        return Ok(Backend::Postgres(Box::new(store.await?)));
    }
    let opening = tokio::task::spawn_blocking(move || {
        Local::open(&local_store::options(&config), local_store::seams(Metrics::default()))
    });
    let lost = |e| Failure::new(Exit::StoreFailed, format!("opening the store failed: {e}"));
    Ok(Backend::Local(Box::new(opening.await.map_err(lost)??)))
}

fn into_directory(runtime: &Runtime, source: &Backend, to: &Config) -> Result<Moved, Failure> {
    let (options, seams) = (local_store::options(to), local_store::seams(Metrics::default()));
    let mut directory = runtime.block_on(Directory::open(&options, seams))?;
    let moved = watched(runtime, source, &mut directory)?;
    directory.finish()?;
    Ok(moved)
}

fn into_database(runtime: &Runtime, source: &Backend, to: &Config) -> Result<Moved, Failure> {
    let mut filling = runtime.block_on(Filling::begin(database_store::options(to)?, source.id()))?;
    let moved = watched(runtime, source, &mut filling);
    if let Some(opened) = filling.opened() {
        opened.close()?;
    }
    let moved = moved?;
    runtime.block_on(filling.finish())?;
    Ok(moved)
}

/// Moves it all, and shows on a terminal how far it is.
fn watched<T: Target>(runtime: &Runtime, source: &Backend, target: &mut T) -> Result<Moved, Failure> {
    let bar = ProgressBar::new(0);
    let shape = "{bar:40} {human_pos}/{human_len} events moved and read back {per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let moved = runtime.block_on(transfer(source, target, &|Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
    }));
    bar.finish_and_clear();
    Ok(moved?)
}
