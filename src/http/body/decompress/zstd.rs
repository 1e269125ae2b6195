//! zstd, block by block. The library decodes as many blocks as it is given, however large they get,
//! and wants each of them whole: so this cuts frames (RFC 8878, section 3.1) into heads and blocks,
//! and gives it one at a time.

use std::io::Read;

use bytes::{Buf, Bytes};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Damage;
use crate::limits::ZSTD_WINDOW_BYTES_MAX;

/// Magic, descriptor, window, dictionary, content size.
const MAGIC: u32 = 0xfd2f_b528;
/// The first of the 16 magics of frames to skip.
const MAGIC_SKIPPED: u32 = 0x184d_2a50;
/// Largest block.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// What the decoder holds before its first block: tables, and the head of a frame.
pub(crate) const BEGIN_BYTES: usize = 16 << 10;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Block,
    /// All is decoded, and not all given.
    Rest,
    /// This many bytes to skip.
    Skipped(usize),
}

/// Whether a frame may begin so: all of them do with one of 17 bytes.
pub(crate) fn may_begin(text: &[u8]) -> bool {
    text.first().is_none_or(|first| {
        *first == MAGIC.to_le_bytes()[0] || first & !0xf == MAGIC_SKIPPED.to_le_bytes()[0]
    })
}

fn decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX as u64);
    decoder
}

/// What the decoder takes to hold `bytes`: its buffer doubles, with two blocks to spare. The parts
/// of a block come on top.
fn capacity(bytes: usize) -> usize {
    let spare = 2 * BLOCK_BYTES_MAX;
    if bytes <= spare { bytes.next_power_of_two() } else { (bytes - spare).next_power_of_two() + spare }
}

pub(crate) struct Zstd {
    decoder: FrameDecoder,
    part: Part,
    has_checksum: bool,
    window: usize,
    /// Most that this frame decoded to so far.
    decoded: usize,
    /// Most that the decoder has memory for; it takes it as it decodes.
    allocated: usize,
    /// The begin of the next part.
    held: Vec<u8>,
}

impl Zstd {
    pub(crate) fn new() -> Self {
        Self {
            decoder: decoder(),
            part: Part::Head,
            has_checksum: false,
            window: 0,
            decoded: 0,
            allocated: 0,
            held: Vec::new(),
        }
    }

    pub(crate) fn memory(&self) -> usize {
        BEGIN_BYTES + self.allocated + self.held.capacity()
    }

    /// Whether it stands between two frames.
    pub(crate) fn is_whole(&self) -> bool {
        self.part == Part::Head && self.held.is_empty()
    }

    /// Takes from `input` until some of `out` is filled, or the input is used up.
    pub(crate) fn step(&mut self, input: &mut Bytes, out: &mut [u8]) -> Result<usize, Damage> {
        loop {
            if matches!(self.part, Part::Block | Part::Rest) && self.decoder.can_collect() > 0 {
                let made = self.decoder.read(out).map_err(|_| Damage::Malformed)?;
                self.settle()?;
                return Ok(made);
            }
            self.settle()?;
            let whole = match self.part {
                Part::Head => self.head(input)?,
                Part::Block => self.block(input)?,
                Part::Rest => true,
                Part::Skipped(left) => {
                    let skipped = left.min(input.len());
                    input.advance(skipped);
                    self.part = if skipped == left { Part::Head } else { Part::Skipped(left - skipped) };
                    skipped == left
                }
            };
            if !whole {
                return Ok(0);
            }
        }
    }

    /// Ends a frame of which all is given.
    fn settle(&mut self) -> Result<(), Damage> {
        if self.part == Part::Rest && self.decoder.can_collect() == 0 {
            let told = self.decoder.get_checksum_from_data();
            if self.has_checksum && told != self.decoder.get_calculated_checksum() {
                return Err(Damage::Malformed);
            }
            self.part = Part::Head;
        }
        Ok(())
    }

    /// Holds `bytes` of the part, if that many are there.
    fn gather(&mut self, input: &mut Bytes, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.held.len()).min(input.len());
        self.held.extend_from_slice(&input.split_to(missing));
        self.held.len() >= bytes
    }

    fn head(&mut self, input: &mut Bytes) -> Result<bool, Damage> {
        if !self.gather(input, 5) {
            return Ok(false);
        }
        let [a, b, c, d, descriptor, ..] = self.held[..] else { return Ok(false) };
        let magic = u32::from_le_bytes([a, b, c, d]);
        if magic & !0xf == MAGIC_SKIPPED {
            if !self.gather(input, 8) {
                return Ok(false);
            }
            let [_, _, _, _, e, f, g, h] = self.held[..] else { return Ok(false) };
            self.part = Part::Skipped(u32::from_le_bytes([e, f, g, h]) as usize);
            self.held.clear();
            return Ok(true);
        }
        if magic != MAGIC {
            return Err(Damage::Malformed);
        }
        let is_single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = [usize::from(is_single), 2, 4, 8][usize::from(descriptor >> 6)];
        if !self.gather(input, 5 + usize::from(!is_single) + dictionary + content) {
            return Ok(false);
        }
        // A decoder that was used before takes memory for a whole window here; a new one takes it
        // for what comes.
        (self.decoder, self.decoded, self.allocated) = (decoder(), 0, 0);
        self.decoder.reset(&self.held[..]).map_err(|_| Damage::Malformed)?;
        self.window = match self.held.get(5) {
            Some(window) if !is_single => {
                let base = 1_usize << (10 + (window >> 3));
                base + base / 8 * usize::from(window & 7)
            }
            _ => usize::try_from(self.decoder.content_size()).unwrap_or(usize::MAX),
        };
        self.has_checksum = descriptor & 4 != 0;
        self.part = Part::Block;
        self.held.clear();
        Ok(true)
    }

    fn block(&mut self, input: &mut Bytes) -> Result<bool, Damage> {
        if !self.gather(input, 3) {
            return Ok(false);
        }
        let [a, b, c, ..] = self.held[..] else { return Ok(false) };
        let head = u32::from_le_bytes([a, b, c, 0]);
        let (is_last, is_run, is_packed) = (head & 1 == 1, head & 6 == 2, head & 6 == 4);
        let size = (head >> 3) as usize;
        if size > BLOCK_BYTES_MAX {
            return Err(Damage::Malformed);
        }
        let checksum = if is_last && self.has_checksum { 4 } else { 0 };
        if !self.gather(input, 3 + if is_run { 1 } else { size } + checksum) {
            return Ok(false);
        }
        let decoded = self.decoder.decode_blocks(&self.held[..], BlockDecodingStrategy::UptoBlocks(1));
        decoded.map_err(|_| Damage::Malformed)?;
        self.decoded += if is_packed { BLOCK_BYTES_MAX } else { size };
        let buffer = self.decoded.min(self.window.saturating_add(BLOCK_BYTES_MAX));
        self.allocated = self.allocated.max(capacity(buffer) + BLOCK_BYTES_MAX);
        if is_last {
            self.part = Part::Rest;
        }
        self.held.clear();
        Ok(true)
    }
}
