//! Filters of sealed generations: which one may hold an event, in RAM.
//!
//! A filter is a binary fuse map (Graf and Lemire, Binary Fuse Filters, 2022) from an event's hash
//! to 16 bits: the number of the generation among those that the filter is of, and as much of the
//! hash as there is room for. What was put in is always found, with its generation; anything else
//! is let through once in 2^16 for one generation, in 2^10 for sixty-four. A look-up reads three
//! positions, whatever the number of generations, and a claim takes 2.5 bytes.
//!
//! A filter is built in *shards*, by the upper bits of the hash: claims files are in that order,
//! and building one needs RAM for a shard alone.
//!
//! # File
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic `sKlF` |
//! | 4 | version, 1 |
//! | 5 | 0 |
//! | 6..8 | number of generations, 1 to 64 |
//! | 8..16 | number of claims |
//! | 16..32 | the store's id |
//! | 32..36 | number of shards |
//! | then, of each generation | its id, its nonce: 8 bytes each |
//! | then, of each shard | its seed: 8 bytes; segments and bits of a segment's length: 4 bytes each |
//! | then | the cells, 2 bytes each |
//! | last 4 | CRC32C of all before, seeded with the newest generation's nonce |

use std::iter::Peekable;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::store::local::format::codec::crc;

const MAGIC: [u8; 4] = *b"sKlF";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 36;
/// Most generations of one filter.
const GENERATIONS_MAX: usize = 64;
/// Claims in a shard, at most about: its segments are then of 1 KiB, so that the three positions of
/// an event are in one page or two. Missing the TLB is what a look-up costs.
const SHARD_CLAIMS: u64 = 10_800;
/// Seeds that are tried before a shard is given up; each does in nine of ten cases.
const SEEDS: u64 = 100;
/// Cells that are written at once.
const PIECE_CELLS: usize = 128 << 10;
/// Bits of a segment's length at most.
const SEGMENT_BITS_MAX: u32 = 18;

/// Events whose positions are worked out before the first of them is read.
const READ_AHEAD: usize = 32;

/// A generation that a filter is of: its id and its nonce.
pub type GenerationKey = (u64, u64);

/// Where a shard's cells lie, and how its positions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    seed: u64,
    /// Its first cell.
    start: usize,
    /// Segments in which a first place may be; two more follow.
    segments: u32,
    segment_bits: u32,
}

impl Shard {
    /// The shape of a shard for so many claims, by the paper's formulas.
    fn of(claims: usize, start: usize) -> Self {
        let count = claims.max(2) as f64;
        let segment_bits = ((count.ln() / 3.33f64.ln() + 2.25).floor() as u32).min(SEGMENT_BITS_MAX);
        let factor = (0.875 + 0.25 * 1e6f64.ln() / count.ln()).max(1.125);
        let capacity = (count * factor).round() as u64;
        let segments = capacity.div_ceil(1 << segment_bits).saturating_sub(2).max(1) as u32;
        Self { seed: 0, start, segments: if claims == 0 { 0 } else { segments }, segment_bits }
    }

    /// Cells it takes.
    fn cells(&self) -> usize {
        if self.segments == 0 { 0 } else { (self.segments as usize + 2) << self.segment_bits }
    }

    fn hash(&self, event: u128) -> u64 {
        let (low, high) = (event as u64, (event >> 64) as u64);
        // The finish of MurmurHash3 over both halves; events' hashes are keyed, so this need only
        // be different for each seed.
        let mut hash = (low ^ self.seed).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ high;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }

    /// The positions of a hash in its shard, in three segments in a row.
    fn positions(&self, hash: u64) -> [usize; 3] {
        let span = u64::from(self.segments) << self.segment_bits;
        let mask = (1u64 << self.segment_bits) - 1;
        let first = ((u128::from(hash) * u128::from(span)) >> 64) as u64;
        let second = (first + mask + 1) ^ ((hash >> 18) & mask);
        let third = (first + 2 * (mask + 1)) ^ (hash & mask);
        [first as usize, second as usize, third as usize]
    }
}

