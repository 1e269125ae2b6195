//! Reads every journal, over what is damaged, and finds what is lost and which offsets are lost with it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::loss::{Found, found};
use super::salvage::{Lines, each_block};
use crate::disk::{DiskFile, Open, is_absent};
use crate::error::{During, Error, Result};
use crate::store::local::format::codec::{BlockKind, FixedRecord, FrameHeader};
use crate::store::local::format::frame::{Block, Chain, unreadable};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::journal_end::is_cut;
use crate::store::local::format::layout::journal_path;
use crate::store::local::format::manifest::{Burnt, Closed, Entry, Hole, Manifest};
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::generation::topic::{Topic, Topics};
use crate::store::local::options::{Options, Seams};

/// Event numbers, offsets and frames that are given up when it can't be known how many there were: more than a generation holds.
const UNKNOWN: u64 = 1 << 32;

/// What was found, as far as the journals have been read.
pub(super) struct Search<'a> {
    pub(super) options: &'a Options,
    pub(super) seams: &'a Seams,
    pub(super) secret: Secret,
    /// As far as the journals have been read.
    pub(super) topics: Topics,
    /// How many holes had been found when a sound block last told a topic's next offset.
    seen: HashMap<u32, usize>,
    pub(super) found: Vec<Found>,
    /// Holes that were declared before.
    pub(super) given_up: Vec<Found>,
    /// JSON, an event a line.
    pub(super) salvaged: Vec<u8>,
    /// Damaged generations, as they are with their holes.
    pub(super) closed: HashMap<u64, Closed>,
    pub(super) events: u64,
    /// Generations whose journal is not there.
    pub(super) missing: Vec<u64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(options: &'a Options, seams: &'a Seams, manifest: &Manifest) -> Self {
        Self {
            options,
            seams,
            secret: Secret::new(manifest.secret()),
            topics: Topics::new(&[]),
            seen: HashMap::new(),
            found: Vec::new(),
            given_up: Vec::new(),
            salvaged: Vec::new(),
            closed: HashMap::new(),
            events: 0,
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
        let (holes_before, mut sum) = (self.found.len(), 0u64);
        loop {
            match walk.step()? {
                Step::Frame(frame) => {
                    for block in frame.blocks() {
                        sum = sum.wrapping_add(self.block(&block, &path, entry)?);
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
                    self.found.push(found);
                    self.salvage(&*file, &path, range)?;
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        let closed = walk.closed(sum);
        if self.found.len() > holes_before {
            self.closed.insert(entry.id, closed);
        }
        Ok(closed)
    }

    /// The hole that begins where a walk has come to an end, and whether a sound frame is behind it; `None` if that is the end
    /// of the journal.
    fn find(
        &self,
        walk: &mut Walk,
        file: &dyn DiskFile,
        path: &Path,
        entry: &Entry,
        manifest: &Manifest,
    ) -> Result<Option<(Found, bool)>> {
        let Chain { at, sequence, first_event, store_id, .. } = walk.chain.clone();
        // What is known of the end of the journal, if nothing that is whole comes behind the damage.
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
            self.topic(topic)?.skip_to(*next);
        }
        let mut salvaged = 0;
        each_block(file, path, (hole.at, hole.end), |block| {
            salvaged += Lines::of(block, path).map_or(0, |_| u64::from(block.count));
        })?;
        let is_exact = hole.events() < UNKNOWN;
        self.given_up.push(Found { hole, is_exact, salvaged });
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.topics.ensure(name, self.secret.topic(name.as_bytes()))
    }

    /// A topic's next offset is at least this.
    fn see(&mut self, topic: &Topic, next: u64, path: &Path, at: u64) -> Result<()> {
        let first = topic.next_offset();
        if next < first {
            return Err(Error::corrupt(path, at, "an offset is given away twice"));
        }
        if next > first {
            let Some(found) = self.found.last_mut() else {
                return Err(Error::corrupt(path, at, "the offsets of its topic have a gap"));
            };
            found.hole.topics.push(Burnt { topic: topic.name.to_string(), first, next });
            topic.skip_to(next);
        }
        Ok(())
    }

    /// Takes what a sound block says; returns the sum of its claims.
    fn block(&mut self, block: &Block<'_>, path: &Path, entry: &Entry) -> Result<u64> {
        let fault = |e| unreadable(path, block.at, e);
        let body = block.body().map_err(fault)?;
        let text = |name: &[u8]| match std::str::from_utf8(name) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(Error::corrupt(path, block.at, "a topic is not UTF-8")),
        };
        let mut sum = 0u64;
        match block.kind {
            BlockKind::Events => {
                let (head, events) = body.events().map_err(fault)?;
                let topic = self.topic(&text(head.topic)?)?;
                self.see(&topic, head.first_offset, path, block.at)?;
                self.seen.insert(topic.number, self.found.len());
                self.topics.add_events(&topic, u64::from(block.count), head.received_at);
                self.events += u64::from(block.count);
                for event in events {
                    let id = event.map_err(fault)?.event_id;
                    sum = sum.wrapping_add(self.secret.event(head.topic, id) as u64);
                }
            }
            BlockKind::Counters => {
                for counter in body.counters() {
                    let counter = counter.map_err(fault)?;
                    match counter.topic.is_empty() {
                        true => self.topics.add_rejected(counter.rejected),
                        false => {
                            let topic = self.topic(&text(counter.topic)?)?;
                            self.topics.add_counts(&topic, counter.duplicates, counter.conflicts);
                        }
                    }
                }
            }
            BlockKind::Topics => {
                for told in body.topics() {
                    let told = told.map_err(fault)?;
                    if told.counters.topic.is_empty() {
                        let missing = told.counters.rejected.saturating_sub(self.topics.rejected());
                        self.topics.add_rejected(missing);
                        continue;
                    }
                    let topic = self.topic(&text(told.counters.topic)?)?;
                    // The first generation of all may begin with offsets, when those before it are gone.
                    if entry.first_frame > 1 {
                        self.see(&topic, told.next_offset, path, block.at)?;
                    }
                    self.seen.insert(topic.number, self.found.len());
                    self.topics.restore(&topic, &told);
                }
            }
        }
        Ok(sum)
    }

    /// Takes the events out of the hole found last that can still be read: blocks whose checksum is right.
    fn salvage(&mut self, file: &dyn DiskFile, path: &Path, range: (u64, u64)) -> Result<()> {
        each_block(file, path, range, |block| {
            // One that is whole and still can't be read is not worth more than a damaged one.
            let _ = self.salvage_block(block, path);
        })
    }

    fn salvage_block(&mut self, block: &Block<'_>, path: &Path) -> Result<()> {
        let Lines { topic, first_offset, mut json } = Lines::of(block, path)?;
        let topic = self.topic(&topic)?;
        // It is seen in the hole, not behind it: more may be lost.
        if first_offset >= topic.next_offset() {
            self.see(&topic, first_offset.saturating_add(u64::from(block.count)), path, block.at)?;
        }
        if let Some(found) = self.found.last_mut() {
            found.salvaged += u64::from(block.count);
        }
        self.salvaged.append(&mut json);
        Ok(())
    }

    /// Gives up, of each topic that nothing was seen of behind the last hole, as many offsets as may be lost. None are if a
    /// topic table comes behind it.
    pub(super) fn burn_what_may_be_lost(&mut self) {
        let lost: u64 = self.found.iter().map(|found| found.hole.events()).sum();
        let named = self.found.iter().flat_map(|found| &found.hole.topics);
        let named = named.map(|burnt| burnt.next - burnt.first).fold(0, u64::saturating_add);
        let (left, last) = (lost.saturating_sub(named), self.found.len());
        let Some(found) = self.found.last_mut().filter(|_| left > 0) else { return };
        for topic in self.topics.sorted() {
            if self.seen.get(&topic.number).is_none_or(|seen| *seen < last) {
                let first = topic.next_offset();
                let next = first.saturating_add(left);
                found.hole.topics.push(Burnt { topic: topic.name.to_string(), first, next });
                topic.skip_to(next);
            }
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
