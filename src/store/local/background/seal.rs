//! Sealing: a generation that takes no more events gets its immutable maps, made from its journal alone.
//!
//! The same is how lost or damaged maps are made anew. What the maps hold is compared with what was counted when the
//! events were decided, before anything rests on them.

use std::sync::Arc;

use crate::disk::{self, Behind, Disk, Open};
use crate::error::{During, Error, Result};
use crate::store::local::admission::preallocation::JOURNAL;
use crate::store::local::format::codec::{BlockKind, BlockPlace, FixedRecord, FramePlace, SealedClaim};
use crate::store::local::format::frame::{FrameReader, unreadable};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::manifest::{Closed, Entry, Hole, folder};
use crate::store::local::generation::claims::Known;
use crate::store::local::generation::{FrameRun, Generation, add_sparse};
use crate::store::local::sealed::filter::{Filter, Lane, shard_of};
use crate::store::local::sealed::open_files::{CachedFile, FileCache};
use crate::store::local::sealed::sorted_file::{self, Block, Kind, Shape, SortedFile};

/// Names of the files of a sealed generation.
pub(crate) const CLAIMS: &str = "claims";
/// Blocks by topic and offset.
pub(crate) const PROCESSED: &str = "processed";
/// Frames by event number.
pub(crate) const FRAMES: &str = "frames";
/// Filter of the claims.
pub(crate) const FILTER: &str = "filter";
/// What it began with before format 3.
const BLOOM_MAGIC: [u8; 4] = *b"sKlB";
/// Steps of a seal for each claim, about as long as each other: reading it, then one each to sort it, for the filter, to write and to
/// prove it.
pub(crate) const STEPS: u64 = READ_STEPS + 4;
/// Steps of reading a claim from the journal, which is unpacked and hashed.
const READ_STEPS: u64 = 7;
/// Filters of this generation and those before it, so many in all; in the order in which they are looked for.
pub(crate) const MERGED_FILTERS: [&str; 3] = ["filter-64", "filter-16", "filter-4"];

/// The maps of a sealed generation.
#[derive(Debug)]
pub(crate) struct SealedMaps {
    pub(crate) journal: CachedFile,
    claims: SortedFile,
    processed: SortedFile,
    frames: SortedFile,
}

/// Which generation of which store, for what is read and written of it.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) files: &'a Arc<FileCache>,
    pub(crate) data_dir: &'a std::path::Path,
    pub(crate) store_id: [u8; 16],
    pub(crate) secret: &'a Secret,
    pub(crate) entry: &'a Entry,
    pub(crate) closed: Closed,
    /// Those in its journal.
    pub(crate) holes: Arc<[Hole]>,
}

