//! Reads every journal, over what is damaged, and finds what is lost and which offsets are lost
//! with it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::loss::{Found, found};
use super::salvage::{Lines, each_block};
use crate::disk::{DiskFile, Open, is_absent};
use crate::error::{During, Error, Result};
use crate::store::local::format::block::Block;
use crate::store::local::format::codec::{FixedRecord, FrameHeader};
use crate::store::local::format::entries::TopicEntry;
use crate::store::local::format::frame::Chain;
use crate::store::local::format::hash::Secret;
use crate::store::local::format::journal_end::is_cut;
use crate::store::local::format::layout::journal_path;
use crate::store::local::format::manifest::{Burnt, Closed, Entry, Hole, Manifest};
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::generation::ledger::{Audit, Ledger};
use crate::store::local::generation::topic::{Topic, Topics};
use crate::store::local::options::{Options, Seams};

/// Event numbers, offsets and frames that are given up when it can't be known how many there were:
/// more than a generation holds.
const UNKNOWN: u64 = 1 << 32;

/// What was found, as far as the journals have been read.
pub(super) struct Search<'a> {
    pub(super) options: &'a Options,
    pub(super) seams: &'a Seams,
    pub(super) ledger: Ledger,
    pub(super) gaps: Gaps,
    /// Holes that were declared before.
    pub(super) given_up: Vec<Found>,
    /// JSON, an event a line.
    pub(super) salvaged: Vec<u8>,
    /// Damaged generations, as they are with their holes.
    pub(super) closed: BTreeMap<u64, Closed>,
    /// Generations whose journal is not there.
    pub(super) missing: Vec<u64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(options: &'a Options, seams: &'a Seams, manifest: &Manifest) -> Self {
        Self {
            options,
            seams,
            ledger: Ledger::new(Topics::new(&[]), Secret::new(manifest.secret())),
            gaps: Gaps::default(),
            given_up: Vec::new(),
            salvaged: Vec::new(),
            closed: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    /// Reads one journal.
    pub(super) fn generation(&mut self, entry: &Entry, manifest: &Manifest) -> Result<Closed> {
        let path = journal_path(&self.options.data_dir, entry.id);
        let file: Arc<dyn DiskFile> = match self.seams.disk.open(&path, Open::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !is_absent(&*self.seams.disk, &path).during("look for", &path)? {
                    return Err(Error::io("open", &path, e));
                }
                self.missing.push(entry.id);
                Arc::new(Missing)
            }
            opened => opened.during("open", &path)?,
        };
        let store_id = manifest.store_id();
        let mut walk = Walk::new(Arc::clone(&file), &path, store_id, entry, manifest.holes_of(entry.id));
        self.gaps.has_tables = entry.first_frame > 1;
        let (holes_before, mut sum) = (self.gaps.found.len(), 0u64);
        loop {
            match walk.step()? {
                Step::Frame(frame) => {
                    for block in frame.blocks() {
                        sum = sum.wrapping_add(self.ledger.apply(&block, &mut self.gaps)?);
                    }
                }
                Step::Hole(hole) => self.pass(hole, &*file, &path)?,
                Step::End => break,
                Step::Nothing => {
                    let Some((found, goes_on)) = self.find(&mut walk, &*file, &path, entry, manifest)? else {
                        break;
                    };
                    walk.skip(&found.hole)?;
                    let range = (found.hole.at, found.hole.end);
                    self.gaps.found.push(found);
                    self.salvage(&*file, &path, range)?;
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        let closed = walk.closed(sum);
        if self.gaps.found.len() > holes_before {
            self.closed.insert(entry.id, closed);
        }
        Ok(closed)
    }

    /// The hole that begins where a walk has come to an end, and whether a sound frame is after
    /// it; `None` if that is the end of the journal.
    fn find(
        &self,
        walk: &mut Walk,
        file: &dyn DiskFile,
        path: &Path,
        entry: &Entry,
        manifest: &Manifest,
    ) -> Result<Option<(Found, bool)>> {
        let Chain { at, sequence, first_event, store_id, .. } = walk.chain.clone();
        // What is known of the end of the journal, if nothing that is whole comes after the
        // damage.
        let (mut end, mut next_frame, mut next_event, mut is_exact) = (at, sequence, first_event, true);
        let mut is_damage = at == 0;
        let mut from = at + 1;
        while let Some(header) = walk.next_header(from)? {
            from = header.at + 1;
            let is_later = header.store_id == store_id
                && header.sequence >= sequence
                && header.first_event >= first_event
                && entry.closed.is_none_or(|closed| header.at < closed.end);
            if !is_later {
                continue;
            }
            if walk.is_whole(header.at)? {
                let (frames, events) = ((sequence, header.sequence), (first_event, header.first_event));
                return Ok(Some((found(entry, (at, header.at), frames, events, true), true)));
            }
            is_damage |= header.durable_through >= sequence;
            end = end.max(header.at + FrameHeader::BYTES as u64 + u64::from(header.length));
            next_frame = next_frame.max(header.sequence + 1);
            next_event = next_event.max(header.first_event + u64::from(header.events));
        }
        if let Some(closed) = entry.closed {
            (end, next_frame, next_event) =
                (closed.end, closed.last_frame + 1, entry.first_event + closed.events);
        } else {
            let clean = manifest.clean.filter(|clean| clean.end > at);
            is_damage |= clean.is_some() || is_cut(file, path, at)?;
            if !is_damage {
                return Ok(None);
            }
            end = end.max(clean.map_or(at + 1, |clean| clean.end)).max(at + 1);
            match clean.and_then(|clean| Some((clean.last_frame, clean.covered?.claims))) {
                Some((last_frame, claims)) => {
                    next_frame = next_frame.max(last_frame + 1);
                    next_event = next_event.max(entry.first_event + claims);
                }
                None => {
                    is_exact = false;
                    next_frame += UNKNOWN;
                    next_event += UNKNOWN;
                }
            }
        }
        let (frames, events) = ((sequence, next_frame), (first_event, next_event));
        Ok(Some((found(entry, (at, end), frames, events, is_exact), false)))
    }

    /// Goes over a hole that was declared before.
    fn pass(&mut self, hole: Hole, file: &dyn DiskFile, path: &Path) -> Result<()> {
        for Burnt { topic, next, .. } in &hole.topics {
            self.ledger.topic(topic)?.skip_to(*next);
        }
        let mut salvaged = 0;
        each_block(file, path, (hole.at, hole.end), |block| {
            salvaged += Lines::of(block).map_or(0, |_| u64::from(block.count));
        })?;
        let is_exact = hole.events() < UNKNOWN;
        self.gaps.has_declared = true;
        self.given_up.push(Found { hole, is_exact, salvaged });
        Ok(())
    }

    /// Takes the events out of the hole found last that can still be read: blocks whose checksum is
    /// right.
    fn salvage(&mut self, file: &dyn DiskFile, path: &Path, range: (u64, u64)) -> Result<()> {
        each_block(file, path, range, |block| {
            // One that is whole and still can't be read is not worth more than a damaged one.
            let _ = self.salvage_block(block);
        })
    }

    fn salvage_block(&mut self, block: &Block<'_>) -> Result<()> {
        let Lines { topic, first_offset, mut json } = Lines::of(block)?;
        let topic = self.ledger.topic(&topic)?;
        // It is seen in the hole, not after it: more may be lost.
        if first_offset >= topic.next_offset() {
            self.gaps.see(&topic, first_offset.saturating_add(u64::from(block.count)), block)?;
        }
        if let Some(found) = self.gaps.found.last_mut() {
            found.salvaged += u64::from(block.count);
        }
        self.salvaged.append(&mut json);
        Ok(())
    }

    /// Gives up, of each topic that nothing was seen of after the last hole, as many offsets as
    /// may be lost. None are if a topic table comes after it.
    pub(super) fn burn_what_may_be_lost(&mut self) {
        let lost: u64 = self.gaps.found.iter().map(|found| found.hole.events()).sum();
        let named = self.gaps.found.iter().flat_map(|found| &found.hole.topics);
        let named = named.map(|burnt| burnt.next - burnt.first).fold(0, u64::saturating_add);
        let (left, last) = (lost.saturating_sub(named), self.gaps.found.len());
        let Some(found) = self.gaps.found.last_mut().filter(|_| left > 0) else { return };
        for topic in self.ledger.topics.sorted() {
            if self.gaps.seen.get(&topic.number).is_none_or(|seen| *seen < last) {
                let first = topic.next_offset();
                let next = first.saturating_add(left);
                found.hole.topics.push(Burnt { topic: topic.name.to_string(), first, next });
                topic.skip_to(next);
            }
        }
    }
}

/// The holes that were found, and the offsets that are lost in them.
#[derive(Default)]
pub(super) struct Gaps {
    pub(super) found: Vec<Found>,
    /// How many holes had been found when a sound block last told a topic's next offset.
    seen: HashMap<u32, usize>,
    /// Events in sound blocks.
    pub(super) events: u64,
    /// The tables of the generation tell what those before it hold. That of the first generation of
    /// all does not: it may begin with offsets, when those before it are gone.
    has_tables: bool,
    /// Holes were declared before, which may have lost what is told of consumers.
    has_declared: bool,
}

impl Gaps {
    /// A topic's next offset is at least this.
    fn see(&mut self, topic: &Topic, next: u64, block: &Block<'_>) -> Result<()> {
        let first = topic.next_offset();
        if next < first {
            return Err(block.corrupt("an offset is given away twice"));
        }
        if next > first {
            let Some(found) = self.found.last_mut() else {
                return Err(block.corrupt("the offsets of its topic have a gap"));
            };
            found.hole.topics.push(Burnt { topic: topic.name.to_string(), first, next });
            topic.skip_to(next);
        }
        Ok(())
    }
}

impl Audit for Gaps {
    fn events(&mut self, topic: &Arc<Topic>, first_offset: u64, block: &Block<'_>) -> Result<()> {
        self.see(topic, first_offset, block)?;
        self.seen.insert(topic.number, self.found.len());
        self.events += u64::from(block.count);
        Ok(())
    }

    fn table(&mut self, topic: &Topic, told: &TopicEntry<'_>, block: &Block<'_>) -> Result<()> {
        if self.has_tables {
            self.see(topic, told.next_offset, block)?;
        }
        self.seen.insert(topic.number, self.found.len());
        Ok(())
    }

    fn reached(&mut self, topic: &Topic, next_offset: u64, block: &Block<'_>) -> Result<()> {
        // What it has acknowledged was there.
        if next_offset > topic.next_offset() { self.see(topic, next_offset, block) } else { Ok(()) }
    }

    fn unknown_consumer(&mut self, block: &Block<'_>) -> Result<()> {
        match self.found.is_empty() && !self.has_declared {
            true => Err(block.corrupt("it tells of a consumer that there is not")),
            false => Ok(()),
        }
    }
}

/// A journal that is not there, which is as good as an empty one.
#[derive(Debug)]
struct Missing;

impl DiskFile for Missing {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}
