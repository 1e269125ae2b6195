//! Work on a store that no process serves: proving that journal, indexes, filters and counters agree, and making the
//! indexes anew.
//!
//! Verifying changes nothing but what sled writes when a clean index is opened. The journal is the truth: everything
//! else is compared with it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub use super::store::Progress;
use super::store::{cut, is_cut, journal_bytes, open, sealed_files};
use crate::disk::Open;
use crate::error::{During, Error, Result};
use crate::store::local::background::seal::JournalContent;
use crate::store::local::format::codec::{BlockKind, Claim, FORMAT};
use crate::store::local::format::frame::{Block, FrameReader, unreadable};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::layout::{FILTER, INDEX, MERGED_FILTERS, folder, journal_path};
use crate::store::local::format::manifest::{Closed, Entry, Hole, Manifest};
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::options::{Options, Seams};
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::open_files::{FileCache, OPEN_FILES_MAX};

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Generations.
    pub generations: u64,
    /// Events in them.
    pub events: u64,
    /// Of these generations, those that are sealed, and whose indexes lie beside their journals.
    pub sealed_generations: u64,
    /// Events in those.
    pub sealed_events: u64,
    /// Bytes of journal.
    pub bytes: u64,
    /// What is wrong, a sentence each. Empty: all agree.
    pub faults: Vec<String>,
}

/// Proves that all parts of the store agree with its journal.
///
/// # Errors
/// `Locked`, `Unusable`; `Corrupt` if MANIFEST is; `Io`. Anything else that is wrong is in the report.
pub fn verify(options: &Options, seams: &Seams, progress: Progress<'_>) -> Result<Report> {
    let (_hold, manifest) = open(options, &*seams.disk)?;
    let files = FileCache::new(Arc::clone(&seams.disk), OPEN_FILES_MAX);
    let mut check = Check {
        options,
        seams,
        files,
        store_id: manifest.store_id(),
        secret: Secret::new(manifest.secret()),
        topics: HashMap::new(),
        rejected: 0,
        has_lost: false,
        report: Report::default(),
    };
    let total = journal_bytes(options, &*seams.disk, &manifest);
    for entry in &manifest.generations {
        // A file that is missing or can't be read is a fault as well: the other generations are still looked at.
        if let Err(e) = check.generation(entry, &manifest) {
            check.report.faults.push(e.to_string());
        }
        progress(check.report.bytes, total);
    }
    Ok(check.report)
}

impl Report {
    /// Counts a generation in which this was found.
    pub(super) fn add(&mut self, entry: &Entry, found: Closed, manifest: &Manifest) {
        let lost: u64 = manifest.holes_of(entry.id).iter().map(Hole::events).sum();
        // What is damaged again ends before its holes.
        let events = found.events.saturating_sub(lost);
        self.generations += 1;
        self.events += events;
        self.bytes += found.end;
        if entry.sealed {
            self.sealed_generations += 1;
            self.sealed_events += events;
        }
    }
}

/// What a topic must have next, as the journal has told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Expected {
    next_offset: u64,
    duplicates: u64,
    conflicts: u64,
}

struct Check<'a> {
    options: &'a Options,
    seams: &'a Seams,
    files: Arc<FileCache>,
    store_id: [u8; 16],
    secret: Secret,
    topics: HashMap<Box<[u8]>, Expected>,
    rejected: u64,
    /// Counts were lost in a hole of the generation before, and the next topic table has them.
    has_lost: bool,
    report: Report,
}

