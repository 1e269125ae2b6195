//! The entries of blocks: events, counters, the states of topics, and what becomes of consumers.

use bincode::{BorrowDecode, Encode};

use super::codec::DecodeError;
use crate::event::EventRef;

/// First record in a block of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct EventsHead<'a> {
    /// The topic of all its events.
    pub topic: &'a [u8],
    /// Offset of the first of them.
    pub first_offset: u64,
    /// When they arrived, microseconds since 1970.
    pub received_at: i64,
}

/// One event in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct EventRecord<'a> {
    /// Digest of the payload, see [`crate::event::EventRef::digest`].
    pub digest: [u8; 16],
    /// As it came.
    pub event_id: &'a [u8],
    /// As it came.
    pub timestamp: &'a [u8],
    /// As it came.
    pub source: &'a [u8],
    /// As it came.
    pub payload: &'a [u8],
}

impl<'a> EventRecord<'a> {
    /// The record of an event that came.
    pub fn of(event: &EventRef<'a>) -> Self {
        // The topic is in the head of the block.
        let EventRef { topic: _, event_id, timestamp, source, payload, digest } = *event;
        Self { digest, event_id, timestamp, source, payload }
    }

    /// Bytes of its fields.
    pub fn bytes(&self) -> usize {
        let Self { digest, event_id, timestamp, source, payload } = self;
        digest.len() + event_id.len() + timestamp.len() + source.len() + payload.len()
    }
}

/// Counts to add to a topic; an empty topic names the store itself (events refused before they had
/// a topic).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct CounterEntry<'a> {
    /// The topic.
    pub topic: &'a [u8],
    /// Events dropped as known, conflicts among them.
    pub duplicates: u64,
    /// Events dropped whose payload differed.
    pub conflicts: u64,
    /// Events refused as invalid.
    pub rejected: u64,
}

/// Most that one counter can be: one a microsecond, for a century. More is no count, and sums of it
/// could overflow.
const COUNT_MAX: u64 = 1 << 52;

impl CounterEntry<'_> {
    /// Itself, if its counts can be.
    ///
    /// # Errors
    /// If they can't.
    pub fn checked(self) -> Result<Self, DecodeError> {
        let fits = [self.duplicates, self.conflicts, self.rejected].iter().all(|count| *count <= COUNT_MAX);
        if fits { Ok(self) } else { Err(DecodeError::Malformed("counter")) }
    }
}

/// A topic's whole state, at the head of a generation; an empty topic names the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct TopicEntry<'a> {
    /// Counts so far.
    pub counters: CounterEntry<'a>,
    /// Offset of its next event.
    pub next_offset: u64,
    /// Arrival of its first event.
    pub first_received_at: i64,
    /// Arrival of its last event.
    pub last_received_at: i64,
}

impl TopicEntry<'_> {
    /// Itself, if its counts and its offset can be.
    ///
    /// # Errors
    /// If they can't.
    pub fn checked(self) -> Result<Self, DecodeError> {
        self.counters.checked()?;
        if self.next_offset <= COUNT_MAX { Ok(self) } else { Err(DecodeError::Malformed("topic")) }
    }
}

/// What became of a consumer. Written by the journal's writer when it changes, and at the head of a
/// generation for each consumer that there is.
///
/// Positions only grow: of two entries, the further one counts. A consumer that is moved back
/// begins again, with another number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum ConsumerEntry<'a> {
    /// A consumer begins, in the place of another one of the same name; or, with the number that
    /// the one there has, it is told again.
    Begun {
        /// Its name.
        name: &'a [u8],
        /// Random, of this life of the name.
        number: u64,
        /// When its name was first taken, microseconds since 1970.
        created_at: i64,
        /// Its filter: patterns as `orders.*`.
        topics: Vec<&'a [u8]>,
    },
    /// It is there no more.
    Ended {
        /// Its name.
        name: &'a [u8],
    },
    /// It has acknowledged what is before these offsets.
    Reached {
        /// Its name.
        name: &'a [u8],
        /// Its number.
        number: u64,
        /// The offset to go on from, for each topic that is named.
        positions: Vec<PositionEntry<'a>>,
    },
}

/// The offset that a consumer goes on from in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct PositionEntry<'a> {
    /// The topic.
    pub topic: &'a [u8],
    /// Offset of its first event that is not acknowledged.
    pub next_offset: u64,
}

impl ConsumerEntry<'_> {
    /// Itself, if its offsets can be.
    ///
    /// # Errors
    /// If they can't.
    pub fn checked(self) -> Result<Self, DecodeError> {
        match &self {
            Self::Reached { positions, .. } if positions.iter().any(|at| at.next_offset > COUNT_MAX) => {
                Err(DecodeError::Malformed("consumer"))
            }
            _ => Ok(self),
        }
    }
}
