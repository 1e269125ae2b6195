//! Bloom filters of sealed generations, and all of them together.
//!
//! A filter has the power of two of bits that gives a claim 11 to 22 bits (1.4 to 2.8 bytes): of 1,000,000 claims 2 MiB,
//! 16.8 bits a claim. With seven probes that lets 0.5 % of unknown events through at 11 bits, 0.05 % at 16.8.
//!
//! [`Filters`] asks all generations at nearly one cost. Filters of one size are merged: eight of them into a table with
//! one byte a bit position (a *lane* of each filter), eight such tables into one with a `u64` a position. One look-up then
//! reads at most seven words for 64 generations, and stops as soon as no lane is left. Tables are built beside those in
//! use, and never changed: readers see the old set or the new.
//!
//! # File
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic `sKlB` |
//! | 4 | version, 1 |
//! | 5 | number of bits, as a power of two |
//! | 6 | probes, 7 |
//! | 7 | 0 |
//! | 8..16 | number of claims |
//! | 16..24 | the generation's nonce |
//! | 24..40 | the store's id |
//! | 40.. | the bits, in little-endian words of 64 |
//! | last 4 | CRC32C of all before, seeded with the nonce |

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::codec::crc;
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"sKlB";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 40;
const PROBES: usize = 7;
const BITS_A_CLAIM: u64 = 11;
/// Bits of the smallest and of the largest filter, as powers of two.
const LOG_BITS: std::ops::RangeInclusive<u32> = 6..=40;
/// Filters that are merged into one table of the next width.
const MERGED: usize = 8;

/// The places of an event's bits, to be cut to a filter's size.
type Probes = [u64; PROBES];

/// Double hashing; an odd step reaches different places of any power of two.
fn probes(event: u128) -> Probes {
    let (start, step) = (event as u64, (event >> 64) as u64 | 1);
    std::array::from_fn(|i| start.wrapping_add(step.wrapping_mul(i as u64)))
}

/// The filter of one generation, over [`super::hash::Secret::event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bloom {
    words: Vec<u64>,
    claims: u64,
}

impl Bloom {
    /// An empty filter for so many claims; more may be inserted, at more false positives.
    pub fn with_capacity(claims: u64) -> Self {
        let bits = claims.saturating_mul(BITS_A_CLAIM).clamp(1 << LOG_BITS.start(), 1 << LOG_BITS.end());
        Self { words: vec![0; (bits.next_power_of_two() / 64) as usize], claims: 0 }
    }

    fn mask(&self) -> u64 {
        self.words.len() as u64 * 64 - 1
    }

