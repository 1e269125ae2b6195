//! The maps of a sealed generation: claims by hash, blocks by topic and offset, frames by event
//! number.

use super::frame_run::{Extent, FrameRun};
use super::open_files::CachedFile;
use super::sorted_file::{BlockBuffer, SortedFile};
use crate::error::Result;
use crate::store::local::format::claim::{BlockLocation, Claim, FrameLocation};
use crate::store::local::format::codec::FixedRecord;

/// The maps of a sealed generation.
#[derive(Debug)]
pub(crate) struct SealedMaps {
    pub(crate) journal: CachedFile,
    pub(super) claims: SortedFile,
    pub(super) processed: SortedFile,
    pub(super) frames: SortedFile,
}

impl SealedMaps {
    /// Events that it holds.
    pub(crate) fn claims(&self) -> u64 {
        self.claims.count()
    }

    /// The claim with this hash.
    pub(crate) fn claim(&self, hash: u128) -> Result<Option<Claim>> {
        let mut block = BlockBuffer::default();
        let value = self.claims.get(&hash.to_be_bytes(), &mut block)?;
        Ok(value.and_then(|value| Claim::from_bytes(value).ok()))
    }

    /// The block that begins at or last before `offset`.
    pub(crate) fn block(&self, topic: u128, offset: u64) -> Result<Option<(u64, BlockLocation)>> {
        let mut block = BlockBuffer::default();
        let found = self.processed.at_or_before(&block_key(topic, offset), &mut block)?;
        Ok(found.and_then(|(_, key, value)| {
            let first = key.strip_prefix(&topic.to_be_bytes())?.try_into().map(u64::from_be_bytes).ok()?;
            Some((first, BlockLocation::from_bytes(value).ok()?))
        }))
    }

    /// The run of frames that holds event number `event`.
    pub(crate) fn frames_near(&self, event: u64, all: Extent) -> Result<FrameRun> {
        let mut block = BlockBuffer::default();
        let decode = |record: Option<(&[u8], &[u8])>| -> Option<(u64, FrameLocation)> {
            let (key, value) = record?;
            let first = key.try_into().map(u64::from_be_bytes).ok()?;
            Some((first, FrameLocation::from_bytes(value).ok()?))
        };
        let (index, record) = match self.frames.at_or_before(&event.to_be_bytes(), &mut block)? {
            Some((index, key, value)) => (index, decode(Some((key, value)))),
            None => return Ok(FrameRun::between(None, None, all)),
        };
        let next = decode(self.frames.record(index + 1, &mut block)?);
        Ok(FrameRun::between(record, next, all))
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
    pub(crate) fn each_claim(&self, show: &mut dyn FnMut(u128, Claim)) -> Result<()> {
        each(&self.claims, |key, claim| show(u128::from_be_bytes(key), claim))
    }

    /// Shows all blocks in order of topic hash and first offset.
    pub(crate) fn each_block(&self, show: &mut dyn FnMut((u128, u64), BlockLocation)) -> Result<()> {
        each(&self.processed, |key: [u8; BLOCK_KEY_BYTES], location| show(block_of(key), location))
    }

    /// Shows the sparse list of frames in order.
    pub(crate) fn each_frame(&self, show: &mut dyn FnMut(u64, FrameLocation)) -> Result<()> {
        each(&self.frames, |key, location| show(u64::from_be_bytes(key), location))
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

/// Shows the records of a map in order.
fn each<const KEY: usize, R: FixedRecord>(
    map: &SortedFile,
    mut show: impl FnMut([u8; KEY], R),
) -> Result<()> {
    let mut records = map.scan();
    while let Some((key, value)) = records.next()? {
        if let (Ok(key), Ok(record)) = (key.try_into(), R::from_bytes(value)) {
            show(key, record);
        }
    }
    Ok(())
}

pub(crate) const CLAIM_KEY_BYTES: usize = size_of::<u128>();
pub(crate) const BLOCK_KEY_BYTES: usize = size_of::<u128>() + size_of::<u64>();
pub(crate) const FRAME_KEY_BYTES: usize = size_of::<u64>();

/// Key of a block in `processed`.
pub(crate) fn block_key(topic: u128, first_offset: u64) -> [u8; BLOCK_KEY_BYTES] {
    let mut key = [0; BLOCK_KEY_BYTES];
    let (hash, offset) = key.split_at_mut(size_of::<u128>());
    hash.copy_from_slice(&topic.to_be_bytes());
    offset.copy_from_slice(&first_offset.to_be_bytes());
    key
}

/// Topic hash and first offset of a key in `processed`.
fn block_of(key: [u8; BLOCK_KEY_BYTES]) -> (u128, u64) {
    let (mut topic, mut first) = ([0; size_of::<u128>()], [0; size_of::<u64>()]);
    topic.copy_from_slice(&key[..size_of::<u128>()]);
    first.copy_from_slice(&key[size_of::<u128>()..]);
    (u128::from_be_bytes(topic), u64::from_be_bytes(first))
}
