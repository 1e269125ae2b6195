//! Consumers: named readers whose positions the store keeps.
//!
//! A consumer has a filter of topics, and in each of these topics a position: the offset of the
//! next event that it has not acknowledged. Whoever reads for it holds a lease on all of its
//! topics, or on a [`Partition`](partition::Partition) of them, and gets a receipt with the events.
//! What a receipt stands for is the backend's own affair.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::pattern::TopicPatterns;
use crate::limits::{CONSUMER_NAME_BYTES_MAX, HOLDER_BYTES_MAX};

pub(crate) mod backlog;
pub(crate) mod oldest;
pub mod partition;
pub mod receipt;

use self::partition::Partition;

/// The name of a consumer: it stands in paths, metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Box<str>);

impl ConsumerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= CONSUMER_NAME_BYTES_MAX && text.chars().all(is_of_name) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "a consumer's name has 1 to {CONSUMER_NAME_BYTES_MAX} letters, digits, '.', '_' or '-' of ASCII, and begins \
             with a letter or a digit"
        ))
    }
}

impl Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A consumer as it was when somebody was let at it: by its name, with the topics that they may
/// consume. One that got the name since, with other topics, is not meant.
#[derive(Clone, Debug)]
pub struct ConsumerKey {
    /// Its name.
    pub name: ConsumerName,
    /// Its filter.
    pub topics: Arc<TopicPatterns>,
}

/// What somebody asks for who looks at a consumer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Show so many positions.
    pub positions: usize,
    /// Whose look it is, as in [`Query::client`](crate::store::Query::client).
    pub client: u64,
    /// Which look of that client.
    pub reader: u64,
}

/// From where a consumer reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first event of each topic.
    Start,
    /// What is stored from now on.
    End,
    /// A cursor that a listing of events gave.
    Cursor(String),
    /// The first event, in order of arrival, that arrived at or after this time.
    Time(Timestamp),
}

impl From<&str> for Start {
    fn from(text: &str) -> Self {
        match text {
            "start" => Self::Start,
            "end" => Self::End,
            text => Timestamp::parse(text).map_or_else(|| Self::Cursor(text.to_owned()), Self::Time),
        }
    }
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What others are told of the holder.
    pub label: Box<str>,
    /// The holder has given itself the label, and goes on with its own lease when it comes again.
    /// One without a name has a lease for one answer: it ends when that is acknowledged.
    pub is_named: bool,
}

impl Holder {
    /// A holder with a name of its own.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn named(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.len() > HOLDER_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "a holder's name has 1 to {HOLDER_BYTES_MAX} bytes, without control characters"
            ));
        }
        Ok(Self { label: name.into(), is_named: true })
    }

    /// Whether this is the same holder, by its name.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_named && other.is_named && self.label == other.label
    }
}

/// What somebody asks for who reads for a consumer.
#[derive(Clone, Debug)]
pub struct Take {
    /// The consumer.
    pub consumer: ConsumerKey,
    /// The part of its topics.
    pub partition: Partition,
    /// Whoever reads.
    pub holder: Holder,
    /// The lease that an earlier call of the same request was given.
    pub lease_id: Option<u64>,
    /// How long the lease is to last from now on.
    pub lease: Duration,
    /// At most this many events.
    pub limit: usize,
    /// End where the events, and what surrounds them in an answer, reach this many bytes.
    pub bytes_max: usize,
    /// Whose read it is, as in [`Query::client`](crate::store::Query::client).
    pub client: u64,
    /// Which read of that client.
    pub reader: u64,
}

/// A lease, as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStats {
    /// Who holds it.
    pub holder: Box<str>,
    /// The part of the topics that it is of.
    pub partition: Partition,
    /// When it ends, unless it is renewed.
    pub until: Timestamp,
}

/// Why events that were given were not acknowledged. They are given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFaultKind {
    /// The lease ended before an acknowledgement came.
    LeaseExpired,
    /// An acknowledgement came, and its lease was over.
    AckRefused,
}

/// Events that were given and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFault {
    /// When their lease ended, or their acknowledgement was refused.
    pub at: Timestamp,
    /// Which of both.
    pub kind: DeliveryFaultKind,
    /// Who held the lease, if that is known.
    pub holder: Option<Box<str>>,
}

/// What is known of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Its name.
    pub name: Box<str>,
    /// Its filter.
    pub topics: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Events that it has not acknowledged.
    pub lag_events: u64,
    /// When the oldest of them arrived, as far as it was looked for: each look goes on where the
    /// one before has ended.
    pub lags_since: Option<Timestamp>,
    /// The leases on its topics.
    pub leases: Vec<LeaseStats>,
    /// What went wrong last, as far as the backend remembers.
    pub last_fault: Option<DeliveryFault>,
    /// The topics that it has a position in, in order of their names, as many as were asked for.
    pub positions: Vec<Position>,
    /// How many topics it has a position in.
    pub positions_total: u64,
}

/// A consumer's position in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: Box<str>,
    /// Offset of the first event that is not acknowledged.
    pub next_offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_paths_and_labels_carry_as_they_are() {
        for good in ["a", "billing", "Billing-2", "orders.eu_1", "0"] {
            assert_eq!(good.parse::<ConsumerName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let long = "a".repeat(CONSUMER_NAME_BYTES_MAX + 1);
        for wrong in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", long.as_str()] {
            assert!(wrong.parse::<ConsumerName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_start_is_a_word_a_time_or_else_a_cursor() {
        assert_eq!(Start::from("start"), Start::Start);
        assert_eq!(Start::from("end"), Start::End);
        assert!(matches!(Start::from("2026-11-22T10:00:00Z"), Start::Time(_)));
        assert!(matches!(Start::from("a0123456789abcdef0000000000000007"), Start::Cursor(_)));
    }

    #[test]
    fn only_holders_with_a_name_are_told_to_be_the_same() {
        let named = Holder::named("w1").unwrap();
        let unnamed = Holder { label: "w1".into(), is_named: false };
        assert!(named.is_same(&Holder::named("w1").unwrap()));
        assert!(!named.is_same(&unnamed) && !unnamed.is_same(&unnamed));
        assert!(!named.is_same(&Holder::named("w2").unwrap()));
        assert!(Holder::named("").is_err() && Holder::named("a\n").is_err());
    }
}
