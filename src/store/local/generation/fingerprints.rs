//! Where the claims of a generation are, by fingerprint: the table that every event of the live
//! generation is looked up in.
//!
//! A look-up waits for memory and for little else: the tables of a million claims are larger than
//! the processor's caches. So cells lie in buckets of one cache line each, free ones last. What has
//! a fingerprint is in its home bucket or, if that was full, in the next that was not: a look-up
//! mostly reads one line, or two that are neighbours, and an insertion writes to a line that the
//! look-up before it has read. Nothing is ever taken out but everything.

use std::hint::black_box;

/// Parts of the cells: each grows alone, and quickly. One table of a million cells would hold a
/// worker up when it grows, or when memory that was reserved for it is first touched.
const PARTS: usize = 64;
/// Cells in a cache line.
const BUCKET: usize = 4;
/// Buckets of the smallest part when its first cell is used. Each fourth begins with one more, up
/// to half as many more: as parts grow by half, some always do, and never all of them at once.
const FIRST_BUCKETS: usize = PARTS / 2;

/// Where a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Low half of the event's keyed hash.
    pub(crate) fingerprint: u64,
    /// Number of the set, counted from the table's first; less than `u32::MAX`.
    pub(crate) set: u32,
    /// Its index in the set.
    pub(crate) index: u32,
}

impl Cell {
    const FREE: Self = Self { fingerprint: 0, set: u32::MAX, index: 0 };

    fn is_free(&self) -> bool {
        self.set == u32::MAX
    }
}

/// A line of the processor's cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([Cell; BUCKET]);

impl Bucket {
    const FREE: Self = Self([Cell::FREE; BUCKET]);

    fn is_full(&self) -> bool {
        !self.0[BUCKET - 1].is_free()
    }
}

/// Cells whose fingerprints have some bits in common.
#[derive(Debug, Default)]
struct Part {
    buckets: Vec<Bucket>,
    used: usize,
}

impl Part {
    /// The bucket in which a fingerprint is looked for first.
    fn home(&self, fingerprint: u64) -> usize {
        // Its low half as a fraction of all.
        (((fingerprint & u64::from(u32::MAX)) * self.buckets.len() as u64) >> 32) as usize
    }

    fn with(&self, fingerprint: u64) -> impl Iterator<Item = &Cell> {
        let (before, from) = self.buckets.split_at(self.home(fingerprint));
        let mut is_last = false;
        let buckets = from.iter().chain(before).map_while(move |bucket| {
            let ended = std::mem::replace(&mut is_last, !bucket.is_full());
            (!ended).then_some(bucket)
        });
        buckets
            .flat_map(|bucket| &bucket.0)
            .filter(move |cell| cell.fingerprint == fingerprint && !cell.is_free())
    }

    /// Adds a cell; a part without any gets `first` buckets.
    fn insert(&mut self, cell: Cell, first: usize) {
        // Three quarters full at most: the fuller, the more lines a look-up reads.
        if self.used >= self.buckets.len() * (BUCKET - 1) {
            let length = (self.buckets.len() * 3 / 2).max(first);
            let old = std::mem::replace(&mut self.buckets, vec![Bucket::FREE; length]);
            old.iter()
                .flat_map(|bucket| &bucket.0)
                .filter(|cell| !cell.is_free())
                .for_each(|cell| self.put(*cell));
        }
        self.put(cell);
        self.used += 1;
    }

    /// Puts a cell into the first free place from its home on; there is one.
    fn put(&mut self, cell: Cell) {
        let home = self.home(cell.fingerprint);
        let (before, from) = self.buckets.split_at_mut(home);
        let free = from.iter_mut().chain(before).find(|bucket| !bucket.is_full());
        if let Some(place) = free.and_then(|bucket| bucket.0.iter_mut().find(|cell| cell.is_free())) {
            *place = cell;
        }
    }
}

/// Cells by fingerprint; several may have the same.
#[derive(Debug)]
pub(crate) struct Fingerprints([Part; PARTS]);

