//! Opening a store: what is on disk is checked, made durable, and brought back into RAM before anything is answered.
//!
//! | found in the live journal | then |
//! |---|---|
//! | an invalid frame, and a later valid one that says it was durable | damage: refused, with file and offset |
//! | an invalid frame below the end that a clean stop recorded | damage: refused |
//! | an invalid frame, and nothing later that says so | the end: cut, zeroed, synced |
//! | valid frames that nothing proves durable | written again in place, synced (after SIGKILL they may be in the page cache only) |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::leftovers::{self, Leftovers};
use crate::disk::{Disk, DiskFile, Open, is_absent};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::Options;
use crate::store::local::admission::preallocation::{journal_path, prepare, zero};
use crate::store::local::background::checkpoint::Committed;
use crate::store::local::background::seal::Place;
use crate::store::local::format::codec::{BlockKind, BlockPlace, FORMAT, FixedRecord, FrameHeader};
use crate::store::local::format::frame::{Block, Chain, Frame, FrameBuilder, unreadable};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::hold::Hold;
use crate::store::local::format::manifest::{Clean, Closed, Entry, Hole, MANIFEST, Manifest};
use crate::store::local::format::stray::{self, Stray};
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::{ClaimSet, Claims, Known, Placed, Tables};
use crate::store::local::generation::topic::{Topic, Topics};
use crate::store::local::sealed::filter_set::Filters;
use crate::store::local::sealed::open_files::FileCache;
use crate::store::local::write::writer::{random_u64, topic_table, write_head};
use crate::sync::Builder;
use crate::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Claims that are handed to the checkpoint at once.
const SET_CLAIMS: usize = 20_000;
/// Sets that wait for the thread of the tables: neither waits long for the other, and there is little to hold.
const FOUND_WAITING: usize = 2;
/// Zeros that a new store's journal begins with.
pub(crate) const FIRST_BYTES: u64 = 256 << 10;

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    pub(crate) topics: Topics,
    pub(crate) filters: Filters,
    pub(crate) generations: Vec<Arc<Generation>>,
    pub(crate) tables: Vec<Tables>,
    /// What the checkpoint has to do.
    pub(crate) committed: Vec<Committed>,
    /// Claims in them.
    pub(crate) claims: u64,
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
    let dir = &options.data_dir;
    let mut manifest = match Manifest::read(&**disk, dir)? {
        Some(manifest) => manifest,
        None => create(options, &**disk, hold)?,
    };
    Leftovers::find(&**disk, dir, &manifest)?.clear(&**disk, dir)?;
    stray::remove(&**disk, dir)?;
    let clean = manifest.clean.take();
    let is_older = manifest.format < FORMAT;
    manifest.format = FORMAT;
    if clean.is_some() || is_older {
        // Cleared before the first write: from here on, only the journal is believed. And whoever knows only the older format
        // is told before there is anything that it would take for damage.
        manifest.write(&**disk, hold)?;
    }
    let mut recovery = Recovery {
        options,
        disk,
        files,
        store_id: manifest.store_id(),
        secret: Secret::new(manifest.secret()),
        topics: Topics::new(&manifest.holes),
        manifest: &manifest,
        filters: Filters::default(),
        generations: Vec::new(),
        tables: (0..options.workers).map(|_| Tables::new()).collect(),
        committed: Vec::new(),
        claims: 0,
        is_older,
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
    recovery.topics.limit(options.topics_max);
    let Recovery { topics, filters, generations, tables, committed, claims, .. } = recovery;
    Ok(Recovered { manifest, topics, filters, generations, tables, committed, claims, chain, zeroed, clean })
}

