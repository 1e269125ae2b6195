//! Making, moving and ending consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::consumer::{ConsumerKey, ConsumerName, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::TopicPatterns;
use crate::limits::{CONSUMER_LOOK_TOPICS, CONSUMERS_MAX};
use crate::store::local::Local;
use crate::store::local::admission::job::Step;
use crate::store::local::format::codec::BlockKind;
use crate::store::local::format::entries::ConsumerEntry;
use crate::store::local::format::manifest::random_u64;
use crate::store::local::generation::consumers::Consumer;
use crate::store::local::generation::head::EntryBlocks;
use crate::store::local::generation::topic::Topic;
use crate::store::local::read::offsets::OffsetsBefore;
use crate::store::local::read::{Listing, read_cursor};
use crate::store::local::shared::Shared;
use crate::store::{EventStore, Priority, Query};
use crate::sync::atomic::Ordering;

/// A change that was made; none if another one of the same consumer came before it. Then what is
/// there now is looked at, as if this one had been asked for after that.
fn settled(changed: Result<()>) -> Result<Option<()>> {
    match changed {
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(None),
        changed => changed.map(Some),
    }
}

impl Local {
    /// Makes a consumer; whether it was made.
    pub(in crate::store::local) async fn begin_consumer(
        &self,
        ConsumerKey { name, topics }: &ConsumerKey,
        start: &Start,
    ) -> Result<bool> {
        loop {
            if let Some(known) = self.shared.consumers.get(name.as_str()) {
                if known.topics == *topics {
                    return Ok(false);
                }
                let message = format!(
                    "there is a consumer {name} with other topics, and its topics don't change: give this one another \
                     name, or remove that one first"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if self.shared.consumers.len() >= CONSUMERS_MAX {
                let message =
                    format!("there are {CONSUMERS_MAX} consumers, as many as there may be: remove some");
                return Err(Error::new(ErrorKind::NoSpace, message));
            }
            let positions = self.positions_at(topics, start, BTreeMap::new()).await?;
            let created_at = self.shared.seams.clock.now().0;
            let topics = Arc::clone(topics);
            let consumer = Consumer::new(name.as_str(), random_u64()?, created_at, topics, positions);
            self.check_room(consumer.positions_len())?;
            if settled(self.begin(name, None, consumer).await)?.is_some() {
                return Ok(true);
            }
        }
    }

    /// Ends a consumer; whether there was one.
    pub(in crate::store::local) async fn end_consumer(&self, key: &ConsumerKey) -> Result<bool> {
        loop {
            let Ok(known) = self.known_consumer(key) else { return Ok(false) };
            let mut entries = EntryBlocks::new(BlockKind::Consumers);
            entries.push(&ConsumerEntry::Ended { name: known.name.as_bytes() });
            if settled(self.change(&key.name, Step::End(known.number), entries).await)?.is_some() {
                return Ok(true);
            }
        }
    }

    /// Has a consumer begin again elsewhere.
    pub(in crate::store::local) async fn move_consumer(&self, key: &ConsumerKey, to: &Start) -> Result<()> {
        loop {
            let (name, known) = (&key.name, self.known_consumer(key)?);
            let positions = self.positions_at(&known.topics, to, known.positions()).await?;
            let (topics, created_at) = (Arc::clone(&known.topics), known.created_at);
            let consumer = Consumer::new(name.as_str(), random_u64()?, created_at, topics, positions);
            self.check_room(consumer.positions_len().saturating_sub(known.positions_len()))?;
            if settled(self.begin(name, Some(known.number), consumer).await)?.is_some() {
                return Ok(());
            }
        }
    }

    async fn begin(&self, name: &ConsumerName, replaces: Option<u64>, consumer: Consumer) -> Result<()> {
        let mut entries = EntryBlocks::new(BlockKind::Consumers);
        consumer.each_entry(&self.shared.topics, |entry| entries.push(entry));
        self.change(name, Step::Begin { replaces, consumer: Arc::new(consumer) }, entries).await
    }

    /// Where a consumer of `topics` is to go on; `own` are the positions that it has.
    async fn positions_at(
        &self,
        topics: &Arc<TopicPatterns>,
        start: &Start,
        own: BTreeMap<u32, u64>,
    ) -> Result<BTreeMap<u32, u64>> {
        match start {
            Start::Start => Ok(BTreeMap::new()),
            Start::End => self.ends(topics).await,
            Start::Cursor(cursor) => {
                if let Ok(event) = read_cursor(&self.shared, Listing::All, cursor) {
                    return self.positions_before(topics, event).await;
                }
                let (topics, cursor) = (Arc::clone(topics), cursor.clone());
                self.blocking(move |shared| in_one_topic(shared, &topics, &cursor, own)).await
            }
            Start::Time(since) => match self.first_since(*since).await? {
                Some(event) => self.positions_before(topics, event).await,
                None => self.ends(topics).await,
            },
        }
    }

    async fn ends(&self, topics: &Arc<TopicPatterns>) -> Result<BTreeMap<u32, u64>> {
        let topics = Arc::clone(topics);
        self.blocking(move |shared| {
            let mut ends = BTreeMap::new();
            each_topic(shared, &topics, |topic| _ = ends.insert(topic.number, topic.next_offset()));
            Ok(ends)
        })
        .await
    }

    /// The positions of topics before the event with this number.
    async fn positions_before(&self, topics: &Arc<TopicPatterns>, event: u64) -> Result<BTreeMap<u32, u64>> {
        if event > self.shared.visible_events.load(Ordering::Acquire) {
            let message =
                "the cursor is ahead of what is stored: the store is an older copy than the one that gave it";
            return Err(Error::new(ErrorKind::ExpiredCursor, message));
        }
        let mut reading = OffsetsBefore::new(&self.shared, event, Arc::clone(topics))?;
        loop {
            let step = move |shared: &Shared| {
                let done = reading.step(shared);
                (reading, done)
            };
            let (goes_on, done) = self.scans.run(&self.shared, step).await?.ok_or_else(Error::stopping)?;
            reading = goes_on;
            if let Some(offsets) = done? {
                return Ok(offsets);
            }
        }
    }

    /// Number of the first event, in order of arrival, that arrived at or after a time.
    async fn first_since(&self, since: Timestamp) -> Result<Option<u64>> {
        let mut query = Query {
            since: Some(since),
            limit: 1,
            cursors: true,
            priority: Priority::Scan,
            ..Query::default()
        };
        loop {
            let page = self.read(query.clone()).await?;
            if let Some(after) = page.cursors.first() {
                return read_cursor(&self.shared, Listing::All, after).map(|after| after.checked_sub(1));
            }
            let Some(next) = page.next_cursor else { return Ok(None) };
            query.cursor = Some(next);
        }
    }
}

/// The positions `own`, with that changed which a cursor in one topic is of.
fn in_one_topic(
    shared: &Shared,
    topics: &TopicPatterns,
    cursor: &str,
    mut own: BTreeMap<u32, u64>,
) -> Result<BTreeMap<u32, u64>> {
    let mut found = None;
    each_topic(shared, topics, |topic| {
        if let Ok(offset) = read_cursor(shared, Listing::Topic(topic.hash as u64), cursor) {
            found = Some((topic.number, offset, topic.next_offset()));
        }
    });
    let Some((topic, offset, next_offset)) = found else {
        let message = "the cursor is not one of this store, or of none of the consumer's topics: use one that /events \
                       gave, a time, start or end";
        return Err(Error::new(ErrorKind::BadCursor, message));
    };
    if offset > next_offset {
        let message =
            "the cursor is ahead of what is stored: the store is an older copy than the one that gave it";
        return Err(Error::new(ErrorKind::ExpiredCursor, message));
    }
    own.insert(topic, offset);
    Ok(own)
}

/// Shows all topics with events that are meant, some at a time.
fn each_topic(shared: &Shared, topics: &TopicPatterns, mut show: impl FnMut(&Topic)) {
    let mut after = String::new();
    loop {
        let some = shared.topics.holders(Some(&after), CONSUMER_LOOK_TOPICS, Some(topics));
        some.iter().for_each(|topic| show(topic));
        match some.last() {
            Some(last) if some.len() == CONSUMER_LOOK_TOPICS => after = last.name.to_string(),
            _ => return,
        }
    }
}
