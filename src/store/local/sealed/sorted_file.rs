//! An immutable file of sorted records of one width: claims, processed and frames of a sealed
//! generation.
//!
//! Read with positional reads, not mapped: a read error under a mapping is SIGBUS, the death of the
//! process; and reading a cached page is cheap. Blocks are found by
//! interpolation on the first eight bytes of the key, so that uniform keys cost about two block
//! reads, and any others no more than a bisection.
//!
//! Blocks of 4,096 bytes; the last four bytes of each are the CRC32C of the others, seeded with the
//! generation's nonce and the block's number, so that a block in the wrong place is seen. Integers
//! are little-endian.
//!
//! | block 0: bytes | what |
//! |---|---|
//! | 0..4 | magic `sKlS` |
//! | 4 | version, 1 |
//! | 5 | a [`Kind`] |
//! | 6..8 | 0 |
//! | 8..10 | bytes of a key |
//! | 10..12 | bytes of a value |
//! | 12..16 | 0 |
//! | 16..24 | number of records |
//! | 24..32 | the generation's nonce |
//! | 32..48 | the store's id |
//! | 48.. | the first key, the last key (zeros if there are no records), zeros |
//!
//! | block 1..: bytes | what |
//! |---|---|
//! | 0.. | as many whole records (key, value) as fit; fewer in the last block |
//! | ..4092 | zeros |
//!
//! Block 0 is written last: a file that was not finished has none.

pub mod writer;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use super::open_files::{CachedFile, FileCache};
use crate::error::{During, Error, ErrorKind, Result};

const MAGIC: [u8; 4] = *b"sKlS";
const VERSION: u8 = 1;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;
const BODY_BYTES: usize = BLOCK_BYTES - size_of::<u32>();
const KEYS_AT: usize = 48;
/// Longest key, so that two fit in the header.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = 1024;
/// Blocks that a scan reads at once.
const SCAN_BLOCKS: usize = 16;
/// Probes by interpolation before every second one bisects.
const INTERPOLATIONS: u32 = 4;

const _: () = assert!(KEYS_AT + 2 * KEY_BYTES_MAX <= BODY_BYTES);
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX <= BODY_BYTES);

/// What a file's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hash of topic and event id → claim.
    Claims = 1,
    /// Topic hash and first offset → place of a block.
    Processed = 2,
    /// Event sequence → place of a run of frames.
    Frames = 3,
}

/// What a file must be: its kind, its widths, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What the records are.
    pub kind: Kind,
    /// Bytes of a key, 1 to [`KEY_BYTES_MAX`].
    pub key_width: usize,
    /// Bytes of a value, 0 to [`VALUE_BYTES_MAX`].
    pub value_width: usize,
    /// The store.
    pub store_id: [u8; 16],
    /// The generation's nonce.
    pub nonce: u64,
}

impl Shape {
    fn record_width(&self) -> usize {
        self.key_width + self.value_width
    }

    fn records_a_block(&self) -> u64 {
        (BODY_BYTES / self.record_width()) as u64
    }

    fn check(&self, path: &Path) -> Result<()> {
        let widths = 1..=KEY_BYTES_MAX;
        if widths.contains(&self.key_width) && self.value_width <= VALUE_BYTES_MAX {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unusable, format!("{}: no such record width", path.display())))
    }

    fn crc(&self, block: u64, body: &[u8]) -> u32 {
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&self.nonce.to_le_bytes());
        seed[8..].copy_from_slice(&block.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&seed), body)
    }

    /// The first 48 bytes of block 0.
    fn head(&self, count: u64) -> [u8; KEYS_AT] {
        let mut head = [0; KEYS_AT];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = VERSION;
        head[5] = self.kind as u8;
        head[8..10].copy_from_slice(&(self.key_width as u16).to_le_bytes());
        head[10..12].copy_from_slice(&(self.value_width as u16).to_le_bytes());
        head[16..24].copy_from_slice(&count.to_le_bytes());
        head[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        head[32..48].copy_from_slice(&self.store_id);
        head
    }
}

/// Room for one block. Look-ups read into the caller's, and answer with parts of it.
#[derive(Clone, Debug)]
pub struct BlockBuffer([u8; BLOCK_BYTES]);

impl Default for BlockBuffer {
    fn default() -> Self {
        Self([0; BLOCK_BYTES])
    }
}

/// Record `i` of a block.
fn record<'a>(block: &'a [u8], shape: &Shape, i: usize) -> (&'a [u8], &'a [u8]) {
    let width = shape.record_width();
    block[i * width..(i + 1) * width].split_at(shape.key_width)
}

impl BlockBuffer {
    fn record<'a>(&'a self, shape: &Shape, i: usize) -> (&'a [u8], &'a [u8]) {
        record(&self.0, shape, i)
    }
}

