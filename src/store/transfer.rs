//! Moving all that a store has into another, empty one: ids, offsets, order, times of arrival and
//! counts.
//!
//! It may be interrupted and begun again: what the target has is not added twice. At the end all of
//! it is read back from the target and compared.

use std::collections::HashMap;

use siphasher::sip128::{Hasher128, SipHasher13};

pub use self::directory::Directory;
use super::target::Target;
use super::{EventStore, Priority, Query, Stats, StoredEvent, TopicStats};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{STATEMENT_BYTES, STATEMENT_EVENTS};

mod directory;

/// How far a move is, in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Events that were looked at.
    pub done: u64,
    /// Events of the source; each is looked at twice, once when it is read back.
    pub total: u64,
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Totals and topics of both stores.
    pub stats: Stats,
}

/// Moves all events and counts of `source`, and compares what `target` then has.
///
/// # Errors
/// Those of both stores; `Conflict` if the source has taken events meanwhile; `Corrupt` if the
/// target has something else than the source.
pub async fn transfer<S: EventStore, T: Target>(
    source: &S,
    target: &mut T,
    progress: &dyn Fn(Progress),
) -> Result<Moved> {
    let stats = source.stats().await?;
    let total = stats.totals.unique_processed;
    let mut sums = Sums::default();
    let mut pages = Pages::default();
    while let Some(events) = pages.next(source).await? {
        target.add(&events).await?;
        sums.add(&events);
        progress(Progress { done: sums.events, total: 2 * total });
    }
    let topics = all_topics(source).await?;
    for some in topics.chunks(STATEMENT_EVENTS) {
        target.count(some).await?;
    }
    target.count_rejected(stats.totals.rejected).await?;
    if source.stats().await? != stats || sums.events != total {
        let message = "the source has taken events meanwhile: stop what serves it, then run this again";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let store = target.store().await?;
    compare(store, &sums, &topics, stats, &|done| {
        progress(Progress { done: total + done, total: 2 * total });
    })
    .await?;
    Ok(Moved { stats })
}

/// Reads all of `store` and holds it against what was moved.
async fn compare<S: EventStore>(
    store: &S,
    expected: &Sums,
    topics: &[TopicStats],
    stats: Stats,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let (mut sums, mut pages) = (Sums::default(), Pages::default());
    while let Some(events) = pages.next(store).await? {
        sums.add(&events);
        progress(sums.events);
    }
    let differs = |what: String| Error::new(ErrorKind::Corrupt, format!("the target is no copy: {what}"));
    for (topic, expected) in &expected.topics {
        if sums.topics.get(topic) != Some(expected) {
            return Err(differs(format!("the events of topic {topic:?} are not those of the source")));
        }
    }
    if sums.topics.len() != expected.topics.len() {
        return Err(differs("it has topics that the source does not have".to_owned()));
    }
    for (found, expected) in all_topics(store).await?.iter().zip(topics) {
        if found != expected {
            return Err(differs(format!(
                "the counts of topic {:?} are not those of the source",
                expected.topic
            )));
        }
    }
    match store.stats().await? == stats {
        true => Ok(()),
        false => Err(differs("its totals are not those of the source".to_owned())),
    }
}

/// What was seen of each topic: a hash over its events, in order. Two stores that have the same
/// hold the same events.
#[derive(Debug, Default)]
struct Sums {
    events: u64,
    topics: HashMap<Box<str>, u128>,
}

impl Sums {
    fn add(&mut self, events: &[StoredEvent]) {
        self.events += events.len() as u64;
        for event in events {
            if !self.topics.contains_key(&event.topic) {
                self.topics.insert(event.topic.clone(), 0);
            }
            if let Some(sum) = self.topics.get_mut(&event.topic) {
                *sum = chained(*sum, event);
            }
        }
    }
}

/// The hash of an event and of all before it.
fn chained(before: u128, event: &StoredEvent) -> u128 {
    use std::hash::Hasher;
    // All fields are named, so that a new one can't be left out. The topic has a hash of its own.
    let StoredEvent { topic: _, event_id, timestamp, source, payload, offset, received_at } = event;
    let mut hasher = SipHasher13::new_with_key(&before.to_be_bytes());
    hasher.write(&offset.to_be_bytes());
    hasher.write(&received_at.0.to_be_bytes());
    for text in [event_id, timestamp, source, payload] {
        hasher.write(&(text.len() as u64).to_be_bytes());
        hasher.write(text.as_bytes());
    }
    hasher.finish128().as_u128()
}

/// All events of a store, page by page, oldest first.
#[derive(Debug, Default)]
struct Pages {
    cursor: Option<String>,
    priority: Priority,
    is_over: bool,
}

impl Pages {
    async fn next<S: EventStore>(&mut self, store: &S) -> Result<Option<Vec<StoredEvent>>> {
        if self.is_over {
            return Ok(None);
        }
        let query = Query {
            cursor: self.cursor.take(),
            limit: STATEMENT_EVENTS,
            bytes_max: Some(STATEMENT_BYTES),
            priority: self.priority,
            ..Query::default()
        };
        let page = store.read(query).await?;
        self.priority = page.next_priority();
        self.is_over = page.next_cursor.is_none();
        self.cursor = page.next_cursor;
        Ok(Some(page.events))
    }
}

async fn all_topics<S: EventStore>(store: &S) -> Result<Vec<TopicStats>> {
    let (mut topics, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.topics(cursor.as_deref(), STATEMENT_EVENTS, None).await?;
        topics.extend(page.topics);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(topics);
        }
    }
}
