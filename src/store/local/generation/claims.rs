//! Claims of the generations that are not sealed yet, as one worker knows them.
//!
//! A *set* holds the claims of one group, with full keys. It stays in RAM, protected by the
//! journal, until the checkpoint has put it into the index (or a seal has made the generation's
//! maps); then its content is dropped. A *table* holds, for each claim of one generation, a 64-bit
//! fingerprint and the set it came in: so a fresh event is known as fresh without asking the index,
//! and the index is asked only for what it must have.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use super::Generation;
use super::fingerprints::{Cell, Fingerprints};
use crate::store::local::format::claim::Claim;
use crate::sync::RwLock;

/// One claim in a set.
#[derive(Clone, Copy, Debug)]
struct KeyedClaim {
    key: (u32, u32),
    /// Low half of the keyed hash: its fingerprint.
    hash: u64,
    known: Claim,
}

/// Claims with their keys, `topic \0 event_id`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    keys: Vec<u8>,
    recent: Vec<KeyedClaim>,
}

impl Claims {
    pub(crate) fn len(&self) -> usize {
        self.recent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    pub(crate) fn push(&mut self, topic: &[u8], event_id: &[u8], hash: u64, known: Claim) {
        let start = self.keys.len() as u32;
        self.keys.extend_from_slice(topic);
        self.keys.push(0);
        self.keys.extend_from_slice(event_id);
        self.recent.push(KeyedClaim { key: (start, self.keys.len() as u32), hash, known });
    }

    /// All claims: key, hash, what is known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64, Claim)> {
        self.recent.iter().map(|claim| (self.key(claim), claim.hash, claim.known))
    }

    /// Sum of the hashes, wrapping.
    pub(crate) fn sum(&self) -> u64 {
        self.recent.iter().fold(0, |sum, claim| sum.wrapping_add(claim.hash))
    }

    fn key(&self, claim: &KeyedClaim) -> &[u8] {
        &self.keys[claim.key.0 as usize..claim.key.1 as usize]
    }

    /// The first byte of a claim's key.
    fn first_byte(&self, index: u32) -> Option<u8> {
        self.keys.get(self.recent.get(index as usize)?.key.0 as usize).copied()
    }

    fn find(&self, index: u32, topic: &[u8], event_id: &[u8]) -> Option<Claim> {
        let claim = self.recent.get(index as usize)?;
        let (name, id) = self.key(claim).split_at_checked(topic.len())?;
        (name == topic && id.split_first() == Some((&0, event_id))).then_some(claim.known)
    }
}

/// Where the frame of a set went.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) generation: Arc<Generation>,
    pub(crate) frame: u64,
}

/// The claims of one group.
#[derive(Debug)]
pub(crate) struct ClaimSet {
    /// `None` once the index or the generation's maps have them.
    claims: RwLock<Option<Arc<Claims>>>,
    /// Set by the journal's writer when it makes the frame.
    pub(crate) placed: OnceLock<Placed>,
}

impl ClaimSet {
    pub(crate) fn new(claims: Claims) -> Arc<Self> {
        Arc::new(Self { claims: RwLock::new(Some(Arc::new(claims))), placed: OnceLock::new() })
    }

    /// The claims while they are in RAM.
    pub(crate) fn claims(&self) -> Option<Arc<Claims>> {
        self.claims.read().clone()
    }

    /// Looks at the claims while they are in RAM.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Claims) -> T) -> Option<T> {
        self.claims().as_deref().map(look)
    }

    /// Lets go of the claims: they can be found elsewhere now. They leave RAM when their worker has
    /// seen it. Returns how many there were.
    pub(crate) fn drop_claims(&self) -> usize {
        let claims = self.claims.write().take();
        claims.map_or(0, |claims| claims.len())
    }

    fn is_dropped(&self) -> bool {
        self.claims.read().is_none()
    }
}

#[derive(Debug)]
struct Table {
    /// `None` until the first of its sets is placed.
    generation: Option<Arc<Generation>>,
    first_set: u64,
    fingerprints: Fingerprints,
}

impl Table {
    /// Remembers where the claims of a set are.
    fn insert(&mut self, number: u64, claims: &Claims) {
        let set = (number - self.first_set) as u32;
        for (claim, index) in claims.recent.iter().zip(0..) {
            self.fingerprints.insert(Cell { fingerprint: claim.hash, set, index });
        }
    }
}

