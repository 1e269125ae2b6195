//! Work on a store that no process serves: proving that journal, indexes, filters and counters
//! agree, and rebuilding the indexes.
//!
//! Verifying changes nothing but what sled writes when a clean index is opened. The journal is the
//! truth: everything else is compared with it.

use std::path::Path;
use std::sync::Arc;

pub use super::store::Progress;
use super::store::{cut, is_cut, journal_bytes, open, sealed_files};
use crate::disk::Open;
use crate::error::{During, Error, Result};
use crate::store::local::background::seal::JournalContent;
use crate::store::local::format::block::Block;
use crate::store::local::format::claim::Claim;
use crate::store::local::format::codec::FILTERS_FORMAT;
use crate::store::local::format::entries::TopicEntry;
use crate::store::local::format::hash::Secret;
use crate::store::local::format::layout::{FILTER, INDEX, MERGED_FILTERS, folder, journal_path};
use crate::store::local::format::manifest::{Closed, Entry, Hole, Manifest};
use crate::store::local::format::reader::FrameReader;
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::generation::ledger::{Audit, Ledger};
use crate::store::local::generation::topic::{Topic, Topics};
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
/// `Locked`, `Unusable`; `Corrupt` if MANIFEST is; `Io`. Anything else that is wrong is in the
/// report.
pub fn verify(options: &Options, seams: &Seams, progress: Progress<'_>) -> Result<Report> {
    let (_hold, manifest) = open(options, &*seams.disk)?;
    let files = FileCache::new(Arc::clone(&seams.disk), OPEN_FILES_MAX);
    let mut check = Check {
        options,
        seams,
        files,
        store_id: manifest.store_id(),
        ledger: Ledger::new(Topics::new(&[]), Secret::new(manifest.secret())),
        has_lost: false,
        report: Report::default(),
    };
    let total = journal_bytes(options, &*seams.disk, &manifest);
    for entry in &manifest.generations {
        // A file that is missing or can't be read is a fault as well: the other generations are
        // still looked at.
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

struct Check<'a> {
    options: &'a Options,
    seams: &'a Seams,
    files: Arc<FileCache>,
    store_id: [u8; 16],
    ledger: Ledger,
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
        let secret = self.ledger.secret;
        let files = sealed_files(self.options, self.seams, &self.files, manifest, &secret, (entry, found));
        let content = files.read_journal(&|_| {})?;
        if entry.sealed {
            files.compare(content)?;
            // Those of an older format are rebuilt by the next start.
            return if manifest.format < FILTERS_FORMAT { Ok(()) } else { self.filters(&files, manifest) };
        }
        match manifest.clean {
            Some(clean) if clean.covered.is_some() && entry.closed.is_none() => {
                self.index(entry, &path, found.end)
            }
            _ => Ok(()),
        }
    }

    /// Proves that a generation's filter, and those that end with it, forget no claim of any that
    /// they are of.
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
            for (id, nonce) in filter.generations() {
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

    /// Reads a journal with every check there is: the chain of frames, offsets, the topic table
    /// against what was counted before.
    fn journal(&mut self, entry: &Entry, manifest: &Manifest) -> Result<Closed> {
        let path = journal_path(&self.options.data_dir, entry.id);
        let file = self.seams.disk.open(&path, Open::Read).during("open", &path)?;
        let mut walk = Walk::new(file, &path, self.store_id, entry, manifest.holes_of(entry.id));
        let mut audit =
            TableCheck { is_first: entry.first_frame == 1, has_lost: self.has_lost, has_hole: false };
        let mut sum = 0u64;
        loop {
            match walk.step()? {
                Step::Frame(frame) => {
                    for block in frame.blocks() {
                        sum = sum.wrapping_add(self.ledger.apply(&block, &mut audit)?);
                    }
                }
                Step::Hole(hole) => {
                    audit.has_hole = true;
                    for burnt in hole.topics {
                        self.ledger.topic(&burnt.topic)?.skip_to(burnt.next);
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

    /// Compares the live index of a store that was stopped cleanly with the journal.
    fn index(&self, entry: &Entry, path: &Path, end: u64) -> Result<()> {
        let dir = folder(&self.options.data_dir, entry.id).join(INDEX);
        let corrupt = |what: &str| Err(Error::corrupt(&dir, 0, what));
        let index = self.seams.indexes.open(&dir)?;
        let file = self.seams.disk.open(path, Open::Read).during("open", path)?;
        let mut frames = FrameReader::new(file, path, entry.nonce).frames(end, Arc::new([]));
        let (mut claims, mut blocks) = (0u64, 0u64);
        while let Some(frame) = frames.next()? {
            for block in frame.event_blocks() {
                let body = block.body()?;
                let events = body.events()?;
                let head = events.head;
                for event in events {
                    let (offset, event) = event?;
                    let key = [head.topic, b"\0", event.event_id].concat();
                    let claim = Claim { offset, digest: event.digest, received_at: head.received_at };
                    if index.claim(&key)? != Some(claim) {
                        return corrupt("it does not have the claim of an event in the journal");
                    }
                    claims += 1;
                }
                let found = index.block_at_or_before(head.topic, head.first_offset)?;
                if !found
                    .is_some_and(|(first, location)| first == head.first_offset && location.at == block.at)
                {
                    return corrupt("it does not have a block of the journal");
                }
                blocks += 1;
            }
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

/// Holds what a journal says against what was said before.
struct TableCheck {
    /// The generation is the first of all.
    is_first: bool,
    /// Counts were lost in a hole of the generation before.
    has_lost: bool,
    /// There is a hole before, which may have lost what is told of consumers.
    has_hole: bool,
}

/// What is wrong with a topic table.
const BAD_TABLE: &str = "the topic table does not have the counts of the generation before";

impl Audit for TableCheck {
    fn events(&mut self, topic: &Arc<Topic>, first_offset: u64, block: &Block<'_>) -> Result<()> {
        match topic.next_offset() == first_offset {
            true => Ok(()),
            false => Err(block.corrupt("the offsets of its topic have a gap")),
        }
    }

    fn table(&mut self, topic: &Topic, told: &TopicEntry<'_>, block: &Block<'_>) -> Result<()> {
        let (known, counters) = (topic.figures(), &told.counters);
        let goes_on = told.next_offset == known.next_offset;
        let has_counts = (counters.duplicates, counters.conflicts) == (known.duplicates, known.conflicts);
        match goes_on && (has_counts || self.has_lost) || self.is_first {
            true => Ok(()),
            false => Err(block.corrupt(BAD_TABLE)),
        }
    }

    fn unknown_consumer(&mut self, block: &Block<'_>) -> Result<()> {
        match self.has_hole {
            true => Ok(()),
            false => Err(block.corrupt("it tells of a consumer that there is not")),
        }
    }

    fn rejected(&mut self, known: u64, told: u64, block: &Block<'_>) -> Result<()> {
        match known == told || self.has_lost {
            true => Ok(()),
            false => Err(block.corrupt(BAD_TABLE)),
        }
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
        maps.each_block(&mut |key, location| {
            same &= blocks.next().is_some_and(|expected| *expected == (key, location));
        })?;
        let mut frames = content.frames.iter();
        maps.each_frame(&mut |first, location| {
            same &= frames.next().is_some_and(|expected| *expected == (first, location));
        })?;
        if !same || blocks.next().is_some() || frames.next().is_some() {
            return corrupt("its blocks or frames are not those of the journal; run `sekali rebuild`");
        }
        Ok(())
    }
}
