//! What all parts of an open store share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::admission::preallocation::Preallocation;
use super::admission::queue::{Pace, Queue};
use super::admission::vitals::{Failure, Lag, Watches};
use super::format::hash::Secret;
use super::format::manifest::{Entry, Manifest, ManifestFile};
use super::generation::Generation;
use super::generation::consumers::Consumers;
use super::generation::topic::Topics;
use super::options::{Options, Seams};
use super::sealed::files::SealedFiles;
use super::sealed::filter_set::Filters;
use super::sealed::open_files::FileCache;
use crate::consumer::backlog::TopicNotes;
use crate::error::Error;
use crate::sync::atomic::AtomicU64;
use crate::sync::{Mutex, RwLock};

/// Shared by the workers, the journal's writer, the checkpoint and readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) seams: Seams,
    pub(crate) files: Arc<FileCache>,
    pub(crate) store_id: [u8; 16],
    pub(crate) secret: Secret,
    pub(crate) manifest: ManifestFile,
    pub(crate) topics: Topics,
    pub(crate) consumers: Consumers,
    pub(crate) topic_notes: TopicNotes,
    /// Names of the consumers that have figures of their own, in the order of their turns.
    pub(crate) measured: Mutex<VecDeque<Box<str>>>,
    pub(crate) filters: Filters,
    pub(crate) preallocation: Preallocation,
    /// One for each worker.
    pub(crate) queues: Vec<Queue>,
    pub(crate) pace: Pace,
    /// Oldest first; the last one is live. Replaced as a whole.
    pub(crate) generations: RwLock<Arc<Vec<Arc<Generation>>>>,
    /// Number of the last durable frame.
    pub(crate) durable: AtomicU64,
    /// Events that are durable and in their topics' counts.
    pub(crate) visible_events: AtomicU64,
    pub(crate) lag: Lag,
    pub(crate) failure: Failure,
    pub(crate) watches: Watches,
    /// Why an index that is needed can't be rebuilt for now.
    pub(crate) trouble: Mutex<Option<String>>,
}

impl Shared {
    /// Time that never goes back.
    pub(crate) fn now(&self) -> Instant {
        self.seams.clock.monotonic()
    }

    /// The generations as they are now.
    pub(crate) fn generations(&self) -> Arc<Vec<Arc<Generation>>> {
        Arc::clone(&self.generations.read())
    }

    /// The generation with this number.
    pub(crate) fn generation(&self, id: u64) -> Option<Arc<Generation>> {
        let generations = self.generations();
        let at = generations.binary_search_by_key(&id, |generation| generation.id).ok()?;
        generations.get(at).cloned()
    }

    /// Adds a new live generation.
    pub(crate) fn push_generation(&self, generation: Arc<Generation>) {
        let mut generations = self.generations.write();
        let mut next = Vec::clone(&generations);
        next.push(generation);
        *generations = Arc::new(next);
    }

    /// How many generations have been filled, and how much of the live one is.
    pub(crate) fn filled(&self) -> f64 {
        let generations = self.generations();
        let Some(live) = generations.last() else { return 0.0 };
        let events = live.events() as f64 / self.options.generation_events as f64;
        let bytes = live.end() as f64 / self.options.generation_bytes as f64;
        live.id as f64 + events.max(bytes)
    }

    /// Which part of the time has elapsed that it takes from `begin` on to fill so many
    /// generations: more than all of it once the store stops.
    pub(crate) fn elapsed(&self, begin: f64, generations: f64) -> f64 {
        match self.is_stopping() {
            true => f64::INFINITY,
            false => (self.filled() - begin) / generations,
        }
    }

    /// Whether the store stops, or has failed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.failure.get().is_some() || self.queues.iter().any(Queue::is_closed)
    }

    /// Ends all writing: the store is of no use until a restart.
    pub(crate) fn fail(&self, why: &Error) {
        self.failure.set(why);
        self.preallocation.stop();
    }

    /// Changes MANIFEST, durably. A directory that is not the one that is held any more fails the
    /// store: another process may have it.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), Error> {
        self.manifest.hold().check().inspect_err(|e| self.fail(e))?;
        self.manifest.update(&*self.seams.disk, change)
    }

    /// The files of a sealed generation with this entry in MANIFEST.
    pub(crate) fn sealed_files<'a>(&'a self, generation: &Generation, entry: &'a Entry) -> SealedFiles<'a> {
        SealedFiles {
            disk: &self.seams.disk,
            files: &self.files,
            data_dir: &self.options.data_dir,
            store_id: self.store_id,
            secret: &self.secret,
            entry,
            closed: generation.closed(),
            holes: Arc::clone(&generation.holes),
        }
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock() = why;
    }

    /// Most claims that may wait for the checkpoint: two generations.
    pub(crate) fn lag_max(&self) -> u64 {
        2 * self.options.generation_events.max(1_000)
    }
}
