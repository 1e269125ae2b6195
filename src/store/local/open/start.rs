//! From what recovery found to an open store: what its parts share, and the threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::data_dir;
use super::recovery::{Recovered, recover};
use crate::consumer::backlog::TopicNotes;
use crate::error::{Error, ErrorKind, Result};
use crate::store::local::admission::preallocation::Preallocation;
use crate::store::local::admission::queue::{Pace, Queue};
use crate::store::local::admission::vitals::{Failure, Lag, Watches};
use crate::store::local::background::checkpoint::{Checkpoint, LiveIndex};
use crate::store::local::background::{filter_merge, hold_check};
use crate::store::local::format::claim::Covered;
use crate::store::local::format::codec::INDEX_VERSION;
use crate::store::local::format::frame::Chain;
use crate::store::local::format::hash::Secret;
use crate::store::local::format::layout::INDEX;
use crate::store::local::format::manifest::{Clean, ManifestFile};
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::{Claims, Tables};
use crate::store::local::generation::index::Index;
use crate::store::local::options::{Options, Seams};
use crate::store::local::sealed::open_files::{FileCache, OPEN_FILES_MAX};
use crate::store::local::shared::Shared;
use crate::store::local::write::group::Committed;
use crate::store::local::write::group_commit::GroupCommit;
use crate::store::local::write::worker::Worker;
use crate::store::local::write::writer::{GROUPS_MAX, Writer};
use crate::sync::atomic::AtomicU64;
use crate::sync::mpsc::{self, sync_channel};
use crate::sync::{self, Builder, JoinHandle, Mutex, RwLock};

/// A thread; `None` if it panicked.
type Handle<T> = JoinHandle<Option<T>>;