/// Makes a new store.
fn create(options: &Options, disk: &dyn Disk, hold: &Hold) -> Result<Manifest> {
    let dir = &options.data_dir;
    if let Some(Stray { path, manifest }) = stray::newest(disk, dir)?
        && (options.must_exist || manifest.generations.len() > 1)
    {
        return Err(missing(&path, "knows a store", &cure_of_missing(disk, dir)?));
    }
    if options.must_exist {
        let message = format!(
            "{} holds no store (no {MANIFEST}): mount the right volume, or start without --must-exist to create one",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Unusable, message));
    }
    leftovers::clear_for_new_store(disk, dir, &cure_of_missing(disk, dir)?)?;
    tracing::warn!(data_dir = %dir.display(), "created a new, empty store here");
    let random = || Ok::<u128, Error>(u128::from(random_u64()?) << 64 | u128::from(random_u64()?));
    let mut manifest = Manifest::new(random()?.to_be_bytes(), random()?.to_be_bytes());
    let entry =
        Entry { id: 1, nonce: random_u64()?, first_frame: 1, first_event: 0, closed: None, sealed: false };
    let prepared = prepare(disk, dir, entry.id, None, (0, FIRST_BYTES), |_, _| {})?;
    let mut chain = Chain {
        store_id: manifest.store_id(),
        nonce: entry.nonce,
        sequence: entry.first_frame,
        first_event: 0,
        at: 0,
        durable_through: 0,
        previous_crc: 0,
    };
    let path = journal_path(dir, entry.id);
    write_head(&*prepared.file, &path, &mut FrameBuilder::default(), &mut chain, &topic_table(0, &[]))?;
    manifest.generations.push(entry);
    manifest.write(disk, hold)?;
    Ok(manifest)
}

/// There is no MANIFEST, and something shows that there was one.
pub(crate) fn missing(shows: &Path, how: &str, cure: &str) -> Error {
    let message = format!("{} {how}, but {MANIFEST} is missing: {cure}", shows.display());
    Error::new(ErrorKind::Corrupt, message)
}

/// What helps where MANIFEST is missing.
fn cure_of_missing(disk: &dyn Disk, dir: &Path) -> Result<String> {
    Ok(match stray::newest(disk, dir)? {
        Some(Stray { path, .. }) => format!(
            "{} is a whole one that did not get into its place: `sekali repair` says what it holds, `sekali repair --accept-loss` puts \
             it there",
            path.display()
        ),
        None => "restore it, or begin a new store in another directory".to_owned(),
    })
}

struct Recovery<'a> {
    manifest: &'a Manifest,
    options: &'a Options,
    disk: &'a Arc<dyn Disk>,
    files: &'a Arc<FileCache>,
    store_id: [u8; 16],
    secret: Secret,
    topics: Topics,
    filters: Filters,
    generations: Vec<Arc<Generation>>,
    tables: Vec<Tables>,
    committed: Vec<Committed>,
    claims: u64,
    /// The store was last written by a version with an older format.
    is_older: bool,
}

impl Recovery<'_> {
    fn open_sealed(&mut self, entry: &Entry, closed: Closed) -> Result<()> {
        // Its maps would know each event, and a retry would be dropped, of which nothing is left.
        // So nothing is answered at all: what producers have is not lost.
        let path = journal_path(&self.options.data_dir, entry.id);
        let holes = self.manifest.holes_of(entry.id);
        // What was given up at the end need not be there.
        let cut = |end, hole: &Hole| if hole.end == end { hole.at } else { end };
        check_length(&**self.disk, &path, holes.iter().rev().fold(closed.end, cut))?;
        let place = Place {
            disk: self.disk,
            files: self.files,
            data_dir: &self.options.data_dir,
            store_id: self.store_id,
            secret: &self.secret,
            entry,
            closed,
            holes,
        };
        let maps = match place.open() {
            Ok(maps) => {
                if self.is_older {
                    tracing::info!(generation = entry.id, "a filter of an older version is made anew");
                    place.renew_filter(&maps)?;
                }
                maps
            }
            Err(e) => {
                tracing::warn!(generation = entry.id, error = %e, "a sealed index is made anew from its journal");
                place.build(&|_| {})?.0
            }
        };
        let generation = Generation::sealed(&place, maps);
        self.generations.push(Arc::new(generation));
        Ok(())
    }

    /// Reads a generation that is not sealed; returns where its journal goes on, and up to where it is zeroed.
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
            recovery: self,
            found: sender,
            generation,
            path: path.clone(),
            is_live: closed.is_none(),
            is_indexed,
            sets: Vec::new(),
            blocks: Vec::new(),
            waiting: 0,
        };
        replay.begin_sets();
        // A generation with holes is sealed.
        let mut walk = Walk::new(Arc::clone(&file), &path, replay.recovery.store_id, entry, Arc::new([]));
        let mut durable_through = clean.map_or(0, |clean| clean.last_frame);
        // Frames behind the last one that is proven durable.
        let mut unproven = Vec::new();
        while let Step::Frame(frame) = walk.step()? {
            replay.apply(&frame)?;
            durable_through = durable_through.max(frame.header.durable_through);
            unproven.retain(|(sequence, _)| *sequence > durable_through);
            if frame.header.sequence > durable_through {
                unproven.push((frame.header.sequence, frame.header.at));
            }
        }
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
        if chain.at == 0 || clean.is_some_and(|clean| chain.at < clean.end) {
            return Err(Error::corrupt(&path, chain.at, "no valid frame, and a durable one was here"));
        }
        if is_cut(&*file, &path, chain.at)? {
            return Err(Error::corrupt(
                &path,
                chain.at,
                "the file was cut here: zeros must follow the last frame",
            ));
        }
        walk.check_end()?;
        if clean.is_none() {
            let first = unproven.first().map_or(chain.at, |(_, at)| *at);
            rewrite(&*file, &path, first, chain.at)?;
        }
        let zeroed = clear_tail(&*file, &path, chain.at)?;
        file.sync().during("sync", &path)?;
        chain.durable_through = chain.sequence - 1;
        Ok((chain, zeroed))
    }
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

