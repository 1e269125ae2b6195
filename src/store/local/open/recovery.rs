//! Opening a store: what is on disk is checked, made durable, and brought back into RAM before
//! anything is answered.
//!
//! | found in the live journal | then |
//! |---|---|
//! | an invalid frame, and a later valid one that says it was durable | damage: refused, with file and offset |
//! | an invalid frame below the end that a clean stop recorded | damage: refused |
//! | an invalid frame, and nothing later that says so | the end: cut, zeroed, synced |
//! | valid frames that nothing proves durable | written again in place, synced (after SIGKILL they may be in the page cache only) |

use std::path::Path;
use std::sync::Arc;

use super::data_dir::create;
use super::leftovers::Leftovers;
use super::replay::{Replay, restore};
use crate::disk::{Disk, DiskFile, Open, is_absent};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::codec::{FILTERS_FORMAT, FORMAT};
use crate::store::local::format::frame::Chain;
use crate::store::local::format::hash::Secret;
use crate::store::local::format::hold::Hold;
use crate::store::local::format::journal_end::{clear_tail, is_cut, rewrite};
use crate::store::local::format::layout::{MANIFEST, folder, journal_path};
use crate::store::local::format::manifest::{Clean, Closed, Entry, Hole, Manifest};
use crate::store::local::format::stray;
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::Tables;
use crate::store::local::generation::consumers::Consumers;
use crate::store::local::generation::ledger::Ledger;
use crate::store::local::generation::topic::Topics;
use crate::store::local::options::Options;
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::filter_set::Filters;
use crate::store::local::sealed::open_files::FileCache;
use crate::store::local::write::group::Committed;
use crate::sync::Builder;
use crate::sync::mpsc::sync_channel;

/// Sets that wait for the thread of the tables: neither waits long for the other, and there is
/// little to hold.
const FOUND_WAITING: usize = 2;

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    pub(crate) topics: Topics,
    pub(crate) consumers: Consumers,
    pub(crate) filters: Filters,
    pub(crate) generations: Vec<Arc<Generation>>,
    pub(crate) tables: Vec<Tables>,
    /// What the checkpoint has to do.
    pub(crate) committed: Vec<Committed>,
    pub(crate) chain: Chain,
    /// The live journal is zeroed up to here.
    pub(crate) zeroed: u64,
    /// How the last process stopped, if cleanly and its index was complete.
    pub(crate) clean: Option<Clean>,
}

/// Recovers or creates the store in `options.data_dir`, which is held.
pub(crate) fn recover(
    options: &Options,
    disk: &Arc<dyn Disk>,
    hold: &Hold,
    files: &Arc<FileCache>,
) -> Result<Recovered> {
    let (manifest, clean, has_older_filters) = begin(options, &**disk, hold)?;
    let mut recovery = Recovery {
        options,
        disk,
        files,
        store_id: manifest.store_id(),
        ledger: Ledger::new(Topics::new(&manifest.holes), Secret::new(manifest.secret())),
        manifest: &manifest,
        filters: Filters::default(),
        generations: Vec::new(),
        tables: (0..options.workers).map(|_| Tables::new()).collect(),
        committed: Vec::new(),
        has_older_filters,
    };
    let (Some((live, older)), true) = (manifest.generations.split_last(), options.workers > 0) else {
        return Err(Error::new(ErrorKind::Corrupt, "MANIFEST names no generation"));
    };
    for entry in older {
        match entry.closed {
            Some(closed) if entry.sealed => recovery.open_sealed(entry, closed)?,
            closed => _ = recovery.replay(entry, closed, None)?,
        }
    }
    let sealed: Vec<u64> = older.iter().filter(|entry| entry.sealed).map(|entry| entry.id).collect();
    recovery.filters.add_unread(&sealed);
    let (chain, zeroed) = recovery.replay(live, None, clean)?;
    // What is stored stays readable, whatever the limit is now.
    recovery.ledger.topics.limit(options.topics_max);
    let Recovery {
        ledger: Ledger { topics, consumers, .. }, filters, generations, tables, committed, ..
    } = recovery;
    Ok(Recovered {
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
    })
}