impl Default for Fingerprints {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Part::default()))
    }
}

impl Fingerprints {
    fn part(fingerprint: u64) -> usize {
        (fingerprint >> 40) as usize % PARTS
    }

    /// The cells with a fingerprint.
    pub(crate) fn with(&self, fingerprint: u64) -> impl Iterator<Item = &Cell> {
        self.0[Self::part(fingerprint)].with(fingerprint)
    }

    /// Adds a cell.
    pub(crate) fn insert(&mut self, cell: Cell) {
        let part = Self::part(cell.fingerprint);
        self.0[part].insert(cell, FIRST_BUCKETS + part / 4);
    }

    /// Brings the cells of fingerprints into the processor's caches, all at once.
    pub(crate) fn warm(&self, fingerprints: impl Iterator<Item = u64>) {
        let first = |fingerprint| {
            let part = &self.0[Self::part(fingerprint)];
            part.buckets.get(part.home(fingerprint)).map_or(0, |bucket| bucket.0[0].set)
        };
        black_box(fingerprints.fold(0, |all, fingerprint| all ^ first(fingerprint)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.used == 0)
    }

    /// Frees the cells of one part, if any are used, and keeps their memory. Returns whether there
    /// were any.
    pub(crate) fn clear_part(&mut self) -> bool {
        let Some(part) = self.0.iter_mut().find(|part| part.used > 0) else { return false };
        part.buckets.fill(Bucket::FREE);
        part.used = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A fingerprint of few, so that some are met again, and of those some share a home.
    fn fingerprint(rng: &mut fastrand::Rng) -> u64 {
        match rng.u8(..4) {
            0 => u64::from(rng.u8(..)),
            1 => u64::MAX - u64::from(rng.u8(..)),
            _ => rng.u64(..),
        }
    }

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut cells = Fingerprints::default();
            for _ in 0..rng.u8(1..4) {
                let mut model: HashMap<u64, Vec<Cell>> = HashMap::new();
                assert!(cells.is_empty(), "seed {seed}");
                for index in 0..rng.u32(..3_000) {
                    let cell = Cell { fingerprint: fingerprint(&mut rng), set: rng.u32(..u32::MAX), index };
                    model.entry(cell.fingerprint).or_default().push(cell);
                    cells.insert(cell);
                    assert!(!cells.is_empty(), "seed {seed}");
                }
                let others = std::iter::repeat_with(|| fingerprint(&mut rng)).take(1_000);
                let asked: Vec<u64> = model.keys().copied().chain(others).collect();
                cells.warm(asked.iter().copied());
                for fingerprint in asked {
                    let mut found: Vec<Cell> = cells.with(fingerprint).copied().collect();
                    found.sort_by_key(|cell| cell.index);
                    assert_eq!(found, model.get(&fingerprint).cloned().unwrap_or_default(), "seed {seed}");
                }
                while cells.clear_part() {}
            }
        }
    }

    #[test]
    fn parts_grow_one_after_the_other() {
        const EVENTS: u32 = 600_000;
        let mut rng = fastrand::Rng::with_seed(7);
        let mut cells = Fingerprints::default();
        let mut grown: Vec<u32> = Vec::new();
        for index in 0..EVENTS {
            let cell = Cell { fingerprint: rng.u64(..), set: 0, index };
            let length = |cells: &Fingerprints| cells.0[Fingerprints::part(cell.fingerprint)].buckets.len();
            let before = length(&cells);
            cells.insert(cell);
            grown.extend((length(&cells) > before).then_some(index));
        }
        assert!(grown.iter().filter(|at| **at > EVENTS / 4).count() > PARTS, "each grows once and more");
        for (number, at) in grown.iter().enumerate().filter(|(_, at)| **at > EVENTS / 4) {
            let within = grown[number..].iter().take_while(|next| **next <= at + at / 100).count();
            assert!(within <= PARTS / 6, "{within} parts grow while the {at}th event and 1 % more come");
        }
    }
}