impl Place<'_> {
    fn path(&self, name: &str) -> std::path::PathBuf {
        folder(self.data_dir, self.entry.id).join(name)
    }

    fn shape(&self, kind: Kind) -> Shape {
        let (key_width, value_width) = match kind {
            Kind::Claims => (CLAIM_KEY_BYTES, SealedClaim::BYTES),
            Kind::Processed => (BLOCK_KEY_BYTES, BlockPlace::BYTES),
            Kind::Frames => (FRAME_KEY_BYTES, FramePlace::BYTES),
        };
        Shape { kind, key_width, value_width, store_id: self.store_id, nonce: self.entry.nonce }
    }

    /// Opens the maps.
    ///
    /// # Errors
    /// `Corrupt` if a file is missing, of another generation, or not what it should hold; `Io`.
    pub(crate) fn open(&self) -> Result<SealedMaps> {
        let maps = SealedMaps {
            journal: self.files.file(&self.path(JOURNAL)),
            claims: self.open_map(Kind::Claims, CLAIMS)?,
            processed: self.open_map(Kind::Processed, PROCESSED)?,
            frames: self.open_map(Kind::Frames, FRAMES)?,
        };
        match maps.claims.count() == self.claims() {
            true => Ok(maps),
            false => Err(Error::corrupt(&self.path(CLAIMS), 0, "not as many claims as MANIFEST says")),
        }
    }

    /// Reads the filter.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn filter(&self) -> Result<Filter> {
        let filter = self.read_filter(FILTER)?;
        match (filter.claims(), filter.lanes()) == (self.claims(), &[self.lane()]) {
            true => Ok(filter),
            false => Err(Error::corrupt(&self.path(FILTER), 0, "not of as many claims as MANIFEST says")),
        }
    }

    /// Whether the filter is of a format before this one: a start that was killed has written
    /// MANIFEST anew, and not all filters. The next one makes it anew.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn has_older_filter(&self) -> Result<bool> {
        let path = self.path(FILTER);
        let mut magic = [0; BLOOM_MAGIC.len()];
        let file = self.disk.open(&path, Open::Read).during("open", &path)?;
        file.read_exact_at(&mut magic, 0).during("read", &path)?;
        Ok(magic == BLOOM_MAGIC)
    }

    /// Reads a filter whose newest generation is this one; of which others it is, the caller checks.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn read_filter(&self, name: &str) -> Result<Filter> {
        let path = self.path(name);
        let bytes = disk::read(&**self.disk, &path).during("read", &path)?;
        Filter::decode(&path, &bytes, self.store_id, self.entry.nonce)
    }

    /// Makes the filter anew from the claims, which are sound.
    ///
    /// # Errors
    /// `Corrupt` if they are not; `NoSpace`, `Io`.
    pub(crate) fn renew_filter(&self, maps: &SealedMaps) -> Result<()> {
        let filter = Filter::build(vec![self.lane()], self.claims(), vec![maps.hashes()])?;
        self.write_filter(FILTER, &filter)
    }

    /// Writes a filter, durably.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn write_filter(&self, name: &str, filter: &Filter) -> Result<()> {
        let path = self.path(name);
        let mut file = Behind::new(self.disk.open(&path, Open::Create).during("create", &path)?, 0);
        filter.encode(self.store_id, |piece| file.write(piece).during("write to", &path))?;
        file.finish().during("sync", &path)
    }

    /// Removes the filters that end with this generation: the next start makes them anew from those they are of.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn remove_merged_filters(&self) -> Result<()> {
        MERGED_FILTERS.into_iter().try_for_each(|name| {
            let path = self.path(name);
            self.disk.remove_file(&path).during("remove", &path)
        })
    }

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// `Io` if it can't be told.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        self.disk.presence(&path).during("look for", &path)
    }

    /// Events that it holds.
    pub(crate) fn claims(&self) -> u64 {
        self.closed.events - self.holes.iter().map(Hole::events).sum::<u64>()
    }

    /// What filters call this generation.
    pub(crate) fn lane(&self) -> Lane {
        (self.entry.id, self.entry.nonce)
    }

    fn open_map(&self, kind: Kind, name: &str) -> Result<SortedFile> {
        SortedFile::open(self.files, &self.path(name), self.shape(kind))
    }

    /// Makes the maps and the filter from the journal, durably, and opens them. What there was is replaced. Tells `done` of
    /// the steps it has taken, [`STEPS`] for each claim.
    ///
    /// # Errors
    /// `Corrupt` if the journal is damaged or does not hold what MANIFEST says; `NoSpace`, `Io`.
    pub(crate) fn build(&self, done: &dyn Fn(u64)) -> Result<(SealedMaps, Filter)> {
        let mut content = self.read_journal(done)?;
        let events = content.claims().count() as u64;
        let sum = content.claims().fold(0u64, |sum, (hash, _)| sum.wrapping_add(*hash as u64));
        if events != self.claims() || sum != self.closed.claims_sum {
            let what = format!(
                "it holds {events} events with sum {sum:016x}, and {} with {:016x} were stored in it",
                self.claims(),
                self.closed.claims_sum
            );
            return Err(Error::corrupt(&self.path(JOURNAL), self.closed.end, &what));
        }
        content.sort(done);
        let hashes = content.claims().map(|(hash, _)| Ok(*hash)).inspect(|_| done(1));
        let filter = Filter::build(vec![self.lane()], events, vec![hashes])?;
        // Each part leaves memory when it is written: what is freed at once, the system takes a hundredth of a second to take back.
        let claims = std::mem::take(&mut content.shards).into_iter().flatten();
        let records = claims.map(|(hash, claim)| (hash.to_be_bytes(), claim.encoded()));
        self.write_map(Kind::Claims, CLAIMS, records.inspect(|_| done(1)))?;
        let records =
            content.blocks.iter().map(|((topic, first), place)| (block_key(*topic, *first), place.encoded()));
        self.write_map(Kind::Processed, PROCESSED, records)?;
        let records = content.frames.iter().map(|(first, place)| (first.to_be_bytes(), place.encoded()));
        self.write_map(Kind::Frames, FRAMES, records)?;
        self.write_filter(FILTER, &filter)?;
        let dir = folder(self.data_dir, self.entry.id);
        self.disk.sync_dir(&dir).during("sync", &dir)?;
        let maps = self.open()?;
        maps.verify(done)?;
        Ok((maps, self.filter()?))
    }

    fn write_map<K: AsRef<[u8]>>(
        &self,
        kind: Kind,
        name: &str,
        records: impl Iterator<Item = (K, Vec<u8>)>,
    ) -> Result<()> {
        let path = self.path(name);
        sorted_file::write(&**self.disk, &path, self.shape(kind), records).map(|_| ())
    }

    /// Everything the maps need. Tells `done` of the steps it has taken.
    pub(crate) fn read_journal(&self, done: &dyn Fn(u64)) -> Result<JournalContent> {
        let path = self.path(JOURNAL);
        let file = self.disk.open(&path, Open::Read).during("open", &path)?;
        // Each takes its digest at least, so no count asks for more than the file has. Growing by doubling would copy it, and hold it twice.
        let claims = self.claims().min(file.len().during("measure", &path)? / size_of::<u128>() as u64);
        let shards = Filter::shards(claims);
        let a_shard = claims as usize / shards;
        let mut content = JournalContent::default();
        // They differ in size by less than a sixteenth.
        content.shards.resize_with(shards, || Vec::with_capacity(a_shard + a_shard.div_ceil(16)));
        let mut reader = FrameReader::new(file, self.entry.nonce);
        let mut at = 0;
        while at < self.closed.end {
            if let Some(hole) = self.holes.iter().find(|hole| hole.at == at) {
                at = hole.end;
                continue;
            }
            let Some(frame) = reader.frame(at, &path)? else {
                return Err(Error::corrupt(&path, at, "no valid frame"));
            };
            add_sparse(&mut content.frames, &frame.header);
            for block in frame.blocks().filter(|block| block.kind == BlockKind::Events) {
                let body = block.body().map_err(|e| unreadable(&path, block.at, e))?;
                let (head, events) = body.events().map_err(|e| unreadable(&path, block.at, e))?;
                let place = BlockPlace { at: block.at, length: block.length, count: block.count };
                content.blocks.push(((self.secret.topic(head.topic), head.first_offset), place));
                for (event, offset) in events.zip(head.first_offset..) {
                    let event = event.map_err(|e| unreadable(&path, block.at, e))?;
                    let claim = SealedClaim { offset, digest: event.digest, received_at: head.received_at };
                    let hash = self.secret.event(head.topic, event.event_id);
                    content.shards[shard_of(hash, shards)].push((hash, claim));
                }
            }
            done(READ_STEPS * u64::from(frame.header.events));
            at = frame.end();
        }
        Ok(content)
    }
}

