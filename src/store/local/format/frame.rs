//! Frames: how one commit lies in the journal, and how it is read back.
//!
//! ```text
//! frame = FrameHeader (104) · block · block · …          block = BlockHeader (16) · body
//! ```
//! A worker encodes its blocks with their CRCs; the journal's writer only strings them together behind a header. The
//! header's `blocks_crc` covers all block headers, and they their bodies, so the chain of header CRCs covers all.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::codec::{
    BlockEncoding, BlockHeader, BlockKind, CounterEntry, DecodeError, EventRecord, EventsHead, FixedRecord,
    FrameHeader, FrameKind, TopicEntry, VERSION, decode_varied, unpack,
};
use super::manifest::Entry;
use crate::disk::DiskFile;
use crate::error::{Error, ErrorKind, Result};

/// Where the next frame of a journal goes, and what its header says of what came before.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) store_id: [u8; 16],
    pub(crate) nonce: u64,
    /// Number of the next frame.
    pub(crate) sequence: u64,
    /// Number of the next event.
    pub(crate) first_event: u64,
    /// Where the next frame begins.
    pub(crate) at: u64,
    /// The last durable frame.
    pub(crate) durable_through: u64,
    /// CRC of the header before.
    pub(crate) previous_crc: u32,
}

impl Chain {
    /// The head of the journal of a generation, all before which is durable.
    pub(crate) fn begin(store_id: [u8; 16], entry: &Entry) -> Self {
        Self {
            store_id,
            nonce: entry.nonce,
            sequence: entry.first_frame,
            first_event: entry.first_event,
            at: 0,
            durable_through: entry.first_frame.saturating_sub(1),
            previous_crc: 0,
        }
    }
}

/// Puts blocks together to one frame. Reused from commit to commit.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    blocks: u32,
    events: u32,
    blocks_crc: u32,
    received: Option<(i64, i64)>,
}

impl FrameBuilder {
    /// Empties the builder.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FrameHeader::BYTES, 0);
        (self.blocks, self.events, self.blocks_crc, self.received) = (0, 0, 0, None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Adds a block of counters or topics.
    pub(crate) fn push(&mut self, kind: BlockKind, count: u32, body: &[u8]) {
        let header = BlockHeader::of(kind, BlockEncoding::Plain, count, body).encoded();
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(body);
        self.blocks += 1;
        self.blocks_crc = crc32c::crc32c_append(self.blocks_crc, &header);
    }

    /// Adds a worker's block of events, header and body; returns where it begins in the frame.
    pub(crate) fn push_events(&mut self, block: &[u8], events: u32, received_at: i64) -> u64 {
        let at = self.bytes.len() as u64;
        self.blocks_crc =
            crc32c::crc32c_append(self.blocks_crc, &block[..BlockHeader::BYTES.min(block.len())]);
        self.bytes.extend_from_slice(block);
        self.blocks += 1;
        self.events += events;
        let (min, max) = self.received.unwrap_or((received_at, received_at));
        self.received = Some((min.min(received_at), max.max(received_at)));
        at
    }

    /// The frame's bytes, to be written at `chain.at`; moves the chain on.
    pub(crate) fn finish(&mut self, kind: FrameKind, chain: &mut Chain) -> (FrameHeader, &[u8]) {
        let (received_min, received_max) = self.received.unwrap_or((0, 0));
        let mut header = FrameHeader {
            magic: FrameHeader::MAGIC,
            version: VERSION,
            kind: kind as u8,
            reserved: 0,
            length: (self.bytes.len() - FrameHeader::BYTES) as u32,
            blocks: self.blocks,
            events: self.events,
            blocks_crc: self.blocks_crc,
            store_id: chain.store_id,
            nonce: chain.nonce,
            sequence: chain.sequence,
            first_event: chain.first_event,
            at: chain.at,
            durable_through: chain.durable_through,
            received_min,
            received_max,
            previous_crc: chain.previous_crc,
            crc: 0,
        };
        let mut head = Vec::with_capacity(FrameHeader::BYTES);
        chain.previous_crc = header.seal_to(&mut head);
        self.bytes[..FrameHeader::BYTES].copy_from_slice(&head);
        chain.sequence += 1;
        chain.first_event += u64::from(self.events);
        chain.at += self.bytes.len() as u64;
        (header, &self.bytes)
    }
}

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
}

impl<'a> Block<'a> {
    /// Reads the block at the front of `bytes`, which lies at `at` in its file, and checks its CRC.
    pub(crate) fn open(bytes: &'a [u8], at: u64) -> Result<Self, DecodeError> {
        let (block, crc) = Self::unchecked(bytes, at)?;
        if crc32c::crc32c(block.kept) != crc { Err(DecodeError::Malformed("block")) } else { Ok(block) }
    }