/// Reads MANIFEST, or makes a store, and removes what a process left behind. From then on only the
/// journal is believed. Returns MANIFEST, how the last process stopped if cleanly, and whether
/// filters are of an older format.
fn begin(options: &Options, disk: &dyn Disk, hold: &Hold) -> Result<(Manifest, Option<Clean>, bool)> {
    let dir = &options.data_dir;
    let mut manifest = match Manifest::read(disk, dir)? {
        Some(manifest) => manifest,
        None => create(options, disk, hold)?,
    };
    for entry in &manifest.generations {
        let folder = folder(dir, entry.id);
        disk.check_dir(&folder).during("trust", &folder)?;
    }
    Leftovers::find(disk, dir, &manifest)?.clear(disk, dir)?;
    stray::remove(disk, dir)?;
    let clean = manifest.clean.take();
    let (is_older, has_older_filters) = (manifest.format < FORMAT, manifest.format < FILTERS_FORMAT);
    manifest.format = FORMAT;
    if clean.is_some() || is_older {
        // Cleared before the first write: from here on, only the journal is believed. And whoever
        // knows only the older format is told before there is anything that it would take for
        // damage.
        manifest.write(disk, hold)?;
    }
    Ok((manifest, clean, has_older_filters))
}

struct Recovery<'a> {
    manifest: &'a Manifest,
    options: &'a Options,
    disk: &'a Arc<dyn Disk>,
    files: &'a Arc<FileCache>,
    store_id: [u8; 16],
    ledger: Ledger,
    filters: Filters,
    generations: Vec<Arc<Generation>>,
    tables: Vec<Tables>,
    committed: Vec<Committed>,
    /// The store was last written by a version with another format of filters.
    has_older_filters: bool,
}

impl Recovery<'_> {
    fn open_sealed(&mut self, entry: &Entry, closed: Closed) -> Result<()> {
        // Its maps would know each event, and a retry would be dropped, of which nothing is left.
        // So nothing is answered at all: what producers have is not lost.
        let path = journal_path(&self.options.data_dir, entry.id);
        let holes = self.manifest.holes_of(entry.id);
        check_length(&**self.disk, &path, Hole::before_all_at(&holes, closed.end))?;
        let files = SealedFiles {
            disk: self.disk,
            files: self.files,
            data_dir: &self.options.data_dir,
            store_id: self.store_id,
            secret: &self.ledger.secret,
            entry,
            closed,
            holes,
        };
        let maps = match files.open() {
            Ok(maps) => {
                if self.has_older_filters {
                    tracing::info!(generation = entry.id, "a filter of an older version is rebuilt");
                    files.renew_filter(&maps)?;
                }
                maps
            }
            Err(e) => {
                tracing::warn!(generation = entry.id, error = %e, "a sealed index is rebuilt from its journal");
                files.build(&|_| {})?.0
            }
        };
        let generation = Generation::sealed(&files, maps);
        self.generations.push(Arc::new(generation));
        Ok(())
    }

    /// Reads a generation that is not sealed; returns where its journal goes on, and up to where it
    /// is zeroed.
    fn replay(
        &mut self,
        entry: &Entry,
        closed: Option<Closed>,
        clean: Option<Clean>,
    ) -> Result<(Chain, u64)> {
        let path = journal_path(&self.options.data_dir, entry.id);
        if is_absent(&**self.disk, &path).during("look for", &path)? {
            return Err(Error::corrupt(&path, 0, "it is missing, and MANIFEST names it"));
        }
        let file = self.disk.open(&path, Open::Write).during("open", &path)?;
        let generation = Arc::new(Generation::open(&self.options.data_dir, entry, Arc::clone(&file)));
        self.generations.push(Arc::clone(&generation));
        let is_indexed = clean.is_some_and(|clean| clean.covered.is_some());
        let (tables, of) = (std::mem::take(&mut self.tables), Arc::clone(&generation));
        let (sender, found) = sync_channel(FOUND_WAITING);
        let restoring = Builder::new()
            .name("tables".to_owned())
            .spawn(move || restore(tables, &of, &found, is_indexed))
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")))?;
        let mut replay = Replay {
            ledger: &self.ledger,
            workers: self.options.workers,
            found: sender,
            generation,
            is_indexed,
            committed: &mut self.committed,
            sets: Vec::new(),
            blocks: Vec::new(),
            waiting: 0,
        };
        replay.begin_sets();
        // A generation with holes is sealed.
        let mut walk = Walk::new(Arc::clone(&file), &path, self.store_id, entry, Arc::new([]));
        let unproven = apply_all(&mut replay, &mut walk, clean.map_or(0, |clean| clean.last_frame))?;
        let mut chain = walk.chain.clone();
        replay.end_sets(chain.sequence.saturating_sub(1));
        let generation = replay.generation;
        drop(replay.found);
        self.tables = restoring.join().map_err(|_| {
            Error::new(ErrorKind::Io, "filling the tables broke off: this is a bug, please report it")
        })?;
        if let Some(closed) = closed {
            return if generation.closed() == closed {
                Ok((chain, closed.end))
            } else {
                Err(Error::corrupt(&path, chain.at, "it does not hold what MANIFEST says"))
            };
        }
        let zeroed = settle_end(&mut walk, &*file, &path, clean, &unproven)?;
        chain.durable_through = chain.sequence - 1;
        Ok((chain, zeroed))
    }
}

