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

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::frame::{Block, Chain, FrameBuilder, unreadable};
use super::hash::Secret;
use super::journal::{random_u64, topic_table, write_head};
use super::manifest::{Burnt, Closed, Entry, Hole, MANIFEST, Manifest, folder};
use super::open_files::{FileCache, OPEN_FILES_MAX};
use super::recovery::{FIRST_BYTES, is_cut, rewrite};
use super::seal::Place;
use super::space::{JOURNAL, prepare};
use super::topic::{Topic, Topics};
use super::verify::{Progress, journal_bytes, open};
use super::walk::{Step, Walk};
use super::{Options, Seams};
use crate::codec::{BlockKind, FixedRecord, FrameHeader};
use crate::disk::{DiskFile, Open};
use crate::error::{During, Error, ErrorKind, Result};

/// Event numbers, offsets and frames that are given up when it can't be known how many there were: more than a generation holds.
const UNKNOWN: u64 = 1 << 32;

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
    let mut search = Search {
        options,
        seams,
        secret: Secret::new(manifest.secret()),
        topics: Topics::new(&[]),
        seen: HashMap::new(),
        found: Vec::new(),
        salvaged: Vec::new(),
        closed: HashMap::new(),
        events: 0,
    };
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

/// A hole that is not declared yet.
struct Found {
    hole: Hole,
    is_exact: bool,
    salvaged: u64,
}

impl Found {
    fn loss(&self, options: &Options) -> Loss {
        let Hole { generation, at, end, topics, .. } = &self.hole;
        let offsets = topics.iter().map(|burnt| (burnt.topic.clone(), burnt.first, burnt.next));
        Loss {
            path: folder(&options.data_dir, *generation).join(JOURNAL),
            bytes: (*at, *end),
            events: self.is_exact.then(|| self.hole.events()),
            salvaged: self.salvaged,
            offsets: offsets.collect(),
        }
    }
}

fn found(
    entry: &Entry,
    (at, end): (u64, u64),
    (first_frame, next_frame): (u64, u64),
    (first_event, next_event): (u64, u64),
    is_exact: bool,
) -> Found {
    let (generation, topics, next_frame) = (entry.id, Vec::new(), next_frame.max(first_frame + 1));
    let hole = Hole { generation, at, end, first_frame, next_frame, first_event, next_event, topics };
    Found { hole, is_exact, salvaged: 0 }
}

struct Search<'a> {
    options: &'a Options,
    seams: &'a Seams,
    secret: Secret,
    /// As far as the journals have been read.
    topics: Topics,
    /// How many holes had been found when a sound block last told a topic's next offset.
    seen: HashMap<u32, usize>,
    found: Vec<Found>,
    /// JSON, an event a line.
    salvaged: Vec<u8>,
    /// Damaged generations, as they are with their holes.
    closed: HashMap<u64, Closed>,
    events: u64,
}

