//! Topics: what is durable of each, and counts that wait to become so.
//!
//! Only the journal's writer changes what is durable. Workers add to the pending counts, which the
//! writer takes along.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::TopicPatterns;
use crate::limits::{TOPICS_MEASURED_MAX, TOPICS_WARNED_PERCENT};
use crate::store::Totals;
use crate::store::local::format::entries::{CounterEntry, TopicEntry};
use crate::store::local::format::manifest::{Burnt, Hole};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Box<str>,
    /// Keyed hash of the name.
    pub(crate) hash: u128,
    /// Its number in this process, from 0.
    pub(crate) number: u32,
    /// Offsets that hold no event, in order: the first, and the first after.
    lost: Box<[(u64, u64)]>,
    next_offset: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
    first_received_at: AtomicI64,
    last_received_at: AtomicI64,
    pending_duplicates: AtomicU64,
    pending_conflicts: AtomicU64,
    is_pending: AtomicBool,
}

/// A topic's durable state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicFigures {
    pub(crate) next_offset: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) first_received_at: i64,
    pub(crate) last_received_at: i64,
}

impl Topic {
    /// Offset of the next event to become durable.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(crate) fn figures(&self) -> TopicFigures {
        // Duplicates last, as they are counted first: never less than the conflicts among them.
        let conflicts = self.conflicts.load(Ordering::Acquire);
        TopicFigures {
            next_offset: self.next_offset(),
            duplicates: self.duplicates.load(Ordering::Acquire),
            conflicts,
            first_received_at: self.first_received_at.load(Ordering::Acquire),
            last_received_at: self.last_received_at.load(Ordering::Acquire),
        }
    }

    /// The offsets that are lost together with this one.
    pub(crate) fn lost_at(&self, offset: u64) -> Option<(u64, u64)> {
        self.lost.iter().copied().find(|(first, next)| (*first..*next).contains(&offset))
    }

    /// Events that it holds.
    pub(crate) fn events(&self) -> u64 {
        let lost = self.lost.iter().map(|(first, next)| next - first).sum();
        self.next_offset().saturating_sub(lost)
    }

    /// Offset of the first event that it holds, if it holds any.
    pub(crate) fn first_offset(&self) -> u64 {
        self.lost.first().filter(|(first, _)| *first == 0).map_or(0, |(_, next)| *next)
    }

    /// Its entry in the table at the head of a generation.
    pub(crate) fn entry(&self) -> TopicEntry<'_> {
        let figures = self.figures();
        TopicEntry {
            counters: CounterEntry {
                topic: self.name.as_bytes(),
                duplicates: figures.duplicates,
                conflicts: figures.conflicts,
                rejected: 0,
            },
            next_offset: figures.next_offset,
            first_received_at: figures.first_received_at,
            last_received_at: figures.last_received_at,
        }
    }

    /// Goes on at an offset: what is before it was given away.
    pub(crate) fn skip_to(&self, next_offset: u64) {
        self.next_offset.store(next_offset, Ordering::Release);
    }

    /// Sets what a table says.
    fn restore(&self, entry: &TopicEntry<'_>) {
        self.next_offset.store(entry.next_offset, Ordering::Release);
        self.duplicates.store(entry.counters.duplicates, Ordering::Release);
        self.conflicts.store(entry.counters.conflicts, Ordering::Release);
        self.first_received_at.store(entry.first_received_at, Ordering::Release);
        self.last_received_at.store(entry.last_received_at, Ordering::Release);
    }

    /// `count` more events became durable.
    fn add_events(&self, count: u64, received_at: i64) {
        if self.events() == 0 {
            self.first_received_at.store(received_at, Ordering::Release);
        }
        self.last_received_at.store(received_at, Ordering::Release);
        self.next_offset.fetch_add(count, Ordering::AcqRel);
    }

    /// These counts became durable.
    fn add_counts(&self, duplicates: u64, conflicts: u64) {
        self.duplicates.fetch_add(duplicates, Ordering::AcqRel);
        self.conflicts.fetch_add(conflicts, Ordering::AcqRel);
    }
}

/// Counts of one topic on their way to disk.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) topic: Arc<Topic>,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
}

/// Sums over all topics, kept as they change: asking for them must not cost a walk over all topics.
#[derive(Debug, Default)]
struct Sums {
    /// Topics that hold events.
    holders: AtomicU64,
    events: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
}