/// The threads of an open store.
pub(crate) struct Threads {
    filters: Handle<()>,
    workers: Vec<Handle<()>>,
    journal: Handle<Chain>,
    checkpoint: Handle<Option<LiveIndex>>,
    preallocation: Handle<()>,
    hold: Handle<()>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Threads {
    /// Waits for all threads, in the order in which they feed each other; what they take from is
    /// closed already.
    pub(crate) fn join(
        self,
        shared: &Shared,
        commits: Option<GroupCommit>,
    ) -> (Option<Chain>, Option<Option<LiveIndex>>) {
        for worker in self.workers {
            let _ = worker.join();
        }
        drop(commits);
        sync::unpark(self.journal.thread());
        let chain = self.journal.join().ok().flatten();
        shared.preallocation.stop();
        let index = self.checkpoint.join().ok().flatten();
        let _ = self.preallocation.join();
        for thread in [self.filters, self.hold] {
            sync::unpark(thread.thread());
            let _ = thread.join();
        }
        (chain, index)
    }
}

/// Opens the store in `options.data_dir`, or makes one.
///
/// # Errors
/// `Locked`, `Unusable`, `Corrupt`, `NoSpace`, `Io`.
pub(crate) fn start(options: &Options, seams: Seams) -> Result<(Arc<Shared>, GroupCommit, Threads)> {
    let hold = data_dir::take(options, &*seams.disk)?;
    let files = FileCache::new(Arc::clone(&seams.disk), OPEN_FILES_MAX);
    let recovered = recover(options, &seams.disk, &hold, &files)?;
    let Recovered {
        manifest,
        topics,
        consumers,
        filters,
        generations,
        tables,
        committed,
        chain,
        zeroed,
        clean,
    } = recovered;
    let Some(live) = generations.last().cloned() else {
        return Err(Error::new(ErrorKind::Corrupt, "MANIFEST names no generation"));
    };
    let preallocation = Preallocation::new(
        Arc::clone(&seams.disk),
        Arc::clone(&seams.clock),
        &options.data_dir,
        (options.generation_events, options.generation_bytes),
        live.id,
        (chain.at, zeroed),
    )?;
    let shared = Arc::new(Shared {
        options: options.clone(),
        files,
        store_id: manifest.store_id(),
        secret: Secret::new(manifest.secret()),
        manifest: ManifestFile::new(hold, manifest),
        topics,
        consumers,
        topic_notes: TopicNotes::default(),
        measured: Mutex::default(),
        filters,
        preallocation,
        queues: (0..options.workers).map(|_| Queue::default()).collect(),
        pace: Pace::default(),
        generations: RwLock::new(Arc::new(generations.clone())),
        durable: AtomicU64::new(chain.durable_through),
        visible_events: AtomicU64::new(live.first_event + live.events()),
        lag: Lag::default(),
        failure: Failure::default(),
        watches: Watches::new(seams.clock.monotonic()),
        seams,
        trouble: Mutex::default(),
    });
    let claims = committed.iter().flat_map(|frame| &frame.sets).filter_map(|set| set.with(Claims::len));
    shared.lag.add(claims.sum::<usize>() as u64);
    for sealed in generations.iter().filter(|generation| generation.is_sealed()) {
        // Left by a process that ended between sealing and removing it.
        shared.seams.indexes.remove(&sealed.dir.join(INDEX))?;
    }
    let open: Vec<_> = generations.into_iter().filter(|generation| !generation.is_sealed()).collect();
    let index = open_trusted_index(&shared, clean, &open)?;
    let (commits, threads) = start_threads(&shared, committed, (chain, live), (open, index), tables)?;
    Ok((shared, commits, threads))
}

/// Starts the threads of a store. `committed` is what the checkpoint has to do, and the chain goes
/// on in the live generation.
fn start_threads(
    shared: &Arc<Shared>,
    committed: Vec<Committed>,
    (chain, live): (Chain, Arc<Generation>),
    (open, index): (Vec<Arc<Generation>>, Option<LiveIndex>),
    tables: Vec<Tables>,
) -> Result<(GroupCommit, Threads)> {
    let (committed_tx, committed_rx) = mpsc::channel::<Committed>();
    for committed in committed {
        // The receiver lives in this function.
        let _ = committed_tx.send(committed);
    }
    let (sender, groups) = sync_channel(GROUPS_MAX);
    let writer = Writer::new(Arc::clone(shared), groups, committed_tx, chain, live)?;
    let (commits, committing) = GroupCommit::new(sender, writer);
    let checkpoint = Checkpoint::new(Arc::clone(shared), committed_rx, open, index);
    let mut workers = Vec::new();
    for (number, tables) in tables.into_iter().enumerate() {
        let worker = Worker::new(Arc::clone(shared), number, commits.clone(), tables);
        workers.push(spawn(shared, &format!("worker-{number}"), move || worker.run())?);
    }
    let preparing = Arc::clone(shared);
    let prepare = move || {
        if let Err(e) = preparing.preallocation.run() {
            preparing.failure.set(&e);
        }
    };
    let (reading, holding) = (Arc::clone(shared), Arc::clone(shared));
    let threads = Threads {
        workers,
        filters: spawn(shared, "filters", move || filter_merge::run(&reading))?,
        journal: spawn(shared, "journal", committing)?,
        checkpoint: spawn(shared, "checkpoint", move || checkpoint.run())?,
        preallocation: spawn(shared, "preallocation", prepare)?,
        hold: spawn(shared, "hold", move || hold_check::run(&holding))?,
    };
    Ok((commits, threads))
}

/// The index that a clean stop left, if all of it is there. What is not trusted is removed when the
/// checkpoint needs the place.
fn open_trusted_index(
    shared: &Shared,
    clean: Option<Clean>,
    open: &[Arc<Generation>],
) -> Result<Option<LiveIndex>> {
    let (Some(Clean { covered: Some(clean), .. }), Some(live)) = (clean, open.last()) else {
        return Ok(None);
    };
    let dir = live.dir.join(INDEX);
    let opened = shared.watches.index.during(shared.now(), || {
        let index = shared.seams.indexes.open(&dir)?;
        let covered = index.covered()?;
        Ok::<_, Error>((index, covered))
    });
    let figures = live.closed();
    let expected = Covered {
        version: INDEX_VERSION,
        nonce: live.nonce,
        through: clean.through,
        claims: figures.events,
        sum: figures.claims_sum,
    };
    match opened {
        Ok((index, Some(covered))) if covered == expected => {
            let index: Arc<dyn Index> = Arc::from(index);
            live.set_index(Some(Arc::clone(&index)));
            Ok(Some(LiveIndex { index, covered }))
        }
        Ok(_) => Ok(doubt(live, "it does not hold what MANIFEST says")),
        Err(e) => Ok(doubt(live, &e.to_string())),
    }
}

/// The index can't be trusted although its claims have not been read into RAM: it is rebuilt from
/// the journal, and until then what needs it is answered "rebuilding".
fn doubt(live: &Generation, why: &str) -> Option<LiveIndex> {
    tracing::warn!(generation = live.id, why, "the index is rebuilt from the journal");
    live.begin_rebuild();
    None
}

/// A thread whose panic poisons the store, and kills nothing else.
fn spawn<T: Send + 'static>(
    shared: &Arc<Shared>,
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<Handle<T>> {
    let shared = Arc::clone(shared);
    let named = name.to_owned();
    let guarded = move || match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(_) => {
            let message = format!("the {named} thread panicked: this is a bug, please report it");
            shared.failure.set(&Error::new(ErrorKind::Io, message));
            shared.preallocation.stop();
            None
        }
    };
    Builder::new().name(name.to_owned()).spawn(guarded).map_err(|e| {
        let message = format!("cannot start a thread: {e}");
        Error::new(ErrorKind::Io, message)
    })
}
