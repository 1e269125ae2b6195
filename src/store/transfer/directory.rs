//! A data directory that is being filled.
//!
//! It has another name until it is whole, so that no service can start with a part of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{ManualClock, Timestamp};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::event::BatchBuilder;
use crate::store::local::{Local, Options, Seams};
use crate::store::target::{Target, is_new, push};
use crate::store::{EventStore, StoredEvent, TopicStats};

/// What the name of a directory ends with while it is being filled.
const ENDING: &str = ".moving";
/// Pause before events are added again for which there was no room in a queue.
const PAUSE: Duration = Duration::from_millis(50);

/// The directory, and the store that is open in it.
#[derive(Debug)]
pub struct Directory {
    store: Local,
    /// What the store takes for the time: events arrive when they did.
    clock: Arc<ManualClock>,
    disk: Arc<dyn Disk>,
    /// Offset of the next event of each topic.
    next_offsets: HashMap<Box<str>, u64>,
    filled: PathBuf,
    path: PathBuf,
}

impl Directory {
    /// Makes the directory of `options`, or goes on with filling it. Of `seams` the clock is not
    /// used.
    ///
    /// # Errors
    /// `Unusable` if there is something in its place; those of [`Local::open`].
    pub async fn open(options: &Options, seams: Seams) -> Result<Self> {
        let (path, disk) = (options.data_dir.clone(), Arc::clone(&seams.disk));
        check_vacant(&*disk, &path)?;
        let filled = being_filled(&path);
        let clock = Arc::new(ManualClock::default());
        let (options, seams) = (
            Options { data_dir: filled.clone(), must_exist: false, ..options.clone() },
            Seams { clock: Arc::clone(&clock) as Arc<_>, ..seams },
        );
        let opening = tokio::task::spawn_blocking(move || Local::open(&options, seams));
        let lost = |e| Error::new(ErrorKind::Io, format!("opening the store failed: {e}"));
        let store = opening.await.map_err(lost)??;
        let mut directory = Self { store, clock, disk, next_offsets: HashMap::new(), filled, path };
        directory.look().await?;
        Ok(directory)
    }

    /// Closes the store and gives the directory its name. It blocks.
    ///
    /// # Errors
    /// Those of [`EventStore::close`]; `Io`.
    pub fn finish(self) -> Result<()> {
        self.store.close()?;
        drop(self.store);
        self.disk
            .rename(&self.filled, &self.path)
            .map_err(|e| Error::io("give its name to", &self.filled, e))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        self.disk.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))
    }

    /// Learns how far each topic is.
    async fn look(&mut self) -> Result<()> {
        for topic in super::all_topics(&self.store).await? {
            self.next_offsets.insert(topic.topic.into(), topic.last_offset + 1);
        }
        Ok(())
    }

    /// Adds events that all arrived at the same time.
    async fn add_at(&mut self, at: Timestamp, events: &[&StoredEvent]) -> Result<()> {
        self.clock.set(at);
        let mut batch = BatchBuilder::new(Bytes::new());
        for event in events {
            push(&mut batch, event)?;
        }
        let outcomes = self.store.append(Arc::new(batch.finish())).await?;
        for (event, outcome) in events.iter().zip(outcomes) {
            if (outcome.offset, outcome.first_seen) != (event.offset, event.received_at) {
                let message = format!(
                    "{} has other events of topic {:?} than the source: remove it, then run this again",
                    self.filled.display(),
                    event.topic
                );
                return Err(Error::new(ErrorKind::Unusable, message));
            }
            self.next_offsets.insert(event.topic.clone(), event.offset + 1);
        }
        Ok(())
    }

    /// Those of `events` that it lacks.
    fn lacking<'e>(&self, events: &'e [StoredEvent]) -> Result<Vec<&'e StoredEvent>> {
        let mut next_offsets: HashMap<&str, u64> = HashMap::new();
        let mut lacking = Vec::new();
        for event in events {
            let known = || self.next_offsets.get(&event.topic).copied().unwrap_or_default();
            let next = next_offsets.entry(&event.topic).or_insert_with(known);
            if is_new(event, *next)? {
                *next += 1;
                lacking.push(event);
            }
        }
        Ok(lacking)
    }
}

impl Target for Directory {
    type Store = Local;

    async fn add(&mut self, events: &[StoredEvent]) -> Result<()> {
        loop {
            let mut failed = None;
            for run in self.lacking(events)?.chunk_by(|a, b| a.received_at == b.received_at) {
                if let Err(e) = self.add_at(run[0].received_at, run).await {
                    failed = Some(e);
                    break;
                }
            }
            match failed {
                None => return Ok(()),
                // The index is behind. What was added of a run is not added again.
                Some(e) if e.kind() == ErrorKind::Overloaded => {
                    tokio::time::sleep(PAUSE).await;
                    self.look().await?;
                }
                Some(e) => return Err(e),
            }
        }
    }

    async fn count(&mut self, topics: &[TopicStats]) -> Result<()> {
        for topic in topics {
            self.store.raise_counts(&topic.topic, topic.duplicate_dropped, topic.conflicts);
        }
        self.store.stats().await.map(drop)
    }

    async fn count_rejected(&mut self, rejected: u64) -> Result<()> {
        let counted = self.store.stats().await?.totals.rejected;
        self.store.count_rejected(rejected.saturating_sub(counted));
        self.store.stats().await.map(drop)
    }

    async fn store(&mut self) -> Result<&Local> {
        Ok(&self.store)
    }
}

/// The name that a directory has while it is being filled.
fn being_filled(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

/// Refuses a directory that has something in it.
fn check_vacant(disk: &dyn Disk, path: &Path) -> Result<()> {
    let failed = |e| Error::io("look for", path, e);
    if !disk.presence(path).map_err(failed)? || disk.list(path).map_err(failed)?.is_empty() {
        return Ok(());
    }
    let message = format!("{} is not empty: name a directory that does not exist yet", path.display());
    Err(Error::new(ErrorKind::Unusable, message))
}