/// What a worker's tables say of an event.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Not in a generation that is not sealed.
    Absent,
    /// In RAM. `frame` is that of the original, `None` while it is on its way to the journal.
    Recent {
        /// What is known of it.
        known: Claim,
        /// Where it is.
        frame: Option<u64>,
    },
    /// Its fingerprint is known, and its claim has left RAM: this generation's index or maps have
    /// it (or, very rarely, it is another event's fingerprint).
    Indexed(Arc<Generation>),
}

/// A set as its worker has it: no lock is needed to look into it.
#[derive(Debug)]
struct Resident {
    set: Arc<ClaimSet>,
    /// `None` if the index had them when the store was opened.
    claims: Option<Arc<Claims>>,
}

/// A claim that may be an event's: the number of its set, and its place there.
pub(crate) type ClaimRef = (u64, u32);

/// The claims of one worker's topics in generations that are not sealed.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Oldest first; never empty.
    tables: VecDeque<Table>,
    /// Sets that may still be in RAM, in order; the first has number `base`.
    sets: VecDeque<Resident>,
    base: u64,
    /// Sets below this number are in the table of their generation.
    settled: u64,
    /// The set of the group being decided; it has the number after the last of `sets`.
    current: Claims,
    /// Those of a sealed generation, for the next, cleared one part a group: all parts would grow
    /// at nearly the same time, and what a whole generation frees at once is given back
    /// to the system by whoever allocates next, a worker.
    spare: Fingerprints,
}

impl Tables {
    /// Empty tables.
    pub(crate) fn new() -> Self {
        let mut tables = Self {
            tables: VecDeque::new(),
            sets: VecDeque::new(),
            base: 0,
            settled: 0,
            current: Claims::default(),
            spare: Fingerprints::default(),
        };
        tables.push_table(None, 0);
        tables
    }

    fn push_table(&mut self, generation: Option<Arc<Generation>>, first_set: u64) {
        let mut fingerprints = std::mem::take(&mut self.spare);
        while fingerprints.clear_part() {}
        self.tables.push_back(Table { generation, first_set, fingerprints });
    }

    fn next_set(&self) -> u64 {
        self.base + self.sets.len() as u64
    }

    /// Brings the fingerprints of events into the processor's caches, for [`Self::locate`].
    pub(crate) fn warm_slots(&self, hashes: &(impl Iterator<Item = u128> + Clone)) {
        for table in &self.tables {
            table.fingerprints.warm(hashes.clone().map(|hash| hash as u64));
        }
    }

    /// A claim with an event's fingerprint; "none" is final, until one is inserted.
    pub(crate) fn locate(&self, hash: u128) -> Option<ClaimRef> {
        self.tables.iter().rev().find_map(|table| {
            let slot = table.fingerprints.with(hash as u64).next()?;
            Some((table.first_set + u64::from(slot.set), slot.index))
        })
    }

    /// Brings claims into the processor's caches, for [`Self::lookup`].
    pub(crate) fn warm(&self, claims: &[ClaimRef]) {
        let touch = |(set, index): &ClaimRef| {
            let Resident { set, claims } = self.sets.get(set.checked_sub(self.base)? as usize)?;
            let frame = set.placed.get().map_or(0, |placed| placed.frame);
            Some(frame ^ u64::from(claims.as_ref()?.first_byte(*index)?))
        };
        black_box(claims.iter().filter_map(touch).fold(0, |all, one| all ^ one));
    }

    /// What is known of an event.
    pub(crate) fn lookup(&self, hash: u128, topic: &[u8], event_id: &[u8]) -> Lookup {
        let fingerprint = hash as u64;
        for table in self.tables.iter().rev() {
            let mut indexed = None;
            for slot in table.fingerprints.with(fingerprint) {
                let number = table.first_set + u64::from(slot.set);
                if number == self.next_set() {
                    if let Some(known) = self.current.find(slot.index, topic, event_id) {
                        return Lookup::Recent { known, frame: None };
                    }
                    continue;
                }
                let held = number.checked_sub(self.base).and_then(|at| self.sets.get(at as usize));
                let Some(Resident { set, claims }) = held else {
                    // What was forgotten has been settled: it is of its table's generation, or a
                    // newer table has it, too, and was asked first.
                    indexed = table.generation.clone();
                    continue;
                };
                match claims {
                    Some(claims) => {
                        if let Some(known) = claims.find(slot.index, topic, event_id) {
                            let frame = set.placed.get().map(|placed| placed.frame);
                            return Lookup::Recent { known, frame };
                        }
                    }
                    None => indexed = table.generation.clone(),
                }
            }
            if let Some(generation) = indexed {
                return Lookup::Indexed(generation);
            }
        }
        Lookup::Absent
    }