    /// Reads the block as it is, and gives the CRC that its body must have.
    fn unchecked(bytes: &'a [u8], at: u64) -> Result<(Self, u32), DecodeError> {
        let malformed = DecodeError::Malformed("block");
        let (header, rest) = bytes.split_at_checked(BlockHeader::BYTES).ok_or(malformed)?;
        let (header, kind, encoding) = BlockHeader::open(header)?;
        let kept = rest.get(..header.length as usize).ok_or(malformed)?;
        let length = header.length + BlockHeader::BYTES as u32;
        Ok((Self { kind, at, length, count: header.count, encoding, kept }, header.crc))
    }

    /// What is in it, unpacked.
    pub(crate) fn body(&self) -> Result<Body<'a>, DecodeError> {
        Ok(Body { bytes: unpack(self.encoding, self.kept)?, count: self.count })
    }
}

/// The body of a block.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: Cow<'a, [u8]>,
    count: u32,
}

impl Body<'_> {
    /// The events of a block of events.
    pub(crate) fn events(&self) -> Result<(EventsHead<'_>, Entries<'_>), DecodeError> {
        let mut rest = &*self.bytes;
        let head = decode_varied(&mut rest, "head of a block of events")?;
        Ok((head, Entries { rest, left: self.count }))
    }

    /// Adds to what topics have, from a block of counters.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Result<CounterEntry<'_>, DecodeError>> {
        let mut rest = &*self.bytes;
        (0..self.count).map(move |_| decode_varied(&mut rest, "counter").and_then(CounterEntry::checked))
    }

    /// States of topics, from a block of topics.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Result<TopicEntry<'_>, DecodeError>> {
        let mut rest = &*self.bytes;
        (0..self.count).map(move |_| decode_varied(&mut rest, "topic").and_then(TopicEntry::checked))
    }
}

/// The events of a block, in order of their offsets.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<EventRecord<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(decode_varied(&mut self.rest, "event"))
    }
}

/// A frame as it was read, its CRCs checked.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    /// All of it, as it lies in the file.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Its blocks, in order. The CRCs were checked when the frame was read.
    pub(crate) fn blocks(&self) -> impl DoubleEndedIterator<Item = Block<'a>> + use<'a> {
        let mut blocks = Vec::with_capacity(self.header.blocks as usize);
        let mut at = FrameHeader::BYTES;
        while let Some(bytes) = self.bytes.get(at..)
            && let Ok((block, _)) = Block::unchecked(bytes, self.header.at + at as u64)
        {
            at += block.length as usize;
            blocks.push(block);
        }
        blocks.into_iter()
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.header.at + self.bytes.len() as u64
    }
}

/// Reads frames of one journal, forwards through a window, or anywhere.
#[derive(Debug)]
pub(crate) struct FrameReader {
    file: Arc<dyn DiskFile>,
    nonce: u64,
    window: Vec<u8>,
    start: u64,
    /// Bytes read at once.
    step: usize,
}

/// Bytes read at once by a scan of a whole journal.
const SCAN_BYTES: usize = 1 << 20;
/// Bytes read at once for a page.
const PAGE_BYTES: usize = 96 << 10;

impl FrameReader {
    pub(crate) fn new(file: Arc<dyn DiskFile>, nonce: u64) -> Self {
        Self { file, nonce, window: Vec::new(), start: 0, step: SCAN_BYTES }
    }

    /// Reads smaller pieces, for short runs.
    pub(crate) fn short(self) -> Self {
        Self { step: PAGE_BYTES, ..self }
    }