/// Writes what is in the file from `from` to `to` again, so that the next sync makes it durable whatever happened to
/// the last one.
pub(crate) fn rewrite(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let length = piece.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..length], at).during("read", path)?;
        file.write_all_at(&piece[..length], at).during("write to", path)?;
        at += length as u64;
    }
    Ok(())
}

/// Whether the file ends where no journal of ours can: with its last frame, or within one.
pub(crate) fn is_cut(file: &dyn DiskFile, path: &Path, end: u64) -> Result<bool> {
    let len = file.len().during("read", path)?;
    let mut head =
        vec![0; FrameHeader::BYTES.min(usize::try_from(len.saturating_sub(end)).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, end).during("read", path)?;
    let Ok(header) = FrameHeader::from_bytes(&head) else {
        return Ok(head.iter().any(|byte| *byte != 0) || head.is_empty());
    };
    let frame_end = end + FrameHeader::BYTES as u64 + u64::from(header.length);
    Ok(FrameHeader::open(&head, header.nonce).is_ok() && header.at == end && frame_end > len)
}

/// Zeroes what lies behind the end; returns where the file ends.
fn clear_tail(file: &dyn DiskFile, path: &Path, end: u64) -> Result<u64> {
    let len = file.len().during("read", path)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = end;
    while at < len {
        let length = piece.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..length], at).during("read", path)?;
        if piece[..length].iter().any(|byte| *byte != 0) {
            zero(file, path, at, at + length as u64, |_, _| {})?;
        }
        at += length as u64;
    }
    Ok(len.max(end))
}

/// A set of claims, and the number of its worker.
type Found = (usize, Arc<ClaimSet>);

/// Fills the workers' tables with what is found: a sixth of a start's work, and memory that is touched for the first time.
fn restore(
    mut tables: Vec<Tables>,
    generation: &Arc<Generation>,
    found: &Receiver<Found>,
    is_indexed: bool,
) -> Vec<Tables> {
    while let Ok((worker, set)) = found.recv() {
        tables[worker].restore(generation, set, is_indexed);
    }
    tables
}

/// Takes the frames of one journal in.
struct Replay<'a, 'b> {
    recovery: &'a mut Recovery<'b>,
    generation: Arc<Generation>,
    path: PathBuf,
    is_live: bool,
    /// The index has all of it.
    is_indexed: bool,
    /// To the thread that fills the workers' tables meanwhile.
    found: SyncSender<Found>,
    sets: Vec<Claims>,
    blocks: Vec<(Arc<Topic>, u64, BlockPlace)>,
    waiting: usize,
}

impl Replay<'_, '_> {
    fn begin_sets(&mut self) {
        self.sets = (0..self.recovery.options.workers).map(|_| Claims::default()).collect();
        self.waiting = 0;
    }