    /// Remembers a fresh event in the set of the group being decided.
    pub(crate) fn insert(&mut self, hash: u128, topic: &[u8], event_id: &[u8], known: Claim) {
        let (fingerprint, number) = (hash as u64, self.next_set());
        let index = self.current.len() as u32;
        self.current.push(topic, event_id, fingerprint, known);
        if let Some(table) = self.tables.back_mut() {
            let set = (number - table.first_set) as u32;
            table.fingerprints.insert(Cell { fingerprint, set, index });
        }
    }

    /// Ends the group: the set of its fresh events, if it had any.
    pub(crate) fn finish_group(&mut self) -> Option<Arc<ClaimSet>> {
        if self.current.is_empty() {
            return None;
        }
        // Copied to as much memory as it takes: there are millions of claims, and groups of all
        // sizes.
        let claims = self.current.clone();
        self.current.keys.clear();
        self.current.recent.clear();
        let set = ClaimSet::new(claims);
        self.sets.push_back(Resident { claims: set.claims(), set: Arc::clone(&set) });
        Some(set)
    }

    /// Takes over a set found by recovery; `dropped` if the index has it.
    pub(crate) fn restore(&mut self, generation: &Arc<Generation>, set: Arc<ClaimSet>, dropped: bool) {
        if self
            .tables
            .back()
            .and_then(|table| table.generation.as_ref())
            .is_none_or(|of| of.id != generation.id)
        {
            if self
                .tables
                .back()
                .is_some_and(|table| table.generation.is_none() && table.fingerprints.is_empty())
            {
                self.tables.pop_back();
            }
            self.push_table(Some(Arc::clone(generation)), self.next_set());
        }
        let number = self.next_set();
        if let Some(table) = self.tables.back_mut() {
            set.with(|claims| table.insert(number, claims));
        }
        if dropped {
            set.drop_claims();
        }
        self.sets.push_back(Resident { claims: set.claims(), set });
        self.settled = self.next_set();
    }

    /// Between groups: has claims in the table of the generation they were written to, forgets
    /// sealed generations and sets that left RAM.
    pub(crate) fn settle(&mut self) {
        while let Some(held) = self.settled.checked_sub(self.base).and_then(|at| self.sets.get(at as usize)) {
            let Some(placed) = held.set.placed.get() else { break };
            let generation = Arc::clone(&placed.generation);
            self.settle_set(self.settled, generation);
            self.settled += 1;
        }
        self.spare.clear_part();
        // All that is not settled is in the newest table.
        let keep_newest = self.settled < self.next_set();
        let older = self.tables.len().saturating_sub(1);
        let (mut at, spare) = (0, &mut self.spare);
        self.tables.retain_mut(|table| {
            let is_sealed = table.generation.as_ref().is_some_and(|of| of.is_sealed());
            at += 1;
            let stays = !is_sealed || (keep_newest && at > older);
            if !stays {
                *spare = std::mem::take(&mut table.fingerprints);
            }
            stays
        });
        if self.tables.is_empty() {
            self.push_table(None, self.next_set());
        }
        while self.base < self.settled && self.sets.front().is_some_and(|held| held.set.is_dropped()) {
            self.sets.pop_front();
            self.base += 1;
        }
    }

    fn settle_set(&mut self, number: u64, generation: Arc<Generation>) {
        let Some(newest) = self.tables.back_mut() else { return };
        match &newest.generation {
            Some(of) if of.id == generation.id => {}
            None => newest.generation = Some(generation),
            Some(_) => {
                self.push_table(Some(generation), number);
                // What has been decided since stays in the table before, too, and is found in this
                // one first.
                let later = self.sets.iter().zip(self.base..).skip((number - self.base) as usize);
                if let Some(newest) = self.tables.back_mut() {
                    for (Resident { claims, .. }, number) in later {
                        claims.iter().for_each(|claims| newest.insert(number, claims));
                    }
                }
            }
        }
    }
}