    /// Adds an event.
    pub fn insert(&mut self, event: u128) {
        let mask = self.mask();
        for probe in probes(event) {
            let bit = probe & mask;
            self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        self.claims += 1;
    }

    /// Whether the event may have been inserted; a "no" is final.
    pub fn contains(&self, event: u128) -> bool {
        self.holds(&probes(event))
    }

    fn holds(&self, probes: &Probes) -> bool {
        let mask = self.mask();
        probes.iter().all(|probe| {
            let bit = probe & mask;
            self.words[(bit / 64) as usize] & (1 << (bit % 64)) != 0
        })
    }

    /// How many events were inserted.
    pub fn claims(&self) -> u64 {
        self.claims
    }

    /// The filter's file, for a store and a generation's nonce.
    pub fn encode(&self, store_id: [u8; 16], nonce: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.words.len() * 8 + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, (self.mask() + 1).ilog2() as u8, PROBES as u8, 0]);
        out.extend_from_slice(&self.claims.to_le_bytes());
        out.extend_from_slice(&nonce.to_le_bytes());
        out.extend_from_slice(&store_id);
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc(nonce, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the content of the file at `path`, which must be of this store and generation.
    ///
    /// # Errors
    /// `Corrupt` for anything else.
    pub fn decode(path: &Path, content: &[u8], store_id: [u8; 16], nonce: u64) -> Result<Self> {
        let damage = |what| Err(Error::corrupt(path, 0, what));
        let Some((sealed, found_crc)) = content.split_last_chunk::<4>() else {
            return damage("it is too short");
        };
        if crc(nonce, sealed).to_le_bytes() != *found_crc {
            return damage("its checksum is wrong, or of another generation");
        }
        let Some((head, bits)) = sealed.split_first_chunk::<HEAD_BYTES>() else {
            return damage("it is too short");
        };
        let log_bits = u32::from(head[5]);
        if head[..5] != [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION]
            || head[6..8] != [PROBES as u8, 0]
            || head[16..24] != nonce.to_le_bytes()
            || head[24..] != store_id
        {
            return damage("it is no filter of this store, generation and version");
        }
        if !LOG_BITS.contains(&log_bits) || bits.len() as u64 != (1u64 << log_bits) / 8 {
            return damage("its length does not fit its size");
        }
        let (words, _) = bits.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mut claims = [0; 8];
        claims.copy_from_slice(&head[8..16]);
        Ok(Self { words, claims: u64::from_le_bytes(claims) })
    }
}

/// Filters of one size, merged or not.
#[derive(Clone, Debug)]
enum Table {
    /// One filter.
    One(Arc<Bloom>),
    /// Eight: a byte a bit position.
    Eight(Arc<[u8]>),
    /// Sixty-four: a word a bit position.
    SixtyFour(Arc<[u64]>),
}

impl Table {
    fn bits(&self) -> usize {
        match self {
            Self::One(bloom) => bloom.words.len() * 64,
            Self::Eight(bytes) => bytes.len(),
            Self::SixtyFour(words) => words.len(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Eight(_) => 8,
            Self::SixtyFour(_) => 64,
        }
    }

    /// The lanes that may hold the event, a bit each.
    fn lanes(&self, probes: &Probes) -> u64 {
        match self {
            Self::One(bloom) => u64::from(bloom.holds(probes)),
            Self::Eight(bytes) => {
                let mut lanes = u8::MAX;
                for probe in probes {
                    lanes &= bytes[*probe as usize & (bytes.len() - 1)];
                    if lanes == 0 {
                        break;
                    }
                }
                u64::from(lanes)
            }
            Self::SixtyFour(words) => {
                let mut lanes = u64::MAX;
                for probe in probes {
                    lanes &= words[*probe as usize & (words.len() - 1)];
                    if lanes == 0 {
                        break;
                    }
                }
                lanes
            }
        }
    }
}

/// A table and whose its lanes are.
#[derive(Clone, Debug)]
struct Group {
    table: Table,
    /// Generations, by lane.
    generations: Arc<[u64]>,
}

/// Eight rows of eight bits as columns: bit i of row j becomes bit j of row i (Warren, Hacker's Delight, 7-3).
fn transposed(rows: [u8; 8]) -> [u8; 8] {
    let mut bits = u64::from_le_bytes(rows);
    for (shift, mask) in
        [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)]
    {
        let swapped = (bits ^ (bits >> shift)) & mask;
        bits ^= swapped ^ (swapped << shift);
    }
    bits.to_le_bytes()
}

/// Merges eight groups of one size and width.
fn merge(groups: &[Group]) -> Option<Group> {
    let table = match groups.first()?.table {
        Table::One(_) => {
            let blooms: Vec<&Bloom> = groups
                .iter()
                .filter_map(|group| if let Table::One(bloom) = &group.table { Some(&**bloom) } else { None })
                .collect();
            let mut lanes = Vec::with_capacity(groups.first()?.table.bits());
            for word in 0..lanes.capacity() / 64 {
                let mut rows = [[0; 8]; 8];
                for (row, bloom) in rows.iter_mut().zip(&blooms) {
                    *row = bloom.words[word].to_le_bytes();
                }
                for byte in 0..8 {
                    lanes.extend_from_slice(&transposed(rows.map(|row| row[byte])));
                }
            }
            Table::Eight(lanes.into())
        }
        Table::Eight(_) => {
            let tables: Vec<&[u8]> = groups
                .iter()
                .filter_map(
                    |group| if let Table::Eight(bytes) = &group.table { Some(&**bytes) } else { None },
                )
                .collect();
            let bits = groups.first()?.table.bits();
            let lanes = (0..bits).map(|bit| {
                tables.iter().enumerate().fold(0, |word, (i, bytes)| word | u64::from(bytes[bit]) << (8 * i))
            });
            Table::SixtyFour(lanes.collect())
        }
        Table::SixtyFour(_) => return None,
    };
    Some(Group {
        table,
        generations: groups.iter().flat_map(|group| group.generations.iter().copied()).collect(),
    })
}

/// The filters of all sealed generations at one moment.
#[derive(Clone, Debug, Default)]
pub struct FilterSet {
    /// In the order of their newest generations, oldest first.
    groups: Vec<Group>,
    /// Generations whose filters have not been read yet: each may hold any event.
    unread: Vec<u64>,
}

impl FilterSet {
    /// Generations that may hold the event: newest first among those of one size of filter.
    pub fn candidates(&self, event: u128) -> Candidates<'_> {
        Candidates {
            left: &self.groups,
            probes: probes(event),
            lanes: 0,
            generations: &[],
            unread: &self.unread,
        }
    }

