//! How records are encoded, and the heads of frames and blocks. Who writes a record, and whether it
//! may change, stands with it.
//!
//! Integers are little-endian. Records are bincode 2 (pinned) in one of two fixed configurations:
//! *fixed* (integers at their full width, so that a record has one length) and *varied* (small
//! integers in one byte, strings after their length). Every record begins with, or lies in a file
//! or block that begins with, a version byte. The bytes of each record are held by tests
//! (`golden`): what is written today must be readable for ever.
//!
//! # A data directory
//! ```text
//! MANIFEST             JSON, see `manifest`
//! LOCK                 taken by the process that has the store, see `hold`
//! gen-000001/journal   frames, each: FrameHeader, then blocks, each: BlockHeader, then its entries
//! gen-000001/claims    sorted file: hash(topic \0 event_id) 16 → Claim 32
//! gen-000001/processed sorted file: hash(topic) 16, first offset (big-endian) 8 → BlockLocation 16
//! gen-000001/frames    sorted file: first event number (big-endian) 8 → FrameLocation 24
//! gen-000001/filter    binary fuse filter of the claims, see `sealed::filter`
//! gen-000001/filter-4  the same of this generation and those before it, four in all; -16 and -64 too
//! gen-000002/index/    sled: trees dedup, processed, meta, see `generation::index`
//! ```
//!
//! Entries of blocks are in `entries`, what indexes keep is in `claim`; sorted files, filters and
//! MANIFEST describe their own bytes.

use std::borrow::Cow;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Decode, Encode};

use crate::limits::{
    EVENT_BYTES_MAX, EVENT_ID_BYTES_MAX, SOURCE_BYTES_MAX, TIMESTAMP_BYTES_MAX, TOPIC_BYTES_MAX,
};

/// Format of the data directory as a whole; a newer one is refused. A store of an older one has
/// this one from its next start on.
///
/// 1: the first. 2: blocks may be packed. 3: filters are fuse maps, and of several generations. 4:
/// consumers.
pub const FORMAT: u32 = 4;
/// The format from which on filters are what they are now.
pub const FILTERS_FORMAT: u32 = 3;
/// Version of frame headers.
pub const FRAME_VERSION: u8 = 1;
/// Version of block headers, and of the entries after them.
pub const BLOCK_VERSION: u8 = 1;
/// Version of the values in the live index, which is rebuilt where it is another.
pub const INDEX_VERSION: u8 = 1;
/// Body bytes after which a block takes no further event.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Largest record of one event.
pub const RECORD_BYTES_MAX: usize =
    EVENT_BYTES_MAX + EVENT_ID_BYTES_MAX + TIMESTAMP_BYTES_MAX + SOURCE_BYTES_MAX + 64;
/// Largest body of a block.
pub const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + TOPIC_BYTES_MAX + 64 + RECORD_BYTES_MAX;
/// Largest body of a frame. A longer length in a header is damage.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(FRAME_BYTES_MAX > 8 * BLOCK_BYTES_MAX);

/// At full width.
const FIXED: Configuration<LittleEndian, Fixint, Limit<4096>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<4096>();
/// Small integers in one byte.
const VARIED: Configuration<LittleEndian, Varint, Limit<BLOCK_BYTES_MAX>> = bincode::config::standard()
    .with_little_endian()
    .with_variable_int_encoding()
    .with_limit::<BLOCK_BYTES_MAX>();

/// Why bytes could not be read as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A number that this program does not know: what it is of, and the number.
    #[error("written by a newer version of sekali ({0} {1})")]
    Newer(&'static str, u8),
    /// Anything else.
    #[error("not a {0}")]
    Malformed(&'static str),
}

/// A record of one length: [`FIXED`](self) bincode.
pub trait FixedRecord: Encode + Decode<()> + Sized {
    /// Its name in messages.
    const NAME: &'static str;
    /// Its length in bytes.
    const BYTES: usize;

    /// Appends the record.
    fn encode_to(&self, out: &mut Vec<u8>) {
        // The limit and the types are fixed, and a Vec takes all that is written: there is no error
        // to meet.
        let _ = bincode::encode_into_std_write(self, out, FIXED);
    }

    /// The record's bytes.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        self.encode_to(&mut out);
        out
    }

    /// Reads a record from exactly its bytes.
    ///
    /// # Errors
    /// If they are not such a record.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bincode::decode_from_slice(bytes, FIXED) {
            Ok((record, read)) if read == bytes.len() => Ok(record),
            _ => Err(DecodeError::Malformed(Self::NAME)),
        }
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The first frames of a generation: the state of every topic, then of every consumer (blocks
    /// of [`TopicEntry`] and of [`ConsumerEntry`]).
    Topics = 1,
    /// Events, counters and changes of consumers of one commit.
    Events = 2,
    /// Nothing; says that the frame before it is durable.
    Witness = 3,
}

