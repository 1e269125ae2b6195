//! Giving up what is damaged in journals, and nothing else: what is lost is said exactly, and the rest is in use again.
//!
//! What a journal holds is never changed. MANIFEST declares the *hole*: from which byte to which nothing is read, which frames and event numbers
//! were there, and which offsets of which topics are not used again. Events in it that can still be read are written to a
//! file, to be published again. A live generation that is damaged is closed, and a new one begun behind it, so holes
//! are in sealed generations only.
//!
//! Which offsets are lost is seen from what comes behind the hole: the next block of a topic, or the next generation's topic
//! table. Where nothing comes behind it, as at the end of the live journal, each topic gives up as many offsets as may
//! have been its own.

mod search;

use std::path::PathBuf;
use std::sync::Arc;

use self::search::Search;
use super::frame::{Chain, FrameBuilder};
use super::journal::{random_u64, topic_table, write_head};
use super::manifest::{Entry, MANIFEST, Manifest, folder};
use super::open_files::{FileCache, OPEN_FILES_MAX};
use super::recovery::{FIRST_BYTES, rewrite};
use super::seal::Place;
use super::space::{journal_path, prepare};
use super::verify::{Progress, journal_bytes, open};
use super::{Options, Seams};
use crate::disk::Open;
use crate::error::{During, Error, ErrorKind, Result};

/// What is lost in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The journal.
    pub path: PathBuf,
    /// The first byte that is not read any more, and the first behind it.
    pub bytes: (u64, u64),
    /// Events in it; `None` if that can't be known.
    pub events: Option<u64>,
    /// Of these, events that can still be read and are in [`Repaired::salvaged`].
    pub salvaged: u64,
    /// Offsets that hold no event any more: topic, first, and first behind.
    pub offsets: Vec<(String, u64, u64)>,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What is lost, place by place.
    pub losses: Vec<Loss>,
    /// Events of the store that are not lost.
    pub events: u64,
    /// The file with those that can be published again, a JSON object a line.
    pub salvaged: Option<PathBuf>,
    /// Whether the loss was accepted, and the store can be started.
    pub is_done: bool,
}

/// Looks for damage in all journals; gives up what is damaged if `accept_loss` is set, and otherwise changes nothing.
///
/// # Errors
/// `Locked`; `Unusable` if there is no store, or a newer one; `Corrupt` if MANIFEST is damaged, or a journal in a way that no damage
/// explains; `NoSpace`, `Io`.
pub fn repair(
    options: &Options,
    seams: &Seams,
    accept_loss: bool,
    progress: Progress<'_>,
) -> Result<Repaired> {
    let disk = &*seams.disk;
    let (_lock, mut manifest) = open(options, disk)?;
    let total = journal_bytes(options, disk, &manifest);
    let mut search = Search::new(options, seams, &manifest);
    let mut done = 0;
    for entry in &manifest.generations {
        let closed = search.generation(entry, &manifest)?;
        done += closed.end;
        progress(done, total);
    }
    search.burn_what_may_be_lost();
    for found in &mut search.found {
        found.hole.topics.sort_by(|a, b| (&a.topic, a.first).cmp(&(&b.topic, b.first)));
    }
    let mut repaired = Repaired {
        losses: search.found.iter().map(|found| found.loss(options)).collect(),
        events: search.events,
        salvaged: None,
        is_done: accept_loss || search.found.is_empty(),
    };
    if accept_loss && !search.found.is_empty() {
        repaired.salvaged = search.write_salvaged()?;
        search.give_up(&mut manifest)?;
    }
    Ok(repaired)
}

impl Search<'_> {
    fn write_salvaged(&self) -> Result<Option<PathBuf>> {
        let Some(found) = self.found.first().filter(|_| !self.salvaged.is_empty()) else { return Ok(None) };
        let dir = &self.options.data_dir;
        let path = dir.join(format!("salvaged-{}.ndjson", found.hole.first_frame));
        let disk = &self.seams.disk;
        let file = disk.open(&path, Open::Create).during("create", &path)?;
        file.write_all_at(&self.salvaged, 0).during("write to", &path)?;
        file.sync().during("sync", &path)?;
        disk.sync_dir(dir).during("sync", dir)?;
        Ok(Some(path))
    }

    /// Declares the holes, seals what is damaged, and begins a new live generation if the live one is.
    fn give_up(self, manifest: &mut Manifest) -> Result<()> {
        let Self { options, seams, secret, topics, found, closed, .. } = self;
        let (disk, dir) = (&*seams.disk, &options.data_dir);
        let files = FileCache::new(Arc::clone(&seams.disk), OPEN_FILES_MAX);
        manifest.holes.extend(found.into_iter().map(|found| found.hole));
        manifest.holes.sort_by_key(|hole| (hole.generation, hole.at));
        let store_id = manifest.store_id();
        for (id, closed) in &closed {
            let journal = journal_path(dir, *id);
            if !disk.exists(&journal) {
                disk.create_dir_all(&folder(dir, *id)).during("create", &journal)?;
                disk.open(&journal, Open::Create).during("create", &journal)?;
            }
            let holes = manifest.holes_of(*id);
            let Some(entry) = manifest.generations.iter_mut().find(|entry| entry.id == *id) else { continue };
            if entry.closed.is_none() {
                // What nothing proves durable is made so before anything rests on it, as in recovery.
                let file = disk.open(&journal, Open::Write).during("open", &journal)?;
                let length = file.len().during("read", &journal)?;
                rewrite(&*file, &journal, 0, length.min(closed.end))?;
                if length > closed.end {
                    file.set_len(closed.end).during("cut", &journal)?;
                }
                file.sync().during("sync", &journal)?;
            }
            (entry.closed, entry.sealed) = (Some(*closed), true);
            let (entry, closed) = (&*entry, *closed);
            let (disk, secret, files) = (&seams.disk, &secret, &files);
            Place { disk, files, data_dir: dir, store_id, secret, entry, closed, holes }.build(&|_| {})?;
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
            let prepared = prepare(disk, dir, entry.id, None, (0, FIRST_BYTES), |_, _| {})?;
            let mut chain = Chain {
                store_id,
                nonce: entry.nonce,
                sequence: entry.first_frame,
                first_event: entry.first_event,
                at: 0,
                durable_through: closed.last_frame,
                previous_crc: 0,
            };
            let table = topic_table(topics.rejected(), &topics.sorted());
            let path = journal_path(dir, entry.id);
            write_head(&*prepared.file, &path, &mut FrameBuilder::default(), &mut chain, &table)?;
            manifest.generations.push(entry);
            manifest.clean = None;
        }
        manifest.check().map_err(|what| Error::new(ErrorKind::Corrupt, format!("{MANIFEST}: {what}")))?;
        manifest.write(disk, dir)
    }
}
