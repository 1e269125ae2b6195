//! What journals say of topics and of consumers, block by block: offsets, counts, positions, and
//! the tables at the heads of generations.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumers::{Consumer, Consumers};
use super::topic::{Topic, Topics};
use crate::error::Result;
use crate::event::pattern::TopicPatterns;
use crate::store::local::format::block::Block;
use crate::store::local::format::claim::Claim;
use crate::store::local::format::codec::BlockKind;
use crate::store::local::format::entries::{ConsumerEntry, TopicEntry};
use crate::store::local::format::hash::Secret;

/// All topics and consumers, as far as the journals have been read.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) topics: Topics,
    pub(crate) consumers: Consumers,
    pub(crate) secret: Secret,
}

/// Looks at what a block says before the ledger takes it in, and may refuse it.
pub(crate) trait Audit {
    /// Events of a topic begin at an offset.
    ///
    /// # Errors
    /// If they can't.
    fn events(&mut self, topic: &Arc<Topic>, first_offset: u64, block: &Block<'_>) -> Result<()>;

    /// One of these events, with the low half of its hash.
    fn event(&mut self, _topic: &Topic, _event_id: &[u8], _hash: u64, _claim: Claim) {}

    /// A table tells a topic's state.
    ///
    /// # Errors
    /// If that can't be its state.
    fn table(&mut self, _topic: &Topic, _told: &TopicEntry<'_>, _block: &Block<'_>) -> Result<()> {
        Ok(())
    }

    /// A consumer has got to an offset of a topic.
    ///
    /// # Errors
    /// If there is no such event.
    fn reached(&mut self, topic: &Topic, next_offset: u64, block: &Block<'_>) -> Result<()> {
        match next_offset <= topic.next_offset() {
            true => Ok(()),
            false => Err(block.corrupt("a consumer is ahead of the events of a topic")),
        }
    }

    /// A consumer has got on that the ledger does not know.
    ///
    /// # Errors
    /// If that can't be.
    fn unknown_consumer(&mut self, block: &Block<'_>) -> Result<()> {
        Err(block.corrupt("it tells of a consumer that there is not"))
    }

    /// A table tells how many events were refused; the ledger knows of `known`.
    ///
    /// # Errors
    /// If there can't be so many.
    fn rejected(&mut self, _known: u64, _told: u64, _block: &Block<'_>) -> Result<()> {
        Ok(())
    }
}

impl Ledger {
    /// One that has read nothing yet.
    pub(crate) fn new(topics: Topics, secret: Secret) -> Self {
        Self { topics, consumers: Consumers::default(), secret }
    }

    /// The topic with this name.
    ///
    /// # Errors
    /// As [`Topics::ensure`].
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.topics.ensure(name, self.secret.topic(name.as_bytes()))
    }

    /// Takes in what a block says; returns the sum of the low halves of its events' hashes,
    /// wrapping.
    ///
    /// # Errors
    /// `Corrupt` if a record can't be read; `Unusable` if a newer version wrote it; those of
    /// `audit`.
    pub(crate) fn apply(&self, block: &Block<'_>, audit: &mut impl Audit) -> Result<u64> {
        let body = block.body()?;
        let named = |name| self.topic(block.text(name, "a topic")?);
        let mut sum = 0u64;
        match block.kind {
            BlockKind::Events => {
                let events = body.events()?;
                let head = events.head;
                let topic = named(head.topic)?;
                audit.events(&topic, head.first_offset, block)?;
                self.topics.add_events(&topic, u64::from(block.count), head.received_at);
                for event in events {
                    let (offset, event) = event?;
                    let hash = self.secret.event(head.topic, event.event_id) as u64;
                    sum = sum.wrapping_add(hash);
                    let claim = Claim { offset, digest: event.digest, received_at: head.received_at };
                    audit.event(&topic, event.event_id, hash, claim);
                }
            }
            BlockKind::Counters => {
                for entry in body.counters() {
                    let entry = entry?;
                    if entry.topic.is_empty() {
                        self.topics.add_rejected(entry.rejected);
                        continue;
                    }
                    let topic = named(entry.topic)?;
                    self.topics.add_counts(&topic, entry.duplicates, entry.conflicts);
                }
            }
            BlockKind::Topics => {
                for entry in body.topics() {
                    let entry = entry?;
                    if entry.counters.topic.is_empty() {
                        audit.rejected(self.topics.rejected(), entry.counters.rejected, block)?;
                        self.topics.restore_rejected(entry.counters.rejected);
                        continue;
                    }
                    let topic = named(entry.counters.topic)?;
                    audit.table(&topic, &entry, block)?;
                    self.topics.restore(&topic, &entry);
                }
            }
            BlockKind::Consumers => {
                for entry in body.consumers() {
                    self.apply_consumer(&entry?, block, audit)?;
                }
            }
        }
        Ok(sum)
    }
    /// Takes in what became of a consumer.
    fn apply_consumer(
        &self,
        entry: &ConsumerEntry<'_>,
        block: &Block<'_>,
        audit: &mut impl Audit,
    ) -> Result<()> {
        let name = |bytes| block.text(bytes, "a consumer");
        match entry {
            ConsumerEntry::Begun { name: bytes, number, created_at, topics } => {
                let name = name(bytes)?;
                if self.consumers.get(name).is_some_and(|known| known.number == *number) {
                    return Ok(());
                }
                let patterns = topics.iter().map(|bytes| {
                    let pattern = block.text(bytes, "a filter")?;
                    pattern.parse().map_err(|_| block.corrupt("the filter of a consumer is none"))
                });
                let patterns = Arc::new(patterns.collect::<Result<TopicPatterns>>()?);
                let consumer = Consumer::new(name, *number, *created_at, patterns, BTreeMap::new());
                self.consumers.begin(Arc::new(consumer));
            }
            ConsumerEntry::Ended { name: bytes } => self.consumers.end(name(bytes)?),
            ConsumerEntry::Reached { name: bytes, number, positions } => {
                let known = self.consumers.get(name(bytes)?).filter(|known| known.number == *number);
                let Some(consumer) = known else { return audit.unknown_consumer(block) };
                let mut reached = Vec::with_capacity(positions.len());
                for at in positions {
                    let topic = self.topic(block.text(at.topic, "a topic")?)?;
                    audit.reached(&topic, at.next_offset, block)?;
                    reached.push((topic.number, at.next_offset));
                }
                self.consumers.reach(&consumer, reached.into_iter());
            }
        }
        Ok(())
    }
}