/// Room for building shards, used again for each.
#[derive(Default)]
struct Peeling {
    /// How many of the events that are left have a place here, and all their hashes and values
    /// together.
    counts: Vec<u32>,
    hashes: Vec<u64>,
    values: Vec<u16>,
    alone: Vec<usize>,
    order: Vec<(usize, u64, u16)>,
}

impl Peeling {
    /// Finds the order in which each event has a place of its own; whether there is one.
    fn peel(&mut self, shard: &Shard, events: &[(u128, u16)]) -> bool {
        let cells = shard.cells();
        for (event, value) in events {
            let hash = shard.hash(*event);
            for position in shard.positions(hash) {
                self.counts[position] += 1;
                self.hashes[position] ^= hash;
                self.values[position] ^= value;
            }
        }
        self.alone.clear();
        self.alone.extend((0..cells).filter(|position| self.counts[*position] == 1));
        self.order.clear();
        while let Some(position) = self.alone.pop() {
            if self.counts[position] != 1 {
                continue;
            }
            let (hash, value) = (self.hashes[position], self.values[position]);
            self.order.push((position, hash, value));
            for other in shard.positions(hash) {
                self.counts[other] -= 1;
                self.hashes[other] ^= hash;
                self.values[other] ^= value;
                if self.counts[other] == 1 {
                    self.alone.push(other);
                }
            }
        }
        self.order.len() == events.len()
    }

    /// Appends a shard of these events to `cells`; `None` if no seed does, as when an event is
    /// there twice.
    fn build(&mut self, events: &[(u128, u16)], cells: &mut Vec<u16>) -> Option<Shard> {
        let mut shard = Shard::of(events.len(), cells.len());
        for seed in 0..SEEDS {
            shard.seed = seed;
            self.counts.clear();
            self.counts.resize(shard.cells(), 0);
            self.hashes.clear();
            self.hashes.resize(shard.cells(), 0);
            self.values.clear();
            self.values.resize(shard.cells(), 0);
            if self.peel(&shard, events) {
                cells.resize(shard.start + shard.cells(), 0);
                let own = &mut cells[shard.start..];
                for (position, hash, value) in self.order.iter().rev() {
                    let [a, b, c] = shard.positions(*hash);
                    // Its own cell is still 0.
                    own[*position] = value ^ own[a] ^ own[b] ^ own[c];
                }
                return Some(shard);
            }
        }
        None
    }
}

/// The filter of one generation or several, over
/// [`crate::store::local::format::hash::Secret::event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// By number, oldest first.
    generations: Vec<GenerationKey>,
    claims: u64,
    shards: Vec<Shard>,
    cells: Vec<u16>,
}

impl Filter {
    /// The filter of generations whose claims are given in ascending order, `claims` in all.
    ///
    /// # Errors
    /// What reading a claim gave; `Corrupt` if there are more generations than a filter can be of,
    /// or one event is there twice.
    pub fn build<I>(generations: Vec<GenerationKey>, claims: u64, events: Vec<I>) -> Result<Self>
    where
        I: Iterator<Item = Result<u128>>,
    {
        let fault = |what: &str| Error::new(ErrorKind::Corrupt, format!("a filter can't be made: {what}"));
        if generations.is_empty() || generations.len() > GENERATIONS_MAX || generations.len() != events.len()
        {
            return Err(fault("of no generation, or of too many"));
        }
        let count = Self::shards(claims);
        let mut filter =
            Self { generations, claims: 0, shards: Vec::with_capacity(count), cells: Vec::new() };
        let number_bits = filter.number_bits();
        let mut events: Vec<Peekable<I>> = events.into_iter().map(Iterator::peekable).collect();
        let (mut peeling, mut own) = (Peeling::default(), Vec::new());
        filter.cells.reserve_exact(Shard::of(claims as usize / count, 0).cells() * count);
        for shard in 0..count {
            own.clear();
            for (number, events) in events.iter_mut().enumerate() {
                // An error is in no shard: it is taken at once.
                while let Some(event) =
                    events.next_if(|event| !matches!(event, Ok(event) if shard_of(*event, count) > shard))
                {
                    let event = event?;
                    if shard_of(event, count) < shard {
                        return Err(fault("its claims are not in order"));
                    }
                    own.push((event, fingerprint(event, number_bits) | number as u16));
                }
            }
            let Some(shard) = peeling.build(&own, &mut filter.cells) else {
                return Err(fault("an event is there twice"));
            };
            filter.shards.push(shard);
            filter.claims += own.len() as u64;
        }
        Ok(filter)
    }