impl Check<'_> {
    fn generation(&mut self, entry: &Entry, manifest: &Manifest) -> Result<()> {
        let found = self.journal(entry, manifest).inspect_err(|_| self.report.generations += 1)?;
        self.report.add(entry, found, manifest);
        let path = journal_path(&self.options.data_dir, entry.id);
        match entry.closed {
            Some(closed) if closed != found => {
                return Err(Error::corrupt(&path, found.end, "it does not hold what MANIFEST says"));
            }
            None if is_cut(manifest, found) => return Err(cut(&path, found)),
            _ => {}
        }
        let secret = self.secret;
        let place = sealed_files(self.options, self.seams, &self.files, manifest, &secret, (entry, found));
        let content = place.read_journal(&|_| {})?;
        if entry.sealed {
            place.compare(content)?;
            // Those of an older format are made anew by the next start.
            return if manifest.format < FORMAT { Ok(()) } else { self.filters(&place, manifest) };
        }
        match manifest.clean {
            Some(clean) if clean.covered.is_some() && entry.closed.is_none() => self.index(entry, &path),
            _ => Ok(()),
        }
    }

    /// Proves that a generation's filter, and those that end with it, forget no claim of any that they are of.
    fn filters(&self, newest: &SealedFiles<'_>, manifest: &Manifest) -> Result<()> {
        if newest.has_older_filter()? {
            return Ok(());
        }
        newest.filter()?;
        for name in [FILTER].into_iter().chain(MERGED_FILTERS) {
            if !newest.has(name)? {
                continue;
            }
            let dir = folder(&self.options.data_dir, newest.entry.id);
            let bad = |what| Err(Error::corrupt(&dir.join(name), 0, what));
            let filter = newest.read_filter(name)?;
            for (id, nonce) in filter.lanes() {
                let is_it = |entry: &&Entry| (entry.id, entry.nonce, entry.sealed) == (*id, *nonce, true);
                let entry = manifest.generations.iter().find(is_it);
                let Some((entry, closed)) = entry.and_then(|entry| Some((entry, entry.closed?))) else {
                    return bad("it is of a generation that is not there; run `sekali rebuild`");
                };
                let holes = manifest.holes_of(*id);
                for hash in (SealedFiles { entry, closed, holes, ..newest.clone() }).open()?.hashes() {
                    if filter.candidate(hash?) != Some(*id) {
                        return bad("it forgets an event; run `sekali rebuild`");
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a journal with every check there is: the chain of frames, offsets, the topic table against what was
    /// counted before.
    fn journal(&mut self, entry: &Entry, manifest: &Manifest) -> Result<Closed> {
        let path = journal_path(&self.options.data_dir, entry.id);
        let file = self.seams.disk.open(&path, Open::Read).during("open", &path)?;
        let mut walk = Walk::new(file, &path, self.store_id, entry, manifest.holes_of(entry.id));
        let mut sum = 0u64;
        loop {
            match walk.step()? {
                Step::Frame(frame) => {
                    for block in frame.blocks() {
                        self.block(&block, &path, entry.first_frame == 1, &mut sum)?;
                    }
                }
                Step::Hole(hole) => {
                    for burnt in hole.topics {
                        self.topics.entry(burnt.topic.as_bytes().into()).or_default().next_offset =
                            burnt.next;
                    }
                }
                Step::End | Step::Nothing => break,
            }
        }
        self.has_lost = !manifest.holes_of(entry.id).is_empty();
        if entry.closed.is_none() {
            walk.check_end()?;
        }
        Ok(walk.closed(sum))
    }

    fn block(&mut self, block: &Block<'_>, path: &Path, is_first: bool, sum: &mut u64) -> Result<()> {
        let bad = |what: &str| Err(Error::corrupt(path, block.at, what));
        let body = block.body().map_err(|e| unreadable(path, block.at, e))?;
        match block.kind {
            BlockKind::Events => {
                let (head, events) = body.events().map_err(|e| unreadable(path, block.at, e))?;
                let topic = self.topics.entry(head.topic.into()).or_default();
                if topic.next_offset != head.first_offset {
                    return bad("the offsets of its topic have a gap");
                }
                topic.next_offset += u64::from(block.count);
                for event in events {
                    let event = event.map_err(|e| unreadable(path, block.at, e))?;
                    *sum = sum.wrapping_add(self.secret.event(head.topic, event.event_id) as u64);
                }
            }
            BlockKind::Counters => {
                for entry in body.counters() {
                    let entry = entry.map_err(|e| unreadable(path, block.at, e))?;
                    self.rejected += entry.rejected;
                    if !entry.topic.is_empty() {
                        let topic = self.topics.entry(entry.topic.into()).or_default();
                        topic.duplicates += entry.duplicates;
                        topic.conflicts += entry.conflicts;
                    }
                }
            }
            BlockKind::Topics => {
                for entry in body.topics() {
                    let entry = entry.map_err(|e| unreadable(path, block.at, e))?;
                    let (counters, next_offset) = (entry.counters, entry.next_offset);
                    if counters.topic.is_empty() {
                        if counters.rejected != self.rejected && !self.has_lost {
                            return bad("the topic table does not have the counts of the generation before");
                        }
                        self.rejected = counters.rejected;
                        continue;
                    }
                    let (duplicates, conflicts) = (counters.duplicates, counters.conflicts);
                    let told = Expected { next_offset, duplicates, conflicts };
                    let known = self.topics.get(counters.topic).copied().unwrap_or_default();
                    if self.has_lost && told.next_offset == known.next_offset {
                        self.topics.insert(counters.topic.into(), told);
                    } else if told != known && !is_first {
                        return bad("the topic table does not have the counts of the generation before");
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares the live index of a store that was stopped cleanly with the journal.
    fn index(&self, entry: &Entry, path: &Path) -> Result<()> {
        let dir = folder(&self.options.data_dir, entry.id).join(INDEX);
        let corrupt = |what: &str| Err(Error::corrupt(&dir, 0, what));
        let index = self.seams.indexes.open(&dir)?;
        let file = self.seams.disk.open(path, Open::Read).during("open", path)?;
        let mut reader = FrameReader::new(file, entry.nonce);
        let (mut at, mut claims, mut blocks) = (0, 0u64, 0u64);
        while let Some(frame) = reader.frame(at, path)? {
            for block in frame.blocks().filter(|block| block.kind == BlockKind::Events) {
                let body = block.body().map_err(|e| unreadable(path, block.at, e))?;
                let (head, events) = body.events().map_err(|e| unreadable(path, block.at, e))?;
                for (event, offset) in events.zip(head.first_offset..) {
                    let event = event.map_err(|e| unreadable(path, block.at, e))?;
                    let key = [head.topic, b"\0", event.event_id].concat();
                    let same = |claim: &Claim| {
                        claim.offset == offset
                            && claim.digest == event.digest
                            && claim.received_at == head.received_at
                    };
                    if !index.claim(&key)?.as_ref().is_some_and(same) {
                        return corrupt("it does not have the claim of an event in the journal");
                    }
                    claims += 1;
                }
                let found = index.block_at_or_before(head.topic, head.first_offset)?;
                if !found.is_some_and(|(first, place)| first == head.first_offset && place.at == block.at) {
                    return corrupt("it does not have a block of the journal");
                }
                blocks += 1;
            }
            at = frame.end();
        }
        let (mut in_index, mut blocks_in_index) = (0u64, 0u64);
        index.for_each_claim(&mut |_, _| {
            in_index += 1;
            Ok(())
        })?;
        index.for_each_block(&mut |_, _, _| {
            blocks_in_index += 1;
            Ok(())
        })?;
        drop(index);
        self.seams.indexes.sync(&dir)?;
        if (in_index, blocks_in_index) != (claims, blocks) {
            return corrupt("it has more claims or blocks than the journal");
        }
        Ok(())
    }
}

impl SealedFiles<'_> {
    /// Compares the maps with the journal's content.
    fn compare(&self, mut content: JournalContent) -> Result<()> {
        let maps = self.open()?;
        let corrupt = |what: &str| Err(Error::corrupt(&folder(self.data_dir, self.entry.id), 0, what));
        content.sort(&|_| {});
        let mut claims = content.claims();
        let mut same = true;
        maps.each_claim(&mut |hash, claim: Claim| {
            same &= claims.next().is_some_and(|expected| *expected == (hash, claim));
        })?;
        if !same || claims.next().is_some() {
            return corrupt("its claims are not those of the journal; run `sekali rebuild`");
        }
        let mut blocks = content.blocks.iter();
        maps.each_block(&mut |key, place| {
            same &= blocks.next().is_some_and(|expected| *expected == (key, place));
        })?;
        let mut frames = content.frames.iter();
        maps.each_frame(&mut |first, place| {
            same &= frames.next().is_some_and(|expected| *expected == (first, place));
        })?;
        if !same || blocks.next().is_some() || frames.next().is_some() {
            return corrupt("its blocks or frames are not those of the journal; run `sekali rebuild`");
        }
        Ok(())
    }
}