/// The first eight bytes of a key as a number, in the same order.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

/// Number, key and value of a record.
pub type NumberedRecord<'b> = (u64, &'b [u8], &'b [u8]);

/// A sorted file, to look up in.
#[derive(Debug)]
pub struct SortedFile {
    file: CachedFile,
    shape: Shape,
    count: u64,
    /// Data blocks.
    blocks: u64,
    first: u64,
    last: u64,
}

impl SortedFile {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged, cut, or not of this shape, store and generation; `Io`.
    pub fn open(files: &Arc<FileCache>, path: &Path, shape: Shape) -> Result<Self> {
        shape.check(path)?;
        let file = files.file(path);
        let open = file.get()?;
        let len = open.len().during("measure", path)?;
        if len < BLOCK_BYTES as u64 {
            return Err(Error::corrupt(path, len, "it ends within its header"));
        }
        let mut this = Self { file, shape, count: 0, blocks: 0, first: 0, last: 0 };
        let mut block = BlockBuffer::default();
        this.read_block(0, &mut block)?;
        let mut count = [0; 8];
        count.copy_from_slice(&block.0[16..24]);
        this.count = u64::from_le_bytes(count);
        if block.0[..KEYS_AT] != shape.head(this.count) {
            return Err(Error::corrupt(
                path,
                0,
                "it is another kind of file, or of another store or version",
            ));
        }
        this.blocks = this.count.div_ceil(shape.records_a_block());
        if this.blocks.checked_add(1).and_then(|blocks| blocks.checked_mul(BLOCK_BYTES as u64)) != Some(len) {
            return Err(Error::corrupt(path, len, "its length does not fit its number of records"));
        }
        this.first = prefix(&block.0[KEYS_AT..KEYS_AT + shape.key_width]);
        this.last = prefix(&block.0[KEYS_AT + shape.key_width..KEYS_AT + 2 * shape.key_width]);
        Ok(this)
    }

    /// Number of records.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads and checks a block by its number in the file.
    fn read_block(&self, number: u64, block: &mut BlockBuffer) -> Result<()> {
        self.read_blocks(number, &mut block.0)
    }

    /// Reads and checks as many blocks as there is room for, from this number in the file on.
    fn read_blocks(&self, first: u64, blocks: &mut [u8]) -> Result<()> {
        let at = first * BLOCK_BYTES as u64;
        let path = self.file.path();
        match self.file.get()?.read_exact_at(blocks, at) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::corrupt(path, at, "it ends too early"));
            }
            result => result.during("read", path)?,
        }
        for (block, number) in blocks.chunks_exact(BLOCK_BYTES).zip(first..) {
            let (body, crc) = block.split_at(BODY_BYTES);
            if self.shape.crc(number, body).to_le_bytes() != *crc {
                let at = number * BLOCK_BYTES as u64;
                return Err(Error::corrupt(
                    path,
                    at,
                    "a block's checksum is wrong, or of another generation",
                ));
            }
        }
        Ok(())
    }

    /// Records in data block `i`.
    fn records_in(&self, i: u64) -> usize {
        let a_block = self.shape.records_a_block();
        (self.count - i * a_block).min(a_block) as usize
    }

    /// Finds how many records have a key ≤ `key`. If the record before that place has `key` itself,
    /// it is in `block`. Returns that number, and which data block was read last.
    fn rank(&self, key: &[u8], block: &mut BlockBuffer) -> Result<(u64, Option<u64>)> {
        let a_block = self.shape.records_a_block();
        let wanted = prefix(key);
        // The place is in a data block of low..high, or at the edge of one; record numbers and
        // prefixes of its ends.
        let (mut low, mut high) = (0, self.blocks);
        let (mut low_at, mut high_at) = ((0, self.first), (self.count, self.last));
        let mut read = None;
        let mut probes = 0;
        while low < high {
            let middle = low + (high - low) / 2;
            let guess = if probes >= INTERPOLATIONS && probes % 2 == 0 {
                middle
            } else {
                interpolate(wanted, low_at, high_at)
                    .map_or(middle, |record| (record / a_block).clamp(low, high - 1))
            };
            probes += 1;
            self.read_block(guess + 1, block)?;
            read = Some(guess);
            let records = self.records_in(guess);
            let start = guess * a_block;
            let first = block.record(&self.shape, 0).0;
            let last = block.record(&self.shape, records - 1).0;
            if key < first {
                high = guess;
                high_at = (start, prefix(first));
            } else if key > last {
                low = guess + 1;
                low_at = (start + records as u64 - 1, prefix(last));
            } else {
                return Ok((start + self.rank_in(key, block, records) as u64, read));
            }
        }
        // Between two blocks: all records before block `low` are smaller.
        Ok(((low * a_block).min(self.count), read))
    }

    /// How many of a block's records have a key ≤ `key`.
    fn rank_in(&self, key: &[u8], block: &BlockBuffer, records: usize) -> usize {
        let (mut low, mut high) = (0, records);
        while low < high {
            let middle = low + (high - low) / 2;
            match block.record(&self.shape, middle).0.cmp(key) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return middle + 1,
                Ordering::Less => low = middle + 1,
            }
        }
        low
    }

    /// The value of `key`, in `block`.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub fn get<'b>(&self, key: &[u8], block: &'b mut BlockBuffer) -> Result<Option<&'b [u8]>> {
        let (rank, read) = self.rank(key, block)?;
        let a_block = self.shape.records_a_block();
        let Some(i) = rank.checked_sub(1).filter(|i| Some(i / a_block) == read) else { return Ok(None) };
        let (found, value) = block.record(&self.shape, (i % a_block) as usize);
        Ok((found == key).then_some(value))
    }

    /// The record with the greatest key ≤ `key`: its number, key and value, in `block`.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub fn at_or_before<'b>(
        &self,
        key: &[u8],
        block: &'b mut BlockBuffer,
    ) -> Result<Option<NumberedRecord<'b>>> {
        let (rank, read) = self.rank(key, block)?;
        let Some(i) = rank.checked_sub(1) else { return Ok(None) };
        let a_block = self.shape.records_a_block();
        if Some(i / a_block) != read {
            self.read_block(i / a_block + 1, block)?;
        }
        let (key, value) = block.record(&self.shape, (i % a_block) as usize);
        Ok(Some((i, key, value)))
    }

    /// Record number `i`: key and value, in `block`; none beyond the last.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub fn record<'b>(&self, i: u64, block: &'b mut BlockBuffer) -> Result<Option<(&'b [u8], &'b [u8])>> {
        if i >= self.count {
            return Ok(None);
        }
        let a_block = self.shape.records_a_block();
        self.read_block(i / a_block + 1, block)?;
        Ok(Some(block.record(&self.shape, (i % a_block) as usize)))
    }

    /// All records in order, every checksum and the order checked.
    pub fn scan(&self) -> Scan<'_> {
        Scan { file: self, piece: Vec::new(), next: 0, last_key: Vec::new() }
    }
}

