//! A generation: the unit in which everything grows, and where its claims, blocks and frames are
//! found.
//!
//! | state | claims | blocks | frames |
//! |---|---|---|---|
//! | open (live, or closed and about to be sealed) | workers' tables, then sled | RAM, then sled | RAM, sparse |
//! | sealed | `claims` | `processed` | `frames` |

pub(crate) mod claims;
pub(crate) mod consumers;
pub(crate) mod fingerprints;
pub(crate) mod head;
pub mod index;
pub(crate) mod ledger;
pub(crate) mod topic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::index::Index;
use self::topic::Topic;
use super::format::claim::{BlockLocation, Claim, FrameLocation};
use super::format::codec::{FixedRecord, FrameHeader};
use super::format::layout::{JOURNAL, folder};
use super::format::manifest::{Closed, Entry, Hole};
use super::format::reader::{FrameReader, Frames};
use super::sealed::files::SealedFiles;
use super::sealed::frame_run::{Extent, FrameRun, add_sparse};
use super::sealed::maps::SealedMaps;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// A generation of an open store.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) id: u64,
    pub(crate) nonce: u64,
    pub(crate) first_frame: u64,
    pub(crate) first_event: u64,
    pub(crate) dir: PathBuf,
    /// The parts of its journal that a repair has given up.
    pub(crate) holes: Arc<[Hole]>,
    durable: DurableState,
    state: RwLock<State>,
    /// Set when its index has lost a claim: the checkpoint then rebuilds it.
    is_doubtful: AtomicBool,
    /// Its index was rebuilt in this process's life.
    was_renewed: AtomicBool,
}

/// What is durable in a generation. Written by the journal's writer alone.
#[derive(Debug, Default)]
struct DurableState {
    end: AtomicU64,
    events: AtomicU64,
    claims_sum: AtomicU64,
    last_frame: AtomicU64,
    received_min: AtomicI64,
    received_max: AtomicI64,
}

#[derive(Debug)]
enum State {
    Open(OpenState),
    Sealed(Arc<SealedMaps>),
}

struct OpenState {
    journal: Arc<dyn DiskFile>,
    /// `None` until the checkpoint has made it, and while it is rebuilt.
    index: Option<Arc<dyn Index>>,
    /// Whether there was an index: then what is not in RAM is in it alone.
    has_left_ram: bool,
    /// Blocks that are not in the index yet, by topic number and first offset.
    recent: BTreeMap<(u32, u64), BlockLocation>,
    /// Every so many bytes: number of the first event and place of a frame, with the arrivals up to
    /// the next entry.
    frames: Vec<(u64, FrameLocation)>,
}

impl std::fmt::Debug for OpenState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenState").field("recent", &self.recent.len()).finish_non_exhaustive()
    }
}

impl Generation {
    /// A generation that is not sealed.
    pub(crate) fn open(data_dir: &Path, entry: &Entry, journal: Arc<dyn DiskFile>) -> Self {
        let state = OpenState {
            journal,
            index: None,
            has_left_ram: false,
            recent: BTreeMap::new(),
            frames: Vec::new(),
        };
        Self::new(data_dir, entry, Arc::new([]), State::Open(state))
    }

    /// A sealed one.
    pub(crate) fn sealed(files: &SealedFiles<'_>, maps: SealedMaps) -> Self {
        let SealedFiles { data_dir, entry, closed, ref holes, .. } = *files;
        let generation = Self::new(data_dir, entry, Arc::clone(holes), State::Sealed(Arc::new(maps)));
        let durable = &generation.durable;
        durable.end.store(closed.end, Ordering::Release);
        durable.events.store(closed.events, Ordering::Release);
        durable.claims_sum.store(closed.claims_sum, Ordering::Release);
        durable.last_frame.store(closed.last_frame, Ordering::Release);
        durable.received_min.store(closed.received_min, Ordering::Release);
        durable.received_max.store(closed.received_max, Ordering::Release);
        generation
    }

    fn new(data_dir: &Path, entry: &Entry, holes: Arc<[Hole]>, state: State) -> Self {
        Self {
            id: entry.id,
            nonce: entry.nonce,
            first_frame: entry.first_frame,
            first_event: entry.first_event,
            dir: folder(data_dir, entry.id),
            holes,
            durable: DurableState::default(),
            state: RwLock::new(state),
            is_doubtful: AtomicBool::new(false),
            was_renewed: AtomicBool::new(false),
        }
    }

