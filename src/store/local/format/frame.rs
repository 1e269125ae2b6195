//! Frames: how one commit lies in the journal, and how it is read back.
//!
//! ```text
//! frame = FrameHeader (104) · block · block · …          block = BlockHeader (16) · body
//! ```
//! A worker encodes its blocks with their CRCs; the journal's writer only strings them together
//! after a header. The header's `blocks_crc` covers all block headers, and they their bodies, so
//! the chain of header CRCs covers all.

use super::codec::{
    BlockEncoding, BlockHeader, BlockKind, DecodeError, FRAME_VERSION, FixedRecord, FrameHeader, FrameKind,
};
use std::path::Path;

use super::block::Block;
use super::manifest::Entry;

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

    /// Adds a block of counters, topics or consumers.
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
            version: FRAME_VERSION,
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

/// A frame as it was read, its CRCs checked.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    /// All of it, as it lies in the file.
    pub(crate) bytes: &'a [u8],
    /// The journal.
    pub(super) path: &'a Path,
}

impl<'a> Frame<'a> {
    /// Its blocks, in order. The CRCs were checked when the frame was read.
    pub(crate) fn blocks(&self) -> impl DoubleEndedIterator<Item = Block<'a>> + use<'a> {
        let mut blocks = Vec::with_capacity(self.header.blocks as usize);
        let mut at = FrameHeader::BYTES;
        while let Some(bytes) = self.bytes.get(at..)
            && let Ok((block, _)) = Block::unchecked(bytes, self.header.at + at as u64, self.path)
        {
            at += block.length as usize;
            blocks.push(block);
        }
        blocks.into_iter()
    }

    /// Its blocks of events, in order.
    pub(crate) fn event_blocks(&self) -> impl DoubleEndedIterator<Item = Block<'a>> + use<'a> {
        self.blocks().filter(|block| block.kind == BlockKind::Events)
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.header.at + self.bytes.len() as u64
    }
}

/// Whether all of a frame's blocks are there and as they were written.
///
/// # Errors
/// `Newer` if they are, and one is of a kind that this program does not know.
pub(super) fn is_whole(header: &FrameHeader, bytes: &[u8]) -> Result<bool, DecodeError> {
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