/// What a journal says of its generation.
#[derive(Debug, Default)]
pub(crate) struct JournalContent {
    /// Claims by the upper bits of their hashes: each part is sorted in less than a millisecond.
    shards: Vec<Vec<(u128, SealedClaim)>>,
    pub(crate) blocks: Vec<((u128, u64), BlockPlace)>,
    pub(crate) frames: Vec<(u64, FramePlace)>,
}

impl JournalContent {
    /// All claims; in order, once they are sorted.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &(u128, SealedClaim)> {
        self.shards.iter().flatten()
    }

    /// Sorts claims and blocks. Tells `done` of each claim, a step.
    pub(crate) fn sort(&mut self, done: &dyn Fn(u64)) {
        for shard in &mut self.shards {
            shard.sort_unstable_by_key(|(hash, _)| *hash);
            done(shard.len() as u64);
        }
        self.blocks.sort_unstable_by_key(|(key, _)| *key);
    }
}

impl SealedMaps {
    /// Events that it holds.
    pub(crate) fn claims(&self) -> u64 {
        self.claims.count()
    }

    /// The claim with this hash.
    pub(crate) fn claim(&self, hash: u128) -> Result<Option<Known>> {
        let mut block = Block::default();
        let value = self.claims.get(&hash.to_be_bytes(), &mut block)?;
        Ok(value.and_then(|value| SealedClaim::from_bytes(value).ok()).map(Known::from))
    }