    /// The frame that begins at `at`; `None` if there is no whole, valid one.
    pub(crate) fn frame(&mut self, at: u64, path: &Path) -> Result<Option<Frame<'_>>> {
        let Some(header) = self.header(at, path)? else { return Ok(None) };
        let length = FrameHeader::BYTES + header.length as usize;
        let Some(bytes) = self.bytes(at, length, path)? else { return Ok(None) };
        match is_whole(&header, bytes) {
            Ok(is_whole) => Ok(is_whole.then_some(Frame { header, bytes })),
            Err(newer) => Err(newer_version(path, at, &newer)),
        }
    }

    /// The header of the frame that begins at `at`.
    pub(crate) fn header(&mut self, at: u64, path: &Path) -> Result<Option<FrameHeader>> {
        let nonce = self.nonce;
        let Some(bytes) = self.bytes(at, FrameHeader::BYTES, path)? else { return Ok(None) };
        match FrameHeader::open(bytes, nonce) {
            Ok(header) if header.at == at => Ok(Some(header)),
            Ok(_) | Err(DecodeError::Malformed(_)) => Ok(None),
            Err(newer) => Err(newer_version(path, at, &newer)),
        }
    }

    /// Where the next valid header begins, from `at` on, up to the end of the file.
    pub(crate) fn next_header(&mut self, mut at: u64, path: &Path) -> Result<Option<FrameHeader>> {
        let magic = memchr::memmem::Finder::new(&FrameHeader::MAGIC);
        loop {
            let Some(bytes) = self.some_bytes(at, path)? else { return Ok(None) };
            match magic.find(bytes) {
                Some(step) => {
                    if let Some(header) = self.header(at + step as u64, path)? {
                        return Ok(Some(header));
                    }
                    at += step as u64 + 1;
                }
                // The magic may lie across the end of the window.
                None => at += (bytes.len() - FrameHeader::MAGIC.len() + 1) as u64,
            }
        }
    }

    /// `length` bytes from `at`; `None` if the file ends before.
    fn bytes(&mut self, at: u64, length: usize, path: &Path) -> Result<Option<&[u8]>> {
        if self.held(at) < length {
            self.fill(at, length, path)?;
        }
        if self.held(at) < length {
            return Ok(None);
        }
        let from = (at - self.start) as usize;
        Ok(Some(&self.window[from..from + length]))
    }

    /// What there is from `at`, at least a magic's length.
    fn some_bytes(&mut self, at: u64, path: &Path) -> Result<Option<&[u8]>> {
        if self.held(at) < FrameHeader::MAGIC.len() {
            self.fill(at, self.step, path)?;
        }
        if self.held(at) < FrameHeader::MAGIC.len() {
            return Ok(None);
        }
        Ok(Some(&self.window[(at - self.start) as usize..]))
    }

    /// Bytes in the window from `at` on.
    fn held(&self, at: u64) -> usize {
        match at.checked_sub(self.start) {
            Some(skip) => self.window.len().saturating_sub(usize::try_from(skip).unwrap_or(usize::MAX)),
            None => 0,
        }
    }

    fn fill(&mut self, at: u64, length: usize, path: &Path) -> Result<()> {
        self.start = at;
        self.window.resize(length.max(self.step), 0);
        let mut filled = 0;
        while filled < self.window.len() {
            match self.file.read_at(&mut self.window[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.window.clear();
                    return Err(Error::io("read", path, e));
                }
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}

/// Whether all of a frame's blocks are there and as they were written.
///
/// # Errors
/// `Newer` if they are, and one is of a kind that this program does not know.
fn is_whole(header: &FrameHeader, bytes: &[u8]) -> Result<bool, DecodeError> {
    let (mut at, mut crc, mut newer, mut events) = (FrameHeader::BYTES, 0, None, 0u64);
    for _ in 0..header.blocks {
        let Some((head, rest)) = bytes.get(at..).and_then(|rest| rest.split_at_checked(BlockHeader::BYTES))
        else {
            return Ok(false);
        };
        let Ok(block) = BlockHeader::from_bytes(head) else { return Ok(false) };
        let Some(kept) = rest.get(..block.length as usize) else { return Ok(false) };
        if crc32c::crc32c(kept) != block.crc {
            return Ok(false);
        }
        match BlockHeader::open(head) {
            Ok((_, BlockKind::Events, _)) => events += u64::from(block.count),
            // Where offsets go on is said at the head of a generation only.
            Ok((_, BlockKind::Topics, _)) if header.kind != FrameKind::Topics as u8 => return Ok(false),
            Ok(_) => {}
            Err(DecodeError::Malformed(_)) => return Ok(false),
            Err(e) => newer = Some(e),
        }
        crc = crc32c::crc32c_append(crc, head);
        at += BlockHeader::BYTES + kept.len();
    }
    match newer {
        _ if at != bytes.len() || crc != header.blocks_crc => Ok(false),
        Some(e) => Err(e),
        None => Ok(events == u64::from(header.events)),
    }
}

fn newer_version(path: &Path, at: u64, what: &DecodeError) -> Error {
    let message =
        format!("{} at byte {at}: {what}; use the version that wrote it or a newer one", path.display());
    Error::new(ErrorKind::Unusable, message)
}

/// An error that says that a record in a block whose CRC is right could not be read.
pub(crate) fn unreadable(path: &Path, at: u64, what: DecodeError) -> Error {
    match what {
        DecodeError::Newer(..) => newer_version(path, at, &what),
        DecodeError::Malformed(_) => Error::corrupt(path, at, &what.to_string()),
    }
}

#[cfg(test)]
mod tests;