    fn apply(&mut self, frame: &Frame<'_>) -> Result<()> {
        let mut sum = 0u64;
        let mut blocks = Vec::new();
        for block in frame.blocks() {
            match block.kind {
                BlockKind::Events => blocks.push(self.events(&block, &mut sum)?),
                BlockKind::Counters if self.is_live => self.counters(&block)?,
                BlockKind::Topics if self.is_live => self.topics(&block)?,
                BlockKind::Counters | BlockKind::Topics => {}
            }
        }
        let visible = if self.is_indexed { &[] } else { &blocks[..] };
        self.generation.publish(&frame.header, visible, sum);
        if !self.is_indexed {
            self.blocks.append(&mut blocks);
        }
        if self.waiting >= SET_CLAIMS {
            self.end_sets(frame.header.sequence);
        }
        Ok(())
    }

    fn topic(&self, name: &[u8], at: u64) -> Result<Arc<Topic>> {
        let text =
            std::str::from_utf8(name).map_err(|_| Error::corrupt(&self.path, at, "a topic is not UTF-8"))?;
        self.recovery.topics.ensure(text, self.recovery.secret.topic(name))
    }

    fn events(&mut self, block: &Block<'_>, sum: &mut u64) -> Result<(Arc<Topic>, u64, BlockPlace)> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        let (head, events) = body.events().map_err(|e| unreadable(&self.path, block.at, e))?;
        let topic = self.topic(head.topic, block.at)?;
        if self.is_live {
            if topic.next_offset() != head.first_offset {
                return Err(Error::corrupt(&self.path, block.at, "the offsets of its topic have a gap"));
            }
            self.recovery.topics.add_events(&topic, u64::from(block.count), head.received_at);
        }
        let worker = crate::store::local::admission::route::route(topic.hash, self.sets.len());
        for (event, offset) in events.zip(head.first_offset..) {
            let event = event.map_err(|e| unreadable(&self.path, block.at, e))?;
            let hash = self.recovery.secret.event(head.topic, event.event_id) as u64;
            *sum = sum.wrapping_add(hash);
            let known = Known { offset, digest: event.digest, received_at: head.received_at };
            self.sets[worker].push(head.topic, event.event_id, hash, known);
            self.waiting += 1;
        }
        let place = BlockPlace { at: block.at, length: block.length, count: block.count };
        Ok((topic, head.first_offset, place))
    }

    fn counters(&mut self, block: &Block<'_>) -> Result<()> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        for entry in body.counters() {
            let entry = entry.map_err(|e| unreadable(&self.path, block.at, e))?;
            if entry.topic.is_empty() {
                self.recovery.topics.add_rejected(entry.rejected);
            } else {
                let topic = self.topic(entry.topic, block.at)?;
                self.recovery.topics.add_counts(&topic, entry.duplicates, entry.conflicts);
            }
        }
        Ok(())
    }

    fn topics(&mut self, block: &Block<'_>) -> Result<()> {
        let body = block.body().map_err(|e| unreadable(&self.path, block.at, e))?;
        for entry in body.topics() {
            let entry = entry.map_err(|e| unreadable(&self.path, block.at, e))?;
            if entry.counters.topic.is_empty() {
                self.recovery.topics.add_rejected(entry.counters.rejected);
            } else {
                let topic = self.topic(entry.counters.topic, block.at)?;
                self.recovery.topics.restore(&topic, &entry);
            }
        }
        Ok(())
    }

    /// Hands what was collected to the workers' tables and the checkpoint; it reaches through frame `through`.
    fn end_sets(&mut self, through: u64) {
        let mut sets = Vec::new();
        let collected = std::mem::take(&mut self.sets);
        for (worker, claims) in collected.into_iter().enumerate() {
            if claims.is_empty() {
                continue;
            }
            let set = ClaimSet::new(claims);
            let _ = set.placed.set(Placed { generation: Arc::clone(&self.generation), frame: through });
            // If the thread is no more, that is seen when it is joined.
            let _ = self.found.send((worker, Arc::clone(&set)));
            sets.push(set);
        }
        if !self.is_indexed {
            self.recovery.claims += self.waiting as u64;
            let (generation, blocks) = (Arc::clone(&self.generation), std::mem::take(&mut self.blocks));
            self.recovery.committed.push(Committed { generation, through, sets, blocks });
        }
        self.begin_sets();
    }
}
