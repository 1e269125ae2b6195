//! Consumers: their filters and their positions, as far as these are durable, and who reads for
//! them right now.
//!
//! Only the journal's writer changes what is durable, after the frame that says so is synced;
//! recovery and the offline commands do while they read journals. A consumer that is moved gets
//! another number and so another entry here: what was given out for the one before counts no more.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use self::leases::Leases;
use super::topic::{Topic, Topics};
use crate::consumer::ConsumerKey;
use crate::consumer::backlog::{Backlog, TopicNotes};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::limits::CONSUMER_LOOK_TOPICS;
use crate::store::local::format::entries::{ConsumerEntry, PositionEntry};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};

pub(crate) mod leases;

/// Positions in one entry of the journal.
const ENTRY_POSITIONS: usize = 256;

/// One consumer, in one life of its name.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: Box<str>,
    /// Random, of this life.
    pub(crate) number: u64,
    pub(crate) created_at: i64,
    pub(crate) topics: Arc<TopicPatterns>,
    /// By the topic's number, the offset to go on from; a topic that is absent is read from its
    /// first event on.
    positions: Mutex<BTreeMap<u32, u64>>,
    pub(crate) leases: Mutex<Leases>,
}

impl Consumer {
    pub(crate) fn new(
        name: &str,
        number: u64,
        created_at: i64,
        topics: Arc<TopicPatterns>,
        positions: BTreeMap<u32, u64>,
    ) -> Self {
        let (positions, leases) = (Mutex::new(positions), Mutex::default());
        Self { name: name.into(), number, created_at, topics, positions, leases }
    }

    /// Its name and its filter.
    pub(crate) fn key(&self) -> Option<ConsumerKey> {
        Some(ConsumerKey { name: self.name.parse().ok()?, topics: Arc::clone(&self.topics) })
    }

    /// The offset that it goes on from in a topic.
    pub(crate) fn position(&self, topic: &Topic) -> u64 {
        self.positions.lock().get(&topic.number).copied().unwrap_or(0)
    }

    /// All its positions, by the topic's number.
    pub(crate) fn positions(&self) -> BTreeMap<u32, u64> {
        self.positions.lock().clone()
    }

    /// How many topics it has a position in.
    pub(crate) fn positions_len(&self) -> usize {
        self.positions.lock().len()
    }

    /// In how many of these topics it has no position.
    pub(crate) fn count_new(&self, positions: &[(u32, u64)]) -> usize {
        let own = self.positions.lock();
        positions.iter().filter(|(topic, _)| !own.contains_key(topic)).count()
    }

    /// Of these positions, those that are further than its own.
    pub(crate) fn further(&self, positions: &[(u32, u64)]) -> Vec<(u32, u64)> {
        let own = self.positions.lock();
        let is_further = |at: &&(u32, u64)| own.get(&at.0).copied().unwrap_or(0) < at.1;
        positions.iter().filter(is_further).copied().collect()
    }

    /// Moves it on; returns in how many topics it had no position before. It never moves back.
    fn reach(&self, positions: impl Iterator<Item = (u32, u64)>) -> usize {
        let mut own = self.positions.lock();
        let before = own.len();
        for (topic, next_offset) in positions {
            let at = own.entry(topic).or_insert(next_offset);
            *at = next_offset.max(*at);
        }
        own.len() - before
    }

    /// Takes in what is new, and one step of going through all topics, if that is under way;
    /// whether all that is new is known.
    pub(crate) fn look(&self, backlog: &mut Backlog, topics: &Topics, notes: &TopicNotes) -> bool {
        self.take_in(backlog, topics, notes);
        let Some(after) = backlog.looks_after() else { return true };
        let (ready, last) = self.ready_after(topics, after);
        backlog.looked(ready.into_iter(), last);
        backlog.looks_after().is_none()
    }

    /// The same for somebody who only looks: whoever reads for the consumer does not wait for the
    /// lock while topics are gone through.
    pub(crate) fn look_beside(&self, topics: &Topics, notes: &TopicNotes) -> bool {
        let after = {
            let mut leases = self.leases.lock();
            self.take_in(&mut leases.backlog, topics, notes);
            leases.backlog.looks_after().map(str::to_owned)
        };
        let Some(after) = after else { return true };
        let (ready, last) = self.ready_after(topics, &after);
        let backlog = &mut self.leases.lock().backlog;
        // What came meanwhile is among the notes; who was faster has found the same.
        if backlog.looks_after() == Some(&*after) {
            backlog.looked(ready.into_iter(), last);
        }
        backlog.looks_after().is_none()
    }

