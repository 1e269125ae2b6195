//! What clients did and were told, kept as facts about each event id that do not depend on the
//! order in which several clients report them. A fact that contradicts another is a [`Violation`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// What identifies an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub topic: String,
    pub event_id: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.topic, self.event_id)
    }
}

/// Where and when an event was stored, as the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub first_seen: String,
}

/// What a client was told of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Stored(Position),
    Duplicate(Position),
    Conflict(Position),
    /// A fault of the client's: the store says it kept nothing.
    Refused,
    /// No answer, or one that leaves open what happened.
    Unknown,
}

/// An event as a read showed it; `digest` covers all that the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub key: Key,
    pub digest: u64,
    pub offset: u64,
    pub received_at: String,
}

/// Totals as `/stats` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub received: u64,
    pub unique: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub topics: Vec<String>,
}

/// The promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An answered event is not there.
    Lost,
    /// An event that a read showed is not there.
    Vanished,
    /// An event that nobody sent, or that was refused.
    NeverAttempted,
    /// An event is listed more than once.
    Twice,
    /// Content, offset or arrival of a stored event changed.
    Changed,
    /// "Stored" was answered for an event that had been stored.
    StoredTwice,
    /// Offsets of a topic are not dense from 0.
    Hole,
    /// Two events had the same offset.
    Reused,
    /// Listings disagree: gaps, repeats, a cursor that lost its position.
    Pages,
    /// Totals went back, or do not add up.
    Totals,
    /// An answer that cannot be true.
    Answer,
    /// A read failed, so nothing can be told.
    Unreadable,
}

/// A broken promise, with a sentence for a person.
#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub sentence: String,
}

/// All that is known of one id.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Digests that may have been stored.
    pub attempted: BTreeSet<u64>,
    pub unknown: u64,
    pub stored: u64,
    pub dropped: u64,
    /// The stored digest, once an answer or a read told it.
    pub is: Option<u64>,
    /// Digests that a conflict rules out.
    pub is_not: BTreeSet<u64>,
    pub position: Option<Position>,
    /// A read showed it.
    pub shown: bool,
    /// A check found it while no request was under way: a later "stored" is a second one.
    pub settled: bool,
}

impl Life {
    /// Whether a client was told that it is stored.
    pub fn answered(&self) -> bool {
        self.stored + self.dropped > 0
    }
}

/// Events by what clients were told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub stored: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// What clients were told of each event.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub lives: BTreeMap<Key, Life>,
    /// Ids of which something happened since the last check.
    pub touched: BTreeSet<Key>,
    pub tally: Tally,
    /// All events at the last full check, in the order of the global listing.
    pub listed: Vec<Key>,
    /// Cursors handed out, each with how many events of the listing lie before it.
    pub cursors: Vec<(String, usize)>,
    pub totals: Totals,
    owners: HashMap<String, HashMap<u64, String>>,
    violations: Vec<Violation>,
}

impl History {
    /// Takes note of one event of one request. Each is recorded once, after its answer or its
    /// failure.
    pub fn record(&mut self, key: &Key, digest: u64, answer: Answer) {
        self.touched.insert(key.clone());
        let life = self.lives.entry(key.clone()).or_default();
        if answer != Answer::Refused {
            life.attempted.insert(digest);
        }
        match answer {
            Answer::Refused => self.tally.refused += 1,
            Answer::Unknown => {
                life.unknown += 1;
                self.tally.unknown += 1;
            }
            Answer::Stored(position) => {
                life.stored += 1;
                self.tally.stored += 1;
                if life.stored > 1 || life.settled {
                    self.violate(Kind::StoredTwice, format!("{key} was answered as stored a second time"));
                }
                self.is(key, digest);
                self.at(key, &position);
            }
            Answer::Duplicate(position) => {
                life.dropped += 1;
                self.tally.duplicates += 1;
                self.is(key, digest);
                self.at(key, &position);
            }
            Answer::Conflict(position) => {
                life.dropped += 1;
                life.is_not.insert(digest);
                let wrong = life.is == Some(digest);
                self.tally.conflicts += 1;
                if wrong {
                    self.violate(
                        Kind::Answer,
                        format!("{key}: the stored payload was answered with a conflict"),
                    );
                }
                self.at(key, &position);
            }
        }
    }

    /// Takes note of an event that a read showed.
    pub fn show(&mut self, seen: &Seen) {
        let key = &seen.key;
        let tried = self.lives.get(key).is_some_and(|life| life.attempted.contains(&seen.digest));
        // While clients are at work, the attempt may not be recorded yet: the next check looks
        // again.
        self.lives.entry(key.clone()).or_default().shown = true;
        if tried {
            self.is(key, seen.digest);
        }
        self.at(key, &Position { offset: seen.offset, first_seen: seen.received_at.clone() });
        self.touched.insert(key.clone());
    }

    /// Takes note of totals, in the order in which they were read.
    pub fn show_totals(&mut self, now: Totals) {
        if now.received != now.unique + now.duplicates || now.conflicts > now.duplicates {
            self.violate(Kind::Totals, format!("the totals do not add up: {now:?}"));
        }
        let was = &self.totals;
        if now.received < was.received
            || now.unique < was.unique
            || now.duplicates < was.duplicates
            || now.conflicts < was.conflicts
        {
            self.violate(Kind::Totals, format!("totals went back from {was:?} to {now:?}"));
        }
        self.totals = now;
    }

    /// Most that the totals may count: all that was answered or might have been taken.
    pub fn received_max(&self) -> u64 {
        let Tally { stored, duplicates, conflicts, unknown, .. } = self.tally;
        stored + duplicates + conflicts + unknown
    }

    /// Takes note of a broken promise.
    pub fn violate(&mut self, kind: Kind, sentence: String) {
        self.violations.push(Violation { kind, sentence });
    }

    /// What was broken since the last call.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    fn is(&mut self, key: &Key, digest: u64) {
        let life = self.lives.entry(key.clone()).or_default();
        let changed = *life.is.get_or_insert(digest) != digest || life.is_not.contains(&digest);
        if changed {
            self.violate(Kind::Changed, format!("{key}: its payload is not the one that was stored first"));
        }
    }

    fn at(&mut self, key: &Key, position: &Position) {
        let owner = self.owners.entry(key.topic.clone()).or_default();
        let owner = owner.entry(position.offset).or_insert_with(|| key.event_id.clone()).clone();
        if owner != key.event_id {
            let offset = position.offset;
            self.violate(Kind::Reused, format!("{key} has offset {offset}, which was that of {owner:?}"));
        }
        let life = self.lives.entry(key.clone()).or_default();
        let was = life.position.get_or_insert_with(|| position.clone()).clone();
        if was != *position {
            self.violate(Kind::Changed, format!("{key} was at {was:?} and is at {position:?}"));
        }
    }
}