    /// In how many shards so many claims are.
    pub(crate) fn shards(claims: u64) -> usize {
        claims.div_ceil(SHARD_CLAIMS).max(1) as usize
    }

    fn number_bits(&self) -> u32 {
        number_bits(self.generations.len())
    }

    /// The one generation that may hold the event; `None` is final.
    pub fn candidate(&self, event: u128) -> Option<u64> {
        let mut candidate = None;
        self.candidates(&[event], |_, id| candidate = Some(id));
        candidate
    }

    /// Shows, of each event that may be in a generation, its place in `events` and that generation.
    /// All others are in none.
    ///
    /// What an event costs is the waiting for memory. So the positions of many are worked out
    /// first, then read in a row: the processor waits for several of them at once.
    pub fn candidates(&self, events: &[u128], mut show: impl FnMut(usize, u64)) {
        let number_bits = self.number_bits();
        let mut positions = [[0; 3]; READ_AHEAD];
        for (chunk, events) in events.chunks(READ_AHEAD).enumerate() {
            for (positions, event) in positions.iter_mut().zip(events) {
                *positions = self.positions(*event);
            }
            for (i, (event, &[a, b, c])) in events.iter().zip(&positions).enumerate() {
                let at = |position: usize| self.cells.get(position).copied();
                let (Some(a), Some(b), Some(c)) = (at(a), at(b), at(c)) else { continue };
                let cell = a ^ b ^ c;
                if cell >> number_bits << number_bits == fingerprint(*event, number_bits)
                    && let Some((id, _)) = self.generations.get((cell & ((1 << number_bits) - 1)) as usize)
                {
                    show(chunk * READ_AHEAD + i, *id);
                }
            }
        }
    }

    /// The cells that an event leads to; in an empty shard, none.
    fn positions(&self, event: u128) -> [usize; 3] {
        match self.shards.get(shard_of(event, self.shards.len())) {
            Some(shard) if shard.segments > 0 => {
                shard.positions(shard.hash(event)).map(|position| shard.start + position)
            }
            _ => [usize::MAX; 3],
        }
    }

    /// How many claims it is of.
    pub fn claims(&self) -> u64 {
        self.claims
    }

    /// Bytes of its cells, in RAM and in its file.
    pub fn bytes(&self) -> u64 {
        (self.cells.len() * size_of::<u16>()) as u64
    }

    /// The generations it is of, oldest first.
    pub fn generations(&self) -> &[GenerationKey] {
        &self.generations
    }