impl FrameKind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Topics, Self::Events, Self::Witness].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Head of a frame. Written by the journal's writer, once; never changed (recovery may write the
/// same bytes again).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FrameHeader {
    /// [`FrameHeader::MAGIC`].
    pub magic: [u8; 4],
    /// [`FRAME_VERSION`].
    pub version: u8,
    /// A [`FrameKind`].
    pub kind: u8,
    /// 0.
    pub reserved: u16,
    /// Bytes of all blocks, their headers included.
    pub length: u32,
    /// How many blocks.
    pub blocks: u32,
    /// How many events in all blocks.
    pub events: u32,
    /// CRC32C of all block headers in a row, which hold the CRCs of the bodies.
    pub blocks_crc: u32,
    /// The store.
    pub store_id: [u8; 16],
    /// Random, of this generation: also seeds the CRCs, so that bytes of another life never parse.
    pub nonce: u64,
    /// Number of this frame, over all generations, without gaps.
    pub sequence: u64,
    /// Number of the first event in it (or of the next one, if it has none), over all generations,
    /// without gaps.
    pub first_event: u64,
    /// Where the frame begins in its file.
    pub at: u64,
    /// Every frame up to this number was durable when this one was written.
    pub durable_through: u64,
    /// Earliest arrival in it, microseconds since 1970.
    pub received_min: i64,
    /// Latest arrival in it.
    pub received_max: i64,
    /// CRC of the head of the frame before it in this file; 0 in the first.
    pub previous_crc: u32,
    /// CRC32C of the fields above, seeded with the nonce.
    pub crc: u32,
}

impl FixedRecord for FrameHeader {
    const NAME: &'static str = "frame header";
    const BYTES: usize = 104;
}

impl FrameHeader {
    /// First bytes of a frame.
    pub const MAGIC: [u8; 4] = *b"sKlF";

    /// Appends the header with its CRC, which is returned.
    pub fn seal_to(&mut self, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        self.encode_to(out);
        let end = out.len() - size_of::<u32>();
        self.crc = crc(self.nonce, &out[start..end]);
        out.truncate(end);
        out.extend_from_slice(&self.crc.to_le_bytes());
        self.crc
    }

    /// Reads a header and checks what can be checked of it alone: magic, CRC, version, kind,
    /// length.
    ///
    /// # Errors
    /// If it is not a frame header of a generation with `nonce`.
    pub fn open(bytes: &[u8], nonce: u64) -> Result<Self, DecodeError> {
        let header = Self::from_bytes(bytes)?;
        let sealed = &bytes[..Self::BYTES - size_of::<u32>()];
        if header.magic != Self::MAGIC || header.nonce != nonce || header.crc != crc(nonce, sealed) {
            return Err(DecodeError::Malformed(Self::NAME));
        }
        if header.version != FRAME_VERSION {
            return Err(DecodeError::Newer("record version", header.version));
        }
        if FrameKind::from_byte(header.kind).is_none() || header.length as usize > FRAME_BYTES_MAX {
            return Err(DecodeError::Malformed(Self::NAME));
        }
        Ok(header)
    }
}

/// CRC32C of `bytes`, seeded with a generation's nonce.
pub fn crc(nonce: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&nonce.to_le_bytes()), bytes)
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// [`EventsHead`], then [`EventRecord`]s of one topic with offsets in a row.
    Events = 1,
    /// [`CounterEntry`]s to add.
    Counters = 2,
    /// [`TopicEntry`]s.
    Topics = 3,
    /// [`ConsumerEntry`]s.
    Consumers = 4,
}

impl BlockKind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let kinds = [Self::Events, Self::Counters, Self::Topics, Self::Consumers];
        kinds.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How a block's body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockEncoding {
    /// As it is.
    Plain = 0,
    /// Its length, four bytes, then what one LZ4 block makes of it.
    Lz4 = 1,
}

impl BlockEncoding {
    /// The encoding with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Plain, Self::Lz4].into_iter().find(|encoding| *encoding as u8 == byte)
    }
}

/// Bodies shorter than this are kept as they are: there is little in them that repeats.
const PACK_FROM_BYTES: usize = 1 << 10;

