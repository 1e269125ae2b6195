//! Blocks as they lie in a journal, and what is read out of them. Each error names the journal and
//! the byte.

use std::borrow::Cow;
use std::path::Path;

use super::claim::BlockLocation;
use super::codec::{
    BlockEncoding, BlockHeader, BlockKind, DecodeError, FixedRecord, decode_varied, unpack, unpacked_bytes,
};
use super::entries::{ConsumerEntry, CounterEntry, EventRecord, EventsHead, TopicEntry};
use crate::error::{Error, ErrorKind, Result};

/// A block as it lies in a journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: BlockKind,
    /// Where its header begins in the file.
    pub(crate) at: u64,
    /// Bytes of header and body.
    pub(crate) length: u32,
    /// Entries in it.
    pub(crate) count: u32,
    encoding: BlockEncoding,
    /// The body as it is kept.
    kept: &'a [u8],
    path: &'a Path,
}

impl<'a> Block<'a> {
    /// Reads the block at the front of `bytes`, which lies at `at` in the journal at `path`, and
    /// checks its CRC.
    pub(crate) fn open(bytes: &'a [u8], at: u64, path: &'a Path) -> Result<Self, DecodeError> {
        let (block, crc) = Self::unchecked(bytes, at, path)?;
        if crc32c::crc32c(block.kept) != crc { Err(DecodeError::Malformed("block")) } else { Ok(block) }
    }

    /// Reads the block as it is, and gives the CRC that its body must have.
    pub(super) fn unchecked(bytes: &'a [u8], at: u64, path: &'a Path) -> Result<(Self, u32), DecodeError> {
        let malformed = DecodeError::Malformed("block");
        let (header, rest) = bytes.split_at_checked(BlockHeader::BYTES).ok_or(malformed)?;
        let (header, kind, encoding) = BlockHeader::open(header)?;
        let kept = rest.get(..header.length as usize).ok_or(malformed)?;
        let length = header.length + BlockHeader::BYTES as u32;
        Ok((Self { kind, at, length, count: header.count, encoding, kept, path }, header.crc))
    }

    /// Where it lies, as indexes keep it.
    pub(crate) fn location(&self) -> BlockLocation {
        BlockLocation { at: self.at, length: self.length, count: self.count }
    }

    /// How long its body says that it is, unpacked.
    pub(crate) fn unpacked_bytes(&self) -> usize {
        unpacked_bytes(self.encoding, self.kept)
    }

    /// What is in it, unpacked.
    ///
    /// # Errors
    /// `Corrupt`, `Unusable`, as for all that is read of it.
    pub(crate) fn body(&self) -> Result<Body<'a>> {
        let bytes = unpack(self.encoding, self.kept).map_err(|e| self.unreadable(e))?;
        Ok(Body { bytes, block: *self })
    }

    /// The text that these bytes of it are.
    ///
    /// # Errors
    /// `Corrupt` if they are not UTF-8.
    pub(crate) fn text<'t>(&self, bytes: &'t [u8], what: &str) -> Result<&'t str> {
        std::str::from_utf8(bytes).map_err(|_| self.corrupt(&format!("{what} is not UTF-8")))
    }

    /// An error that says what is wrong with it.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.path, self.at, what)
    }

    /// An error that says that a record in it can't be read, although its CRC is right.
    fn unreadable(&self, what: DecodeError) -> Error {
        match what {
            DecodeError::Newer(..) => newer_version(self.path, self.at, &what),
            DecodeError::Malformed(_) => self.corrupt(&what.to_string()),
        }
    }
}

/// An error that says that a newer version wrote what is at a byte of a journal.
pub(super) fn newer_version(path: &Path, at: u64, what: &DecodeError) -> Error {
    let message =
        format!("{} at byte {at}: {what}; use the version that wrote it or a newer one", path.display());
    Error::new(ErrorKind::Unusable, message)
}

/// The body of a block.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: Cow<'a, [u8]>,
    block: Block<'a>,
}

impl Body<'_> {
    /// The events of a block of events.
    pub(crate) fn events(&self) -> Result<Events<'_>> {
        let mut rest = &*self.bytes;
        let head: EventsHead<'_> =
            decode_varied(&mut rest, "head of a block of events").map_err(|e| self.block.unreadable(e))?;
        Ok(Events { head, offset: head.first_offset, rest, left: self.block.count, block: self.block })
    }

    /// Adds to what topics have, from a block of counters.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Result<CounterEntry<'_>>> {
        let mut rest = &*self.bytes;
        (0..self.block.count).map(move |_| {
            let entry = decode_varied(&mut rest, "counter").and_then(CounterEntry::checked);
            entry.map_err(|e| self.block.unreadable(e))
        })
    }

    /// States of topics, from a block of topics.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Result<TopicEntry<'_>>> {
        let mut rest = &*self.bytes;
        (0..self.block.count).map(move |_| {
            let entry = decode_varied(&mut rest, "topic").and_then(TopicEntry::checked);
            entry.map_err(|e| self.block.unreadable(e))
        })
    }

    /// What became of consumers, from a block of them, in order.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = Result<ConsumerEntry<'_>>> {
        let mut rest = &*self.bytes;
        (0..self.block.count).map(move |_| {
            let entry = decode_varied(&mut rest, "consumer").and_then(ConsumerEntry::checked);
            entry.map_err(|e| self.block.unreadable(e))
        })
    }
}

/// The events of a block, each with its offset, in order.
#[derive(Clone, Debug)]
pub(crate) struct Events<'a> {
    pub(crate) head: EventsHead<'a>,
    offset: u64,
    rest: &'a [u8],
    left: u32,
    block: Block<'a>,
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<(u64, EventRecord<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.offset;
        self.offset = offset.wrapping_add(1);
        let event = decode_varied(&mut self.rest, "event").map_err(|e| self.block.unreadable(e));
        Some(event.map(|event| (offset, event)))
    }
}