impl Search<'_> {
    /// Reads one journal.
    fn generation(&mut self, entry: &Entry, manifest: &Manifest) -> Result<Closed> {
        let path = folder(&self.options.data_dir, entry.id).join(JOURNAL);
        let file: Arc<dyn DiskFile> = match self.seams.disk.open(&path, Open::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Arc::new(Missing),
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
                Step::Hole(hole) => self.pass(&hole)?,
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
        while let Some((header, is_whole)) = walk.next_header(from)? {
            from = header.at + 1;
            let is_later = header.store_id == store_id
                && header.sequence >= sequence
                && header.first_event >= first_event
                && entry.closed.is_none_or(|closed| header.at < closed.end);
            if !is_later {
                continue;
            }
            if is_whole {
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
    fn pass(&mut self, hole: &Hole) -> Result<()> {
        for Burnt { topic, next, .. } in &hole.topics {
            self.topic(topic)?.skip_to(*next);
        }
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
                topic.add_events(u64::from(block.count), head.received_at);
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
                        false => self
                            .topic(&text(counter.topic)?)?
                            .add_counts(counter.duplicates, counter.conflicts),
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
                    topic.restore(&told);
                }
            }
        }
        Ok(sum)
    }

    /// Takes the events out of the hole found last that can still be read: blocks whose checksum is right.
    fn salvage(&mut self, file: &dyn DiskFile, path: &Path, (from, to): (u64, u64)) -> Result<()> {
        let len = file.len().during("read", path)?.min(to);
        let mut bytes = vec![0; usize::try_from(len.saturating_sub(from)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from).during("read", path)?;
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let at = to.min(len) - rest.len() as u64;
            let step = match Block::open(rest, at) {
                Ok(block) if block.kind == BlockKind::Events => {
                    // One that is whole and still can't be read is not worth more than a damaged one.
                    let _ = self.salvage_block(&block, path);
                    block.length as usize
                }
                Ok(block) => block.length as usize,
                Err(_) => 1,
            };
            rest = rest.get(step..).unwrap_or_default();
        }
        Ok(())
    }

    fn salvage_block(&mut self, block: &Block<'_>, path: &Path) -> Result<()> {
        let fault = |e| unreadable(path, block.at, e);
        let body = block.body().map_err(fault)?;
        let (head, events) = body.events().map_err(fault)?;
        let not_text = |_| Error::corrupt(path, block.at, "it is not text");
        let name = std::str::from_utf8(head.topic).map_err(not_text)?;
        let mut lines = Vec::new();
        for event in events {
            let event = event.map_err(fault)?;
            let text = |bytes| std::str::from_utf8(bytes).map_err(not_text);
            let line = Salvaged {
                topic: name,
                event_id: text(event.event_id)?,
                timestamp: text(event.timestamp)?,
                source: text(event.source)?,
                payload: serde_json::from_str(text(event.payload)?)
                    .map_err(|_| Error::corrupt(path, block.at, "a payload is not JSON"))?,
            };
            serde_json::to_writer(&mut lines, &line)
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write JSON: {e}")))?;
            lines.push(b'\n');
        }
        let topic = self.topic(name)?;
        // It is seen in the hole, not behind it: more may be lost.
        if head.first_offset >= topic.next_offset() {
            self.see(&topic, head.first_offset.saturating_add(u64::from(block.count)), path, block.at)?;
        }
        if let Some(found) = self.found.last_mut() {
            found.salvaged += u64::from(block.count);
        }
        self.salvaged.append(&mut lines);
        Ok(())
    }

    /// Gives up, of each topic that nothing was seen of behind the last hole, as many offsets as may be lost. None are if a
    /// topic table comes behind it.
    fn burn_what_may_be_lost(&mut self) {
        let lost: u64 = self.found.iter().map(|found| found.hole.events()).sum();
        let named = self.found.iter().flat_map(|found| &found.hole.topics);
        let named = named.map(|burnt| burnt.next - burnt.first).fold(0, u64::saturating_add);
        let (left, last) = (lost.saturating_sub(named), self.found.len());
        let Some(found) = self.found.last_mut().filter(|_| left > 0) else { return };
        for topic in self.topics.sorted(None) {
            if self.seen.get(&topic.number).is_none_or(|seen| *seen < last) {
                let first = topic.next_offset();
                let next = first.saturating_add(left);
                found.hole.topics.push(Burnt { topic: topic.name.to_string(), first, next });
                topic.skip_to(next);
            }
        }
    }

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
            let journal = folder(dir, *id).join(JOURNAL);
            if !disk.exists(&journal) {
                disk.create_dir_all(&folder(dir, *id)).during("create", &journal)?;
                disk.open(&journal, Open::Create).during("create", &journal)?;
            }
            // What nothing proves durable is made so before anything rests on it, as in recovery.
            let file = disk.open(&journal, Open::Write).during("open", &journal)?;
            let length = file.len().during("read", &journal)?;
            rewrite(&*file, &journal, 0, length.min(closed.end))?;
            if length > closed.end {
                file.set_len(closed.end).during("cut", &journal)?;
            }
            file.sync().during("sync", &journal)?;
            let holes = manifest.holes_of(*id);
            let Some(entry) = manifest.generations.iter_mut().find(|entry| entry.id == *id) else { continue };
            (entry.closed, entry.sealed) = (Some(*closed), true);
            let (entry, closed) = (&*entry, *closed);
            let (disk, secret, files) = (&seams.disk, &secret, &files);
            Place { disk, files, data_dir: dir, store_id, secret, entry, closed, holes }.build()?;
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
            let prepared = prepare(disk, dir, entry.id, None, (0, FIRST_BYTES))?;
            let mut chain = Chain {
                store_id,
                nonce: entry.nonce,
                sequence: entry.first_frame,
                first_event: entry.first_event,
                at: 0,
                durable_through: closed.last_frame,
                previous_crc: 0,
            };
            let table = topic_table(topics.rejected(), &topics.sorted(None));
            let path = folder(dir, entry.id).join(JOURNAL);
            write_head(&*prepared.file, &path, &mut FrameBuilder::default(), &mut chain, &table)?;
            manifest.generations.push(entry);
            manifest.clean = None;
        }
        manifest.check().map_err(|what| Error::new(ErrorKind::Corrupt, format!("{MANIFEST}: {what}")))?;
        manifest.write(disk, dir)
    }
}

/// An event as it is published.
#[derive(Serialize)]
struct Salvaged<'a> {
    topic: &'a str,
    event_id: &'a str,
    timestamp: &'a str,
    source: &'a str,
    payload: &'a RawValue,
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