    /// Gives the filter's file to `write`, in pieces.
    ///
    /// # Errors
    /// What `write` gave.
    pub fn encode(&self, store_id: [u8; 16], mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut out = Vec::with_capacity(HEAD_BYTES + 16 * (self.generations.len() + self.shards.len()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&(self.generations.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.claims.to_le_bytes());
        out.extend_from_slice(&store_id);
        out.extend_from_slice(&(self.shards.len() as u32).to_le_bytes());
        for (id, nonce) in &self.generations {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&nonce.to_le_bytes());
        }
        for shard in &self.shards {
            out.extend_from_slice(&shard.seed.to_le_bytes());
            out.extend_from_slice(&shard.segments.to_le_bytes());
            out.extend_from_slice(&shard.segment_bits.to_le_bytes());
        }
        let nonce = self.generations.last().map_or(0, |(_, nonce)| *nonce);
        let mut crc = crc(nonce, &out);
        write(&out)?;
        for cells in self.cells.chunks(PIECE_CELLS) {
            out.clear();
            cells.iter().for_each(|cell| out.extend_from_slice(&cell.to_le_bytes()));
            crc = crc32c::crc32c_append(crc, &out);
            write(&out)?;
        }
        write(&crc.to_le_bytes())
    }

    /// Reads the content of the file at `path`, which must be of this store and of generations up
    /// to the one with this nonce.
    ///
    /// # Errors
    /// `Corrupt` for anything else.
    pub fn decode(path: &Path, content: &[u8], store_id: [u8; 16], nonce: u64) -> Result<Self> {
        let damage = |what| Error::corrupt(path, 0, what);
        let short = || damage("it is too short");
        let (sealed, found_crc) = content.split_last_chunk::<4>().ok_or_else(short)?;
        if crc(nonce, sealed).to_le_bytes() != *found_crc {
            return Err(damage("its checksum is wrong, or of another generation"));
        }
        let (head, rest) = sealed.split_first_chunk::<HEAD_BYTES>().ok_or_else(short)?;
        let [m0, m1, m2, m3, version, zero, counts @ ..] = head;
        if [*m0, *m1, *m2, *m3] != MAGIC || (*version, *zero) != (VERSION, 0) || head[16..32] != store_id {
            return Err(damage("it is no filter of this store and version"));
        }
        let (count, rest_of_head) = counts.split_first_chunk::<2>().ok_or_else(short)?;
        let claims = u64_at(rest_of_head, 0).ok_or_else(short)?;
        let shards = u32_at(head, 32).ok_or_else(short)? as usize;
        let count = usize::from(u16::from_le_bytes(*count));
        let tables = count.checked_add(shards).and_then(|entries| entries.checked_mul(16));
        let (tables, cells) = tables.and_then(|bytes| rest.split_at_checked(bytes)).ok_or_else(short)?;
        let (generations, shards) = tables.split_at_checked(16 * count).ok_or_else(short)?;
        let generations: Vec<GenerationKey> =
            generations.chunks_exact(16).filter_map(|key| Some((u64_at(key, 0)?, u64_at(key, 8)?))).collect();
        let (cells, odd) = cells.as_chunks::<2>();
        let cells: Vec<u16> = cells.iter().map(|cell| u16::from_le_bytes(*cell)).collect();
        let mut start = 0usize;
        let mut read = |entry: &[u8]| {
            let (seed, segments) = (u64_at(entry, 0)?, u32_at(entry, 8)?);
            let segment_bits = u32_at(entry, 12).filter(|bits| *bits <= SEGMENT_BITS_MAX)?;
            let shard = Shard { seed, start, segments, segment_bits };
            start = start.checked_add(shard.cells())?;
            Some(shard)
        };
        let shards: Option<Vec<Shard>> = shards.chunks_exact(16).map(&mut read).collect();
        let shards = shards.filter(|_| start == cells.len() && odd.is_empty());
        match shards {
            Some(shards) if (1..=GENERATIONS_MAX).contains(&generations.len()) && !shards.is_empty() => {
                Ok(Self { generations, claims, shards, cells })
            }
            _ => Err(damage("its length does not fit its size")),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Bits that the number of one of so many generations takes.
fn number_bits(generations: usize) -> u32 {
    generations.next_power_of_two().ilog2()
}

/// The bits of an event that its cell keeps, above those of the number.
fn fingerprint(event: u128, number_bits: u32) -> u16 {
    // Not those that choose the shard.
    (event >> 64) as u16 >> number_bits << number_bits
}

/// The shard of an event; ascends with it.
pub(crate) fn shard_of(event: u128, shards: usize) -> usize {
    (((event >> 64) * shards as u128) >> 64) as usize
}

#[cfg(test)]
pub(crate) mod tests;