    /// The block that begins at or last before `offset`.
    pub(crate) fn block(&self, topic: u128, offset: u64) -> Result<Option<(u64, BlockPlace)>> {
        let mut block = Block::default();
        let found = self.processed.at_or_before(&block_key(topic, offset), &mut block)?;
        Ok(found.and_then(|(_, key, value)| {
            let first = key.strip_prefix(&topic.to_be_bytes())?.try_into().map(u64::from_be_bytes).ok()?;
            Some((first, BlockPlace::from_bytes(value).ok()?))
        }))
    }

    /// The run of frames of `generation` that holds event number `event`.
    pub(crate) fn frames_near(&self, event: u64, generation: &Generation) -> Result<FrameRun> {
        let mut block = Block::default();
        let decode = |record: Option<(&[u8], &[u8])>| -> Option<(u64, FramePlace)> {
            let (key, value) = record?;
            let first = key.try_into().map(u64::from_be_bytes).ok()?;
            Some((first, FramePlace::from_bytes(value).ok()?))
        };
        let (index, record) = match self.frames.at_or_before(&event.to_be_bytes(), &mut block)? {
            Some((index, key, value)) => (index, decode(Some((key, value)))),
            None => return Ok(FrameRun::between(None, None, generation)),
        };
        let next = decode(self.frames.record(index + 1, &mut block)?);
        Ok(FrameRun::between(record, next, generation))
    }

    /// The hashes of all claims, ascending.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = Result<u128>> {
        let mut records = self.claims.scan();
        std::iter::from_fn(move || match records.next() {
            Ok(record) => record.and_then(|(key, _)| Some(Ok(u128::from_be_bytes(key.try_into().ok()?)))),
            Err(e) => Some(Err(e)),
        })
    }

    /// Shows all claims in order of their hashes.
    pub(crate) fn each_claim(&self, show: &mut dyn FnMut(u128, SealedClaim)) -> Result<()> {
        let mut records = self.claims.scan();
        while let Some((key, value)) = records.next()? {
            if let (Ok(key), Ok(claim)) = (key.try_into(), SealedClaim::from_bytes(value)) {
                show(u128::from_be_bytes(key), claim);
            }
        }
        Ok(())
    }

    /// Shows all blocks in order of topic hash and first offset.
    pub(crate) fn each_block(&self, show: &mut dyn FnMut((u128, u64), BlockPlace)) -> Result<()> {
        let mut records = self.processed.scan();
        while let Some((key, value)) = records.next()? {
            let (topic, first) = key.split_at(size_of::<u128>());
            if let (Ok(topic), Ok(first), Ok(place)) =
                (topic.try_into(), first.try_into(), BlockPlace::from_bytes(value))
            {
                show((u128::from_be_bytes(topic), u64::from_be_bytes(first)), place);
            }
        }
        Ok(())
    }

    /// Shows the sparse list of frames in order.
    pub(crate) fn each_frame(&self, show: &mut dyn FnMut(u64, FramePlace)) -> Result<()> {
        let mut records = self.frames.scan();
        while let Some((key, value)) = records.next()? {
            if let (Ok(first), Ok(place)) = (key.try_into(), FramePlace::from_bytes(value)) {
                show(u64::from_be_bytes(first), place);
            }
        }
        Ok(())
    }

    /// Reads everything and checks every block and the order. Tells `done` of each record, a step.
    pub(crate) fn verify(&self, done: &dyn Fn(u64)) -> Result<()> {
        for map in [&self.claims, &self.processed, &self.frames] {
            let mut records = map.scan();
            while records.next()?.is_some() {
                done(1);
            }
        }
        Ok(())
    }
}

const CLAIM_KEY_BYTES: usize = size_of::<u128>();
const BLOCK_KEY_BYTES: usize = size_of::<u128>() + size_of::<u64>();
const FRAME_KEY_BYTES: usize = size_of::<u64>();

/// Key of a block in `processed`.
fn block_key(topic: u128, first_offset: u64) -> [u8; BLOCK_KEY_BYTES] {
    let mut key = [0; BLOCK_KEY_BYTES];
    let (hash, offset) = key.split_at_mut(size_of::<u128>());
    hash.copy_from_slice(&topic.to_be_bytes());
    offset.copy_from_slice(&first_offset.to_be_bytes());
    key
}