    /// Bytes of all tables.
    pub fn held_bytes(&self) -> usize {
        self.groups.iter().map(|group| group.table.bits() * group.table.width() / 8).sum()
    }

    fn with(&self, generation: u64, bloom: Bloom) -> Self {
        if self.groups.iter().any(|group| group.generations.contains(&generation)) {
            return self.clone();
        }
        let mut groups = self.groups.clone();
        let bits = bloom.words.len() * 64;
        groups.push(Group { table: Table::One(Arc::new(bloom)), generations: Arc::new([generation]) });
        for width in [1, MERGED] {
            let alike = |group: &Group| group.table.bits() == bits && group.table.width() == width;
            let full: Vec<Group> = groups.iter().filter(|group| alike(group)).cloned().collect();
            if full.len() == MERGED
                && let Some(merged) = merge(&full)
            {
                groups.retain(|group| !alike(group));
                groups.push(merged);
            }
        }
        groups.sort_by_key(|group| group.generations.iter().copied().max());
        let unread = self.unread.iter().copied().filter(|unread| *unread != generation).collect();
        Self { groups, unread }
    }
}

/// Generations that may hold an event.
#[derive(Debug)]
pub struct Candidates<'a> {
    left: &'a [Group],
    probes: Probes,
    lanes: u64,
    generations: &'a [u64],
    unread: &'a [u64],
}

impl Iterator for Candidates<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        while self.lanes == 0 {
            let Some((group, left)) = self.left.split_last() else {
                let (last, unread) = self.unread.split_last()?;
                self.unread = unread;
                return Some(*last);
            };
            self.left = left;
            self.lanes = group.table.lanes(&self.probes);
            self.generations = &group.generations;
        }
        let lane = self.lanes.ilog2();
        self.lanes &= !(1 << lane);
        self.generations.get(lane as usize).copied()
    }
}

/// The filters of all sealed generations, asked by many threads while one adds.
#[derive(Debug, Default)]
pub struct Filters {
    set: RwLock<Arc<FilterSet>>,
    /// Held while a set is built, which takes long when tables are merged; readers don't wait for it.
    adding: Mutex<()>,
}

impl Filters {
    /// The filters as they are now. Take it once for a group of look-ups.
    pub fn view(&self) -> Arc<FilterSet> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the filter of a sealed generation, if it is not there. Views taken from now on have it.
    pub fn add(&self, generation: u64, bloom: Bloom) {
        self.replace(|set| set.with(generation, bloom));
    }

    /// Adds sealed generations whose filters are read later. Until then, look-ups go to their claims.
    pub fn add_unread(&self, generations: &[u64]) {
        self.replace(|set| {
            let mut set = set.clone();
            set.unread.extend_from_slice(generations);
            set
        });
    }

    /// Generations whose filters have not been read, oldest first.
    pub fn unread(&self) -> Vec<u64> {
        self.view().unread.clone()
    }

