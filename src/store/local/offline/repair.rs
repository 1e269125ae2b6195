//! Giving up what is damaged in journals, and nothing else: what is lost is said exactly, and the
//! rest is in use again.
//!
//! What a journal holds is never changed. MANIFEST declares the *hole*: from which byte to which
//! nothing is read, which frames and event numbers were there, and which offsets of which topics
//! are not used again. Events in it that can still be read are written to a file, to be published
//! again. A live generation that is damaged is closed, and a new one begun after it, so holes are
//! in sealed generations only.
//!
//! Which offsets are lost is seen from what comes after the hole: the next block of a topic, or
//! the next generation's topic table. Where nothing comes after it, as at the end of the live
//! journal, each topic gives up as many offsets as may have been its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::loss::Found;
pub use super::loss::Loss;
use super::search::Search;
use super::store::{Progress, journal_bytes, open_for_repair};
use crate::disk::{self, Disk, Open};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::hold::Hold;
use crate::store::local::format::journal_end::rewrite;
use crate::store::local::format::layout::{MANIFEST, folder, journal_path};
use crate::store::local::format::manifest::{Entry, Manifest, random_u64};
use crate::store::local::generation::head::{self, state_table};
use crate::store::local::generation::ledger::Ledger;
use crate::store::local::open::leftovers::{Leftovers, set_aside};
use crate::store::local::options::{Options, Seams};
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::open_files::{FileCache, OPEN_FILES_MAX};

/// What a repair says that the operating system keeps from its files.
const CURE: &str = "cure the disk or the permissions, then repair again: what was not said to be lost stays";

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What is lost, place by place.
    pub losses: Vec<Loss>,
    /// What was given up before: a repair that was killed may have done so, and told nobody.
    pub given_up: Vec<Loss>,
    /// Events of the store that are not lost.
    pub events: u64,
    /// The file with those that can be published again, a JSON object a line. If nothing is lost
    /// now, that of the repair before.
    pub salvaged: Option<PathBuf>,
    /// MANIFEST was missing, and this is a whole one that had not got into its place.
    pub manifest: Option<PathBuf>,
    /// Whether the loss was accepted, and the store can be started.
    pub is_done: bool,
}

/// Looks for damage in all journals; gives up what is damaged if `accept_loss` is set, and
/// otherwise changes nothing.
///
/// # Errors
/// `Locked`; `Unusable` if there is no store, or a newer one; `Corrupt` if MANIFEST is damaged, or
/// a journal in a way that no damage explains; `NoSpace`, `Io`.
pub fn repair(
    options: &Options,
    seams: &Seams,
    accept_loss: bool,
    progress: Progress<'_>,
) -> Result<Repaired> {
    let (hold, manifest, leftover) = open_for_repair(options, &*seams.disk)?;
    search_and_give_up(options, seams, &hold, (manifest, leftover), accept_loss, progress)
        .map_err(|e| e.with_cure(CURE))
}

/// Searches what `manifest` names; it is in its place, or at `leftover`.
fn search_and_give_up(
    options: &Options,
    seams: &Seams,
    hold: &Hold,
    (mut manifest, leftover): (Manifest, Option<PathBuf>),
    accept_loss: bool,
    progress: Progress<'_>,
) -> Result<Repaired> {
    let (disk, dir) = (&*seams.disk, &options.data_dir);
    let leftovers = Leftovers::find(disk, dir, &manifest)?;
    let total = journal_bytes(options, disk, &manifest);
    let mut search = Search::new(options, seams, &manifest);
    let mut done = 0;
    for entry in &manifest.generations {
        let closed = search.generation(entry, &manifest)?;
        done += closed.end;
        progress(done, total);
    }
    search.burn_what_may_be_lost();
    for found in &mut search.gaps.found {
        found.hole.topics.sort_by(|a, b| (&a.topic, a.first).cmp(&(&b.topic, b.first)));
    }
    let mut repaired = Repaired {
        losses: search.gaps.found.iter().map(|found| found.loss(options)).collect(),
        given_up: search.given_up.iter().map(|found| found.loss(options)).collect(),
        events: search.gaps.events,
        salvaged: None,
        is_done: accept_loss || (search.gaps.found.is_empty() && leftover.is_none()),
        manifest: leftover,
    };
    if accept_loss && let Some(leftover) = &repaired.manifest {
        let path = dir.join(MANIFEST);
        disk.rename(leftover, &path).during("rename", leftover)?;
        disk.sync_dir(dir).during("sync", dir)?;
    }
    if search.gaps.found.is_empty() {
        repaired.salvaged = search.salvaged_before()?;
    } else if accept_loss {
        leftovers.clear(disk, dir)?;
        repaired.salvaged = search.write_salvaged()?;
        search.give_up(hold, &mut manifest)?;
    }
    Ok(repaired)
}