/// Applies the frames of a journal; the numbers and places of those after the last one that is
/// proven durable.
fn apply_all(replay: &mut Replay<'_>, walk: &mut Walk, mut durable_through: u64) -> Result<Vec<(u64, u64)>> {
    let mut unproven = Vec::new();
    while let Step::Frame(frame) = walk.step()? {
        replay.apply(&frame)?;
        durable_through = durable_through.max(frame.header.durable_through);
        unproven.retain(|(sequence, _)| *sequence > durable_through);
        if frame.header.sequence > durable_through {
            unproven.push((frame.header.sequence, frame.header.at));
        }
    }
    Ok(unproven)
}

/// Checks where the live journal ends, and makes all before it durable: `unproven` are the numbers
/// and places of frames that nothing proves to be. Returns up to where the journal is zeroed.
fn settle_end(
    walk: &mut Walk,
    file: &dyn DiskFile,
    path: &Path,
    clean: Option<Clean>,
    unproven: &[(u64, u64)],
) -> Result<u64> {
    let at = walk.chain.at;
    if at == 0 || clean.is_some_and(|clean| at < clean.end) {
        return Err(Error::corrupt(path, at, "no valid frame, and a durable one was here"));
    }
    if is_cut(file, path, at)? {
        return Err(Error::corrupt(path, at, "the file was cut here: zeros must follow the last frame"));
    }
    walk.check_end()?;
    if clean.is_none() {
        rewrite(file, path, unproven.first().map_or(at, |(_, first)| *first), at)?;
    }
    let zeroed = clear_tail(file, path, at)?;
    file.sync().during("sync", path)?;
    Ok(zeroed)
}

/// Refuses a journal that is missing or shorter than it was. One that can't be looked at may be
/// sound.
fn check_length(disk: &dyn Disk, path: &Path, end: u64) -> Result<()> {
    let gone = |at, what: &str| {
        let what = format!("{what}, and {MANIFEST} says that it has {end} bytes at least");
        Err(Error::corrupt(path, at, &what))
    };
    match disk.open(path, Open::Read).and_then(|file| file.len()) {
        Ok(length) if length < end => gone(length, "it ends here"),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => gone(0, "it is missing"),
        Err(e) => Err(Error::io("tell whether all is there of", path, e)),
    }
}