/// Packs the body after a block's head, if that makes it smaller, and writes the head. `scratch`
/// is any buffer.
///
/// # Panics
/// If `block` is shorter than a head.
pub fn finish_block(kind: BlockKind, count: u32, block: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    let body = &block[BlockHeader::BYTES..];
    let mut encoding = BlockEncoding::Plain;
    if body.len() >= PACK_FROM_BYTES {
        scratch.resize(lz4_flex::block::get_maximum_output_size(body.len()), 0);
        let length = (body.len() as u32).to_le_bytes();
        // There is room for the worst case, so there is no error to meet; and what can't be packed
        // stays as it is.
        if let Ok(packed) = lz4_flex::block::compress_into(body, scratch)
            && packed + length.len() < body.len()
        {
            block.truncate(BlockHeader::BYTES);
            block.extend_from_slice(&length);
            block.extend_from_slice(&scratch[..packed]);
            encoding = BlockEncoding::Lz4;
        }
    }
    let header = BlockHeader::of(kind, encoding, count, &block[BlockHeader::BYTES..]).encoded();
    block[..BlockHeader::BYTES].copy_from_slice(&header);
}

/// Head of a block. Written by workers, before its body; never changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlockHeader {
    /// [`BLOCK_VERSION`].
    pub version: u8,
    /// A [`BlockKind`].
    pub kind: u8,
    /// A [`BlockEncoding`].
    pub encoding: u8,
    /// 0.
    pub reserved: u8,
    /// Bytes of the body.
    pub length: u32,
    /// Entries in it.
    pub count: u32,
    /// CRC32C of the body.
    pub crc: u32,
}

impl FixedRecord for BlockHeader {
    const NAME: &'static str = "block header";
    const BYTES: usize = 16;
}

impl BlockHeader {
    /// The header of a block with this body.
    pub fn of(kind: BlockKind, encoding: BlockEncoding, count: u32, body: &[u8]) -> Self {
        Self {
            version: BLOCK_VERSION,
            kind: kind as u8,
            encoding: encoding as u8,
            reserved: 0,
            length: body.len() as u32,
            count,
            crc: crc32c::crc32c(body),
        }
    }

    /// Reads a header and checks what can be checked of it alone.
    ///
    /// # Errors
    /// If it is not one, or of a newer version.
    pub fn open(bytes: &[u8]) -> Result<(Self, BlockKind, BlockEncoding), DecodeError> {
        let header = Self::from_bytes(bytes)?;
        let kind = BlockKind::from_byte(header.kind).ok_or(DecodeError::Malformed(Self::NAME))?;
        if header.version != BLOCK_VERSION {
            return Err(DecodeError::Newer("record version", header.version));
        }
        let encoding = BlockEncoding::from_byte(header.encoding)
            .ok_or(DecodeError::Newer("block encoding", header.encoding))?;
        if header.length as usize > BLOCK_BYTES_MAX {
            return Err(DecodeError::Malformed(Self::NAME));
        }
        Ok((header, kind, encoding))
    }
}

/// How long the body of a block says that it is, unpacked.
pub fn unpacked_bytes(encoding: BlockEncoding, kept: &[u8]) -> usize {
    match (encoding, kept.first_chunk()) {
        (BlockEncoding::Lz4, Some(length)) => u32::from_le_bytes(*length) as usize,
        _ => kept.len(),
    }
}

/// The body of a block, unpacked if need be. What is kept may say no longer length than a block can
/// have.
///
/// # Errors
/// If it can't be unpacked to what it says.
pub fn unpack(encoding: BlockEncoding, kept: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let malformed = DecodeError::Malformed("packed block");
    match encoding {
        BlockEncoding::Plain => Ok(Cow::Borrowed(kept)),
        BlockEncoding::Lz4 => {
            let (length, packed) = kept.split_first_chunk().ok_or(malformed)?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > BLOCK_BYTES_MAX {
                return Err(malformed);
            }
            let body = lz4_flex::block::decompress(packed, length).map_err(|_| malformed)?;
            if body.len() == length { Ok(Cow::Owned(body)) } else { Err(malformed) }
        }
    }
}

/// Appends a record of varied length.
pub fn encode_varied<T: Encode>(record: &T, out: &mut Vec<u8>) {
    // A Vec takes all that is written, and the limit holds for decoding only.
    let _ = bincode::encode_into_std_write(record, out, VARIED);
}

/// Reads one record from the front of `bytes`, which then begins after it.
///
/// # Errors
/// If there is none.
pub fn decode_varied<'a, T: BorrowDecode<'a, ()>>(
    bytes: &mut &'a [u8],
    name: &'static str,
) -> Result<T, DecodeError> {
    match bincode::borrow_decode_from_slice(bytes, VARIED) {
        Ok((record, read)) => {
            *bytes = bytes.get(read..).unwrap_or_default();
            Ok(record)
        }
        Err(_) => Err(DecodeError::Malformed(name)),
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod property;