    fn replace(&self, make: impl FnOnce(&FilterSet) -> FilterSet) {
        let _one = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let set = Arc::new(make(&self.view()));
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = set;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const STORE: [u8; 16] = *b"0123456789abcdef";

    #[test]
    fn golden() {
        let bytes = bloom_of(&[1, 2 << 64 | 3]).encode(STORE, 7);
        assert_eq!(&bytes[..40], b"sKlB\x01\x06\x07\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x000123456789abcdef");
        assert_eq!(crc32c::crc32c(&bytes), 885_313_356, "the bits and the checksum too");
    }

    fn bloom_of(events: &[u128]) -> Bloom {
        let mut bloom = Bloom::with_capacity(events.len() as u64);
        events.iter().for_each(|event| bloom.insert(*event));
        bloom
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn every_inserted_event_leads_to_its_generation(
            generations in proptest::collection::vec(proptest::collection::vec(any::<u128>(), 0..40), 0..150),
        ) {
            let filters = Filters::default();
            for (number, events) in generations.iter().enumerate() {
                filters.add(number as u64, bloom_of(events));
            }
            let set = filters.view();
            for (number, events) in generations.iter().enumerate() {
                for event in events {
                    prop_assert!(set.candidates(*event).any(|candidate| candidate == number as u64));
                }
            }
        }
    }

    #[test]
    fn unknown_events_are_rarely_let_through() {
        let mut random = fastrand::Rng::with_seed(3);
        // As many as fill a filter to its least bits a claim.
        let events: Vec<u128> = (0..(1 << 17) / BITS_A_CLAIM).map(|_| random.u128(..)).collect();
        let bloom = bloom_of(&events);
        assert_eq!(bloom.words.len() * 64, 1 << 17);
        let known: HashSet<u128> = events.into_iter().collect();
        assert!(known.iter().all(|event| bloom.contains(*event)));
        let others: Vec<u128> =
            (0..100_000).map(|_| random.u128(..)).filter(|e| !known.contains(e)).collect();
        let passed = others.iter().filter(|event| bloom.contains(**event)).count();
        assert!(passed < 800, "{passed} of 100,000");
    }

    #[test]
    fn merged_filters_answer_as_each_alone_newest_first() {
        let mut random = fastrand::Rng::with_seed(5);
        let filters = Filters::default();
        let mut blooms = Vec::new();
        for generation in 0..140 {
            let bloom = bloom_of(&(0..5).map(|_| random.u128(..)).collect::<Vec<_>>());
            filters.add(generation, bloom.clone());
            blooms.push(bloom);
        }
        let set = filters.view();
        assert_eq!(set.held_bytes(), 140 * 8);
        assert_eq!(set.groups.len(), 2 + 1 + 4, "two of 64, one of 8, four alone");
        for _ in 0..2_000 {
            let event = random.u128(..);
            let alone: Vec<u64> = (0..140).rev().filter(|g| blooms[*g as usize].contains(event)).collect();
            assert_eq!(set.candidates(event).collect::<Vec<_>>(), alone);
        }
    }

    #[test]
    fn a_generation_may_hold_any_event_until_its_filter_is_read() {
        let filters = Filters::default();
        filters.add(3, bloom_of(&[9]));
        filters.add_unread(&[1, 2]);
        assert_eq!(filters.view().candidates(9).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(filters.view().candidates(8).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(filters.unread(), [1, 2]);
        filters.add(2, bloom_of(&[8]));
        assert_eq!(filters.view().candidates(9).collect::<Vec<_>>(), [3, 1]);
        filters.add(1, bloom_of(&[8]));
        assert_eq!(filters.view().candidates(8).collect::<Vec<_>>(), [2, 1]);
        filters.add(1, bloom_of(&[8]));
        assert_eq!(filters.view().candidates(8).collect::<Vec<_>>(), [2, 1], "once");
        assert_eq!((filters.unread().len(), filters.view().candidates(7).next()), (0, None));
    }

    #[test]
    fn a_view_taken_before_stays_as_it_was() {
        let filters = Filters::default();
        let before = filters.view();
        filters.add(1, bloom_of(&[9]));
        assert_eq!(before.candidates(9).next(), None);
        assert_eq!(filters.view().candidates(9).next(), Some(1));
    }

    #[test]
    fn a_file_reads_back_and_any_damage_is_seen() {
        let bloom = bloom_of(&[1, 2 << 70, 3 << 100]);
        let content = bloom.encode(STORE, 7);
        let path = Path::new("filter");
        assert_eq!(Bloom::decode(path, &content, STORE, 7).unwrap(), bloom);
        assert!(Bloom::decode(path, &content, STORE, 8).is_err());
        assert!(Bloom::decode(path, &content, [0; 16], 7).is_err());
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = Bloom::decode(path, &damaged, STORE, 7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for len in 0..content.len() {
            assert!(Bloom::decode(path, &content[..len], STORE, 7).is_err(), "length {len}");
        }
    }
}