/// Where between two (record, prefix) ends the wanted prefix would be, were keys spread evenly.
fn interpolate(wanted: u64, low: (u64, u64), high: (u64, u64)) -> Option<u64> {
    let span = high.1.checked_sub(low.1).filter(|span| *span > 0)?;
    let part = u128::from(wanted.saturating_sub(low.1).min(span));
    let records = u128::from(high.0.saturating_sub(low.0));
    Some(low.0 + (part * records / u128::from(span)) as u64)
}

/// Reads a sorted file from its first record to its last.
#[derive(Debug)]
pub struct Scan<'a> {
    file: &'a SortedFile,
    /// Whole blocks, the next record's among them.
    piece: Vec<u8>,
    next: u64,
    /// The last key before the piece.
    last_key: Vec<u8>,
}

impl Scan<'_> {
    /// The next record: key and value.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, or a key that is not greater than that before; `Io`.
    #[allow(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let shape = &self.file.shape;
        if self.next >= self.file.count {
            return Ok(None);
        }
        let a_block = shape.records_a_block() as usize;
        let in_piece = (self.next % (SCAN_BLOCKS * a_block) as u64) as usize;
        if in_piece == 0 {
            self.read_piece()?;
        }
        let read = |i: usize| record(&self.piece[i / a_block * BLOCK_BYTES..], shape, i % a_block);
        let (key, value) = read(in_piece);
        let before = in_piece.checked_sub(1).map_or(&self.last_key[..], |i| read(i).0);
        if self.next > 0 && key <= before {
            let at = (1 + self.next / a_block as u64) * BLOCK_BYTES as u64
                + (in_piece % a_block * shape.record_width()) as u64;
            return Err(Error::corrupt(self.file.file.path(), at, "its keys are not in order"));
        }
        self.next += 1;
        Ok(Some((key, value)))
    }

    /// Reads the piece that begins with the next record.
    fn read_piece(&mut self) -> Result<()> {
        let shape = &self.file.shape;
        let block = self.next / shape.records_a_block();
        if let Some(last) = self.piece.len().checked_sub(BLOCK_BYTES) {
            let (key, _) = record(&self.piece[last..], shape, shape.records_a_block() as usize - 1);
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        let blocks = (self.file.blocks - block).min(SCAN_BLOCKS as u64) as usize;
        // If it fails, the next call reads it again.
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(blocks * BLOCK_BYTES, 0);
        self.file.read_blocks(block + 1, &mut piece)?;
        self.piece = piece;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