/// All topics of a store, and the store's own counts.
#[derive(Debug)]
pub(crate) struct Topics {
    max: usize,
    /// What each topic has lost.
    lost: HashMap<String, Vec<(u64, u64)>>,
    by_name: RwLock<BTreeMap<Box<str>, Arc<Topic>>>,
    /// How many `by_name` has.
    made: AtomicUsize,
    /// The same, each in the place of its number.
    by_number: RwLock<Vec<Arc<Topic>>>,
    sums: Sums,
    pending: Mutex<Vec<Arc<Topic>>>,
    rejected: AtomicU64,
    pending_rejected: AtomicU64,
}

impl Topics {
    /// None yet, and as many as there may be; what they lost is in these holes.
    pub(crate) fn new(holes: &[Hole]) -> Self {
        let mut lost: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
        for Burnt { topic, first, next } in holes.iter().flat_map(|hole| &hole.topics) {
            lost.entry(topic.clone()).or_default().push((*first, *next));
        }
        lost.values_mut().for_each(|lost| lost.sort_unstable());
        Self {
            max: usize::MAX,
            lost,
            by_name: RwLock::default(),
            made: AtomicUsize::new(0),
            by_number: RwLock::default(),
            sums: Sums::default(),
            pending: Mutex::default(),
            rejected: AtomicU64::new(0),
            pending_rejected: AtomicU64::new(0),
        }
    }

    /// From here on, only so many topics may be made.
    pub(crate) fn limit(&mut self, max: usize) {
        self.max = max;
        if self.made() >= self.warned_at() {
            self.warn();
        }
    }

    /// Topics that there are, whether they hold events or not.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    /// Most topics that there may be.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Topics at which the operator is told that they run out.
    fn warned_at(&self) -> usize {
        (self.max / 100).saturating_mul(TOPICS_WARNED_PERCENT) + self.max % 100 * TOPICS_WARNED_PERCENT / 100
    }

    fn warn(&self) {
        let (topics, topics_max) = (self.made(), self.max);
        tracing::warn!(
            topics,
            topics_max,
            "topics run out: at the most, events of new ones are refused; raise --topics-max, or look for a sender \
             that puts ids into its topics' names"
        );
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    /// The topic with this name, made if need be.
    ///
    /// # Errors
    /// `NoSpace` if there are as many topics as there may be.
    pub(crate) fn ensure(&self, name: &str, hash: u128) -> Result<Arc<Topic>> {
        if let Some(topic) = self.get(name) {
            return Ok(topic);
        }
        let mut by_name = self.by_name.write();
        if let Some(topic) = by_name.get(name) {
            return Ok(Arc::clone(topic));
        }
        if by_name.len() >= self.max {
            let message = format!(
                "the store has {} topics, as many as it may: use fewer topics, or raise --topics-max",
                by_name.len()
            );
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        let number = by_name.len() as u32;
        let topic = Arc::new(Topic {
            name: name.into(),
            hash,
            number,
            lost: self.lost.get(name).cloned().unwrap_or_default().into(),
            next_offset: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            first_received_at: AtomicI64::new(0),
            last_received_at: AtomicI64::new(0),
            pending_duplicates: AtomicU64::new(0),
            pending_conflicts: AtomicU64::new(0),
            is_pending: AtomicBool::new(false),
        });
        by_name.insert(name.into(), Arc::clone(&topic));
        let made = by_name.len();
        self.by_number.write().push(Arc::clone(&topic));
        self.made.store(made, Ordering::Release);
        drop(by_name);
        if made == self.warned_at() {
            self.warn();
        }
        Ok(topic)
    }

    /// The topics that were made first, as many as have figures of their own.
    pub(crate) fn oldest(&self) -> Vec<Arc<Topic>> {
        self.by_number.read().iter().take(TOPICS_MEASURED_MAX).cloned().collect()
    }

    /// The topic with this number.
    pub(crate) fn numbered(&self, number: u32) -> Option<Arc<Topic>> {
        self.by_number.read().get(number as usize).cloned()
    }

    /// All topics, sorted by name.
    pub(crate) fn sorted(&self) -> Vec<Arc<Topic>> {
        let by_name = self.by_name.read();
        by_name.values().map(Arc::clone).collect()
    }

    /// At most `limit` of the topics that hold events, sorted by name, from after `after` on; of
    /// all, or of those that `only` means.
    pub(crate) fn holders(
        &self,
        after: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Vec<Arc<Topic>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let by_name = self.by_name.read();
        let mut topics = by_name.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded));
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((name, topic)) = topics.next()
        {
            let Some(only) = only.filter(|only| !only.matches(name.as_bytes())) else {
                if topic.events() > 0 {
                    found.push(Arc::clone(topic));
                }
                continue;
            };
            // There may be many topics between two that are meant.
            let Some(next) = only.next_from(name) else { break };
            topics = by_name.range::<str, _>((Included(next), Unbounded));
        }
        found
    }