    /// Its entry in MANIFEST, once it is closed.
    pub(crate) fn entry(&self) -> Entry {
        let (first_frame, first_event) = (self.first_frame, self.first_event);
        Entry {
            id: self.id,
            nonce: self.nonce,
            first_frame,
            first_event,
            closed: Some(self.closed()),
            sealed: true,
        }
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Whether its journal is there, and as long as what is durable of it.
    ///
    /// # Errors
    /// That can't be told.
    pub(crate) fn has_whole_journal(&self, disk: &dyn Disk) -> std::io::Result<bool> {
        let end = Hole::before_all_at(&self.holes, self.end());
        match disk.open(&self.journal_path(), Open::Read).and_then(|file| file.len()) {
            Ok(length) => Ok(length >= end),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Bytes of durable journal.
    pub(crate) fn end(&self) -> u64 {
        self.durable.end.load(Ordering::Acquire)
    }

    /// Durable events.
    pub(crate) fn events(&self) -> u64 {
        self.durable.events.load(Ordering::Acquire)
    }

    /// How far it reaches, durably.
    fn extent(&self) -> Extent {
        // The events first, then the end: the writer moves them the other way round.
        let next_event = self.first_event + self.events();
        Extent { first_event: self.first_event, next_event, end: self.end() }
    }

    /// What it holds, durably.
    pub(crate) fn closed(&self) -> Closed {
        Closed {
            end: self.end(),
            last_frame: self.durable.last_frame.load(Ordering::Acquire),
            events: self.events(),
            claims_sum: self.durable.claims_sum.load(Ordering::Acquire),
            received_min: self.durable.received_min.load(Ordering::Acquire),
            received_max: self.durable.received_max.load(Ordering::Acquire),
        }
    }

    /// Makes a durable frame visible: its blocks first, then the end, then its events.
    pub(crate) fn publish(
        &self,
        frame: &FrameHeader,
        blocks: &[(Arc<Topic>, u64, BlockLocation)],
        claims_sum: u64,
    ) {
        let end = frame.at + FrameHeader::BYTES as u64 + u64::from(frame.length);
        if let State::Open(open) = &mut *self.state.write() {
            for (topic, first_offset, location) in blocks {
                open.recent.insert((topic.number, *first_offset), *location);
            }
            add_sparse(&mut open.frames, frame);
        }
        let durable = &self.durable;
        // The end before the events: a reader that counts on an event finds its frame before the
        // end.
        durable.last_frame.store(frame.sequence, Ordering::Release);
        durable.end.store(end, Ordering::Release);
        if frame.events > 0 {
            let is_first = self.events() == 0;
            let min = durable.received_min.load(Ordering::Acquire);
            let max = durable.received_max.load(Ordering::Acquire);
            let min = if is_first { frame.received_min } else { min.min(frame.received_min) };
            let max = if is_first { frame.received_max } else { max.max(frame.received_max) };
            durable.received_min.store(min, Ordering::Release);
            durable.received_max.store(max, Ordering::Release);
            let sum = durable.claims_sum.load(Ordering::Acquire).wrapping_add(claims_sum);
            durable.claims_sum.store(sum, Ordering::Release);
            durable.events.fetch_add(u64::from(frame.events), Ordering::AcqRel);
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.maps().is_some()
    }

    /// Its maps, if it is sealed.
    pub(crate) fn maps(&self) -> Option<Arc<SealedMaps>> {
        match &*self.state.read() {
            State::Sealed(maps) => Some(Arc::clone(maps)),
            State::Open(_) => None,
        }
    }

    /// The journal, to read.
    pub(crate) fn journal(&self) -> Result<Arc<dyn DiskFile>> {
        match &*self.state.read() {
            State::Open(open) => Ok(Arc::clone(&open.journal)),
            State::Sealed(maps) => maps.journal.get(),
        }
    }

    /// Frames of the journal, to read.
    pub(crate) fn reader(&self) -> Result<FrameReader> {
        Ok(FrameReader::new(self.journal()?, &self.journal_path(), self.nonce))
    }

    /// All durable frames of the journal.
    pub(crate) fn frames(&self) -> Result<Frames> {
        Ok(self.reader()?.frames(self.end(), Arc::clone(&self.holes)))
    }

    /// Gives it an index that has all that is not in RAM.
    pub(crate) fn set_index(&self, index: Option<Arc<dyn Index>>) {
        if let State::Open(open) = &mut *self.state.write() {
            open.has_left_ram |= index.is_some();
            open.index = index;
        }
    }

    /// These blocks are in the index now.
    pub(crate) fn forget_blocks(&self, blocks: &[(Arc<Topic>, u64, BlockLocation)]) {
        // In pieces: the journal's writer waits for the lock.
        for piece in blocks.chunks(1_000) {
            if let State::Open(open) = &mut *self.state.write() {
                for (topic, first_offset, _) in piece {
                    open.recent.remove(&(topic.number, *first_offset));
                }
            }
        }
    }

    /// From here on, look-ups go to its maps.
    pub(crate) fn set_sealed(&self, maps: SealedMaps) {
        let before = std::mem::replace(&mut *self.state.write(), State::Sealed(Arc::new(maps)));
        // Without the lock: freeing all that an open generation has in RAM takes long.
        drop(before);
    }

    /// Its index is not to be trusted, and what it had is not in RAM.
    pub(crate) fn begin_rebuild(&self) {
        if let State::Open(open) = &mut *self.state.write() {
            open.has_left_ram = true;
        }
        self.is_doubtful.store(true, Ordering::Release);
    }

    /// Whether its index is known to have lost something.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Acquire)
    }

    /// Its index was rebuilt.
    pub(crate) fn clear_doubt(&self) {
        self.was_renewed.store(true, Ordering::Release);
        self.is_doubtful.store(false, Ordering::Release);
    }

    /// A block could not be found that must be there: if the index that left it out was not
    /// rebuilt yet, it is now.
    pub(crate) fn doubt_block(&self) -> Option<Error> {
        if self.is_sealed() || self.was_renewed.load(Ordering::Acquire) {
            return None;
        }
        self.is_doubtful.store(true, Ordering::Release);
        Some(rebuilding())
    }

    /// The claim of an event whose claim has left RAM. `key` is `topic \0 event_id`.
    ///
    /// # Errors
    /// `Rebuilding` while its index is rebuilt; `Corrupt`, `Io`.
    pub(crate) fn claim(&self, hash: u128, key: impl FnOnce() -> Vec<u8>) -> Result<Option<Claim>> {
        let index = match &*self.state.read() {
            State::Sealed(maps) => {
                let maps = Arc::clone(maps);
                return self.trusted(|| maps.claim(hash));
            }
            // Each key that it has lost costs a reading of the journal: one is enough to know that
            // it must be rebuilt. An index that was, and loses keys again, is slow rather than
            // never right.
            State::Open(_) if self.is_doubtful() && !self.was_renewed.load(Ordering::Acquire) => None,
            State::Open(open) => open.index.clone(),
        };
        let index = index.ok_or_else(rebuilding)?;
        let key = key();
        if let Some(claim) = self.trusted(|| index.claim(&key))? {
            return Ok(Some(claim));
        }
        // The fingerprint was known: either two events share it, or the index has lost a key. The
        // journal knows.
        let known = self.claim_in_journal(&key)?;
        if known.is_some() {
            tracing::warn!(generation = self.id, "the index has lost a claim; it is being rebuilt");
            self.is_doubtful.store(true, Ordering::Release);
        }
        Ok(known)
    }

    /// Asks an index; if that is damaged or can't be read, it is doubtful from here on, and is
    /// rebuilt.
    fn trusted<T>(&self, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        ask().map_err(|e| {
            tracing::warn!(generation = self.id, error = %e, "an index can't be read; it is rebuilt from the journal");
            self.is_doubtful.store(true, Ordering::Release);
            rebuilding()
        })
    }

    fn claim_in_journal(&self, key: &[u8]) -> Result<Option<Claim>> {
        let mut frames = self.frames()?;
        while let Some(frame) = frames.next()? {
            for block in frame.event_blocks() {
                let body = block.body()?;
                let events = body.events()?;
                let head = events.head;
                let Some(id) = key.strip_prefix(head.topic).and_then(|rest| rest.strip_prefix(b"\0")) else {
                    continue;
                };
                for event in events {
                    let (offset, event) = event?;
                    if event.event_id == id {
                        return Ok(Some(Claim {
                            offset,
                            digest: event.digest,
                            received_at: head.received_at,
                        }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The block of `topic` that begins at or last before `offset` in this generation.
    ///
    /// # Errors
    /// `Rebuilding`, `Corrupt`, `Io`.
    pub(crate) fn block(&self, topic: &Topic, offset: u64) -> Result<Option<(u64, BlockLocation)>> {
        let (index, has_left_ram) = match &*self.state.read() {
            State::Sealed(maps) => {
                let maps = Arc::clone(maps);
                return self.trusted(|| maps.block(topic.hash, offset));
            }
            State::Open(open) => {
                let range = (topic.number, 0)..=(topic.number, offset);
                if let Some((&(_, first), location)) = open.recent.range(range).next_back() {
                    return Ok(Some((first, *location)));
                }
                (open.index.clone(), open.has_left_ram)
            }
        };
        match index {
            Some(index) => self.trusted(|| index.block_at_or_before(topic.name.as_bytes(), offset)),
            None if has_left_ram => Err(rebuilding()),
            None => Ok(None),
        }
    }

    /// The hole in its journal that event number `event` is lost in.
    pub(crate) fn hole(&self, event: u64) -> Option<&Hole> {
        self.holes.iter().find(|hole| (hole.first_event..hole.next_event).contains(&event))
    }

    /// A frame at or before the one with event number `event`, which is in no hole, the next
    /// entry's place after it, and the arrivals between the two.
    pub(crate) fn frames_near(&self, event: u64) -> Result<FrameRun> {
        match &*self.state.read() {
            State::Sealed(maps) => {
                let maps = Arc::clone(maps);
                let run = self.trusted(|| maps.frames_near(event, self.extent()))?;
                Ok(self.holes.iter().fold(run, |run, hole| run.beside(hole, event)))
            }
            State::Open(open) => {
                let after = open.frames.partition_point(|(first, _)| *first <= event);
                let next = open.frames.get(after).copied();
                let entry = after.checked_sub(1).and_then(|at| open.frames.get(at).copied());
                Ok(FrameRun::between(entry, next, self.extent()))
            }
        }
    }
}

fn rebuilding() -> Error {
    let message = "an index that this request needs is being rebuilt; send it again in a few seconds";
    Error::new(ErrorKind::Rebuilding, message)
}