    fn take_in(&self, backlog: &mut Backlog, topics: &Topics, notes: &TopicNotes) {
        backlog.read(notes, |number| {
            topics.numbered(number).is_some_and(|topic| self.topics.matches(topic.name.as_bytes()))
        });
    }

    /// Which of some topics of the filter after a name have something new; and the last one, if
    /// there may be more after it.
    fn ready_after(&self, topics: &Topics, after: &str) -> (Vec<u32>, Option<Box<str>>) {
        let some = topics.holders(Some(after), CONSUMER_LOOK_TOPICS, Some(&self.topics));
        let ready = some.iter().filter(|topic| self.position(topic) < topic.next_offset());
        let last = some.last().filter(|_| some.len() == CONSUMER_LOOK_TOPICS);
        (ready.map(|topic| topic.number).collect(), last.map(|topic| topic.name.clone()))
    }

    /// Shows what the journal says of it, entry by entry.
    pub(crate) fn each_entry(&self, topics: &Topics, mut show: impl FnMut(&ConsumerEntry<'_>)) {
        let patterns: Vec<String> = self.topics.iter().map(TopicPattern::to_string).collect();
        show(&ConsumerEntry::Begun {
            name: self.name.as_bytes(),
            number: self.number,
            created_at: self.created_at,
            topics: patterns.iter().map(String::as_bytes).collect(),
        });
        let positions: Vec<_> = self.positions().into_iter().collect();
        each_reached(&self.name, self.number, &positions, topics, show);
    }
}

/// Shows the entries that say how far a consumer has got.
pub(crate) fn each_reached(
    name: &str,
    number: u64,
    positions: &[(u32, u64)],
    topics: &Topics,
    mut show: impl FnMut(&ConsumerEntry<'_>),
) {
    for some in positions.chunks(ENTRY_POSITIONS) {
        let named: Vec<_> =
            some.iter().filter_map(|(topic, next)| Some((topics.numbered(*topic)?, *next))).collect();
        let entries = named
            .iter()
            .map(|(topic, next)| PositionEntry { topic: topic.name.as_bytes(), next_offset: *next });
        let positions = entries.collect();
        show(&ConsumerEntry::Reached { name: name.as_bytes(), number, positions });
    }
}

/// All consumers of a store.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_name: RwLock<BTreeMap<Box<str>, Arc<Consumer>>>,
    /// Positions of all of them.
    positions: AtomicUsize,
}

impl Consumers {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Consumer>> {
        self.by_name.read().get(name).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.read().len()
    }

    /// Positions of all consumers.
    pub(crate) fn positions_len(&self) -> usize {
        self.positions.load(Ordering::Acquire)
    }

    /// At most `limit` consumers, in order of their names, from after `after` on.
    pub(crate) fn after(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Consumer>> {
        let by_name = self.by_name.read();
        let from = after.map_or(Unbounded, Excluded);
        by_name
            .range::<str, _>((from, Unbounded))
            .take(limit)
            .map(|(_, consumer)| Arc::clone(consumer))
            .collect()
    }

    /// A consumer begins, in the place of one that has the same name.
    pub(crate) fn begin(&self, consumer: Arc<Consumer>) {
        let added = consumer.positions_len();
        let before = self.by_name.write().insert(consumer.name.clone(), consumer);
        self.positions.fetch_add(added, Ordering::AcqRel);
        self.forget_positions(before.as_deref());
    }

    /// A consumer is there no more.
    pub(crate) fn end(&self, name: &str) {
        let before = self.by_name.write().remove(name);
        self.forget_positions(before.as_deref());
    }

    fn forget_positions(&self, consumer: Option<&Consumer>) {
        let positions = consumer.map_or(0, Consumer::positions_len);
        self.positions.fetch_sub(positions, Ordering::AcqRel);
    }

    /// A consumer has got on.
    pub(crate) fn reach(&self, consumer: &Consumer, positions: impl Iterator<Item = (u32, u64)>) {
        self.positions.fetch_add(consumer.reach(positions), Ordering::AcqRel);
    }
}