    /// Durable totals.
    pub(crate) fn totals(&self) -> Totals {
        // Duplicates last, as they are counted first: never less than the conflicts among them.
        let conflicts = self.sums.conflicts.load(Ordering::Acquire);
        Totals {
            unique_processed: self.sums.events.load(Ordering::Acquire),
            duplicate_dropped: self.sums.duplicates.load(Ordering::Acquire),
            conflicts,
            rejected: self.rejected(),
        }
    }

    /// How many topics hold events.
    pub(crate) fn holding(&self) -> u64 {
        self.sums.holders.load(Ordering::Acquire)
    }

    /// Changes the durable state of a topic, and the sums by as much.
    fn change(&self, topic: &Topic, change: impl FnOnce(&Topic)) {
        let (events, figures) = (topic.events(), topic.figures());
        change(topic);
        let (events_now, now) = (topic.events(), topic.figures());
        let holder = u64::from(events_now > 0).wrapping_sub(u64::from(events > 0));
        for (sum, by) in [
            (&self.sums.holders, holder),
            (&self.sums.events, events_now.wrapping_sub(events)),
            (&self.sums.duplicates, now.duplicates.wrapping_sub(figures.duplicates)),
            (&self.sums.conflicts, now.conflicts.wrapping_sub(figures.conflicts)),
        ] {
            if by != 0 {
                sum.fetch_add(by, Ordering::AcqRel);
            }
        }
    }

    /// Sets what a table says of a topic.
    pub(crate) fn restore(&self, topic: &Topic, entry: &TopicEntry<'_>) {
        self.change(topic, |topic| topic.restore(entry));
    }

    /// `count` more events of a topic became durable.
    pub(crate) fn add_events(&self, topic: &Topic, count: u64, received_at: i64) {
        self.change(topic, |topic| topic.add_events(count, received_at));
    }

    /// These counts of a topic became durable.
    pub(crate) fn add_counts(&self, topic: &Topic, duplicates: u64, conflicts: u64) {
        self.change(topic, |topic| topic.add_counts(duplicates, conflicts));
    }

    /// Counts dropped events of a topic; durable with the next frame.
    pub(crate) fn count_pending(&self, pending: &Pending) {
        let Pending { topic, duplicates, conflicts } = pending;
        let (duplicates, conflicts) = (*duplicates, *conflicts);
        topic.pending_duplicates.fetch_add(duplicates, Ordering::AcqRel);
        topic.pending_conflicts.fetch_add(conflicts, Ordering::AcqRel);
        if !topic.is_pending.swap(true, Ordering::AcqRel) {
            self.pending.lock().push(Arc::clone(topic));
        }
    }

    /// Counts refused events; durable with the next frame.
    pub(crate) fn count_rejected(&self, events: u64) {
        self.pending_rejected.fetch_add(events, Ordering::AcqRel);
    }

    /// Takes the counts that wait, to write them.
    pub(crate) fn take_pending(&self) -> (Vec<Pending>, u64) {
        let topics = mem::take(&mut *self.pending.lock());
        let counts = topics.into_iter().map(|topic| {
            // First the mark: what is counted from here on puts the topic on the list again.
            topic.is_pending.store(false, Ordering::Release);
            // Then the conflicts: the duplicates that they are were counted before them, and are
            // taken along.
            let conflicts = topic.pending_conflicts.swap(0, Ordering::AcqRel);
            let duplicates = topic.pending_duplicates.swap(0, Ordering::AcqRel);
            Pending { topic, duplicates, conflicts }
        });
        (counts.collect(), self.pending_rejected.swap(0, Ordering::AcqRel))
    }

    /// Refused events, durable.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Acquire)
    }

    /// Sets what a table says of refused events.
    pub(crate) fn restore_rejected(&self, events: u64) {
        self.rejected.store(events, Ordering::Release);
    }

    /// So many more refused events became durable.
    pub(crate) fn add_rejected(&self, events: u64) {
        self.rejected.fetch_add(events, Ordering::AcqRel);
    }
}