impl Search<'_> {
    fn salvaged_path(&self, found: &Found) -> PathBuf {
        self.options.data_dir.join(format!("salvaged-{}.ndjson", found.hole.first_frame))
    }

    /// The file that the last repair before this one has written, if it is still there.
    fn salvaged_before(&self) -> Result<Option<PathBuf>> {
        for found in self.given_up.iter().rev() {
            let path = self.salvaged_path(found);
            if self.seams.disk.presence(&path).during("look for", &path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn write_salvaged(&self) -> Result<Option<PathBuf>> {
        let Some(found) = self.gaps.found.first().filter(|_| !self.salvaged.is_empty()) else {
            return Ok(None);
        };
        let (path, disk) = (self.salvaged_path(found), &*self.seams.disk);
        if disk.presence(&path).during("look for", &path)? {
            if disk::read(disk, &path).during("read", &path)? == self.salvaged {
                // Of a repair that broke off.
                return Ok(Some(path));
            }
            set_aside(disk, &path)?;
        }
        disk::replace(disk, &path, &self.salvaged).during("write", &path)?;
        Ok(Some(path))
    }

    /// Declares the holes, seals what is damaged, and begins a new live generation if the live one
    /// is.
    fn give_up(self, hold: &Hold, manifest: &mut Manifest) -> Result<()> {
        let Self {
            options, seams, ledger: Ledger { topics, consumers, secret }, gaps, closed, missing, ..
        } = self;
        let (disk, dir) = (&*seams.disk, &options.data_dir);
        let files = FileCache::new(Arc::clone(&seams.disk), OPEN_FILES_MAX);
        manifest.holes.extend(gaps.found.into_iter().map(|found| found.hole));
        manifest.holes.sort_by_key(|hole| (hole.generation, hole.at));
        let store_id = manifest.store_id();
        let mut live = None;
        for (id, closed) in &closed {
            let journal = journal_path(dir, *id);
            if missing.contains(id) {
                let folder = folder(dir, *id);
                disk.create_dir_all(&folder).during("create", &folder)?;
                disk.open(&journal, Open::New).during("create", &journal)?;
                disk.sync_dir(&folder).during("sync", &folder)?;
                disk.sync_dir(dir).during("sync", dir)?;
            }
            let holes = manifest.holes_of(*id);
            let Some(entry) = manifest.generations.iter_mut().find(|entry| entry.id == *id) else { continue };
            if entry.closed.is_none() {
                // What nothing proves durable is made so before anything rests on it, as in
                // recovery.
                let file = disk.open(&journal, Open::Write).during("open", &journal)?;
                let length = file.len().during("read", &journal)?;
                rewrite(&*file, &journal, 0, length.min(closed.end))?;
                file.sync().during("sync", &journal)?;
                live = Some((journal, closed.end));
            }
            (entry.closed, entry.sealed) = (Some(*closed), true);
            let (entry, closed) = (&*entry, *closed);
            let (disk, secret, files) = (&seams.disk, &secret, &files);
            SealedFiles { disk, files, data_dir: dir, store_id, secret, entry, closed, holes }
                .build(&|_| {})?;
        }
        if let Some((last, closed)) =
            manifest.generations.last().and_then(|last| Some((last.id, last.closed?)))
        {
            let entry = Entry {
                id: last + 1,
                nonce: random_u64()?,
                first_frame: closed.last_frame + 1,
                first_event: manifest.generations.last().map_or(0, |last| last.first_event) + closed.events,
                closed: None,
                sealed: false,
            };
            let table = state_table(&topics, &consumers);
            head::begin_journal(disk, dir, manifest.store_id(), &entry, &table)?;
            manifest.generations.push(entry);
            manifest.clean = None;
        }
        manifest.check().map_err(|what| Error::new(ErrorKind::Corrupt, format!("{MANIFEST}: {what}")))?;
        manifest.write(disk, hold)?;
        if let Some((journal, end)) = live {
            give_back_zeros(disk, &journal, end);
        }
        Ok(())
    }
}

/// Cuts what lies after the end of a journal that MANIFEST says is closed. Before MANIFEST says
/// so, the zeros there are what tells the end from a cut: a second repair would find damage that
/// the first had made. It costs room if it fails, and nothing else.
fn give_back_zeros(disk: &dyn Disk, journal: &Path, end: u64) {
    let cut = || {
        let file = disk.open(journal, Open::Write)?;
        if file.len()? > end {
            file.set_len(end)?;
            file.sync()?;
        }
        Ok::<_, std::io::Error>(())
    };
    if let Err(e) = cut() {
        tracing::warn!(journal = %journal.display(), error = %e, "the zeros behind its end stay");
    }
}
