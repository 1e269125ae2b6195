//! Pages of every kind against what the listing says, with cursors that are kept over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use sekali::clock::Timestamp;
use sekali::store::{EventStore, Order, Page, Priority, Query, StoredEvent, TopicStats};

use super::expected::{Verdict, require};
use super::runtime::wait;
use super::traffic;
use super::world::{World, patiently};

/// Cursors kept at once.
const KEPT_MAX: usize = 12;

/// A listing that goes on later.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The query for the next page, with its cursor.
    query: Query,
    /// Events that were given so far.
    given: usize,
    /// Events in the store when it began: those of a listing that is descending or has a stop.
    began_with: usize,
}

impl Kept {
    /// What this listing gives from its beginning, as the model knows it.
    fn expected<'e>(&self, events: &'e [StoredEvent]) -> Vec<&'e StoredEvent> {
        let query = &self.query;
        let wanted = |event: &&StoredEvent| {
            query.topic.as_ref().is_none_or(|topic| **topic == *event.topic)
                && query.only.as_ref().is_none_or(|only| only.matches(event.topic.as_bytes()))
                && query.source.as_ref().is_none_or(|source| **source == *event.source)
                && query.since.is_none_or(|since| event.received_at >= since)
                && query.until.is_none_or(|until| event.received_at < until)
        };
        match query.order {
            Order::Ascending if query.stop.is_none() => events.iter().filter(wanted).collect(),
            order => {
                let events = &events[..self.began_with.min(events.len())];
                match order {
                    Order::Ascending => events.iter().filter(wanted).collect(),
                    Order::Descending => events.iter().rev().filter(wanted).collect(),
                }
            }
        }
    }

    /// Reads on, at most `pages` pages; `false` at the end.
    fn go_on(&mut self, world: &World, rng: &mut Rng, pages: usize) -> Verdict<bool> {
        for _ in 0..pages {
            let page = page(world, &self.query)?;
            let expected = self.expected(world.expected.shown_events());
            let expected = expected.get(self.given..).unwrap_or_default();
            require(page.events.len() <= self.query.limit, || {
                format!("a page is too long: {:?}", self.query)
            })?;
            require(page.events.iter().eq(expected.iter().copied().take(page.events.len())), || {
                format!("a page of {:?} is not what comes after {} events", self.query, self.given)
            })?;
            let cursors = if self.query.cursors { page.events.len() } else { 0 };
            require(page.cursors.len() == cursors, || "a page has not one cursor an event".into())?;
            if cursors > 0 && rng.bool() {
                // Not after the page, but after one of its events.
                let at = rng.usize(..cursors);
                self.given += at + 1;
                self.query.cursor = Some(page.cursors[at].clone());
                continue;
            }
            require(page.next_cursor.as_ref().is_none_or(|next| *next == page.reached), || {
                "a page reaches another place than it goes on from".into()
            })?;
            self.given += page.events.len();
            match page.next_cursor {
                Some(cursor) => self.query.cursor = Some(cursor),
                None => {
                    let left = expected.len() - page.events.len();
                    require(left == 0 || self.query.limit == 0, || {
                        format!("{:?} ends {left} events too early", self.query)
                    })?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn page(world: &World, query: &Query) -> Verdict<Page> {
    let store = world.store();
    let page = wait("read", patiently(|| store.read(query.clone())))?;
    page.map_err(|e| format!("{query:?} fails: {e}"))
}

/// Some pages of a listing of any kind; its cursor is kept.
pub fn read(world: &mut World, rng: &mut Rng) -> Verdict {
    let events = world.expected.shown_events();
    let time = |rng: &mut Rng| match events.len() {
        0 => Timestamp(0),
        len => Timestamp(events[rng.usize(..len)].received_at.0 + rng.i64(-1..=1)),
    };
    let mut query = Query {
        topic: rng.bool().then(|| traffic::topic(rng)),
        only: (rng.u8(..5) == 0).then(|| Arc::new(traffic::some_topics(rng))),
        source: (rng.u8(..5) == 0).then(|| traffic::source(rng)),
        since: (rng.u8(..5) == 0).then(|| time(rng)),
        until: (rng.u8(..5) == 0).then(|| time(rng)),
        order: if rng.bool() { Order::Ascending } else { Order::Descending },
        cursor: None,
        stop: None,
        limit: [0, 1, 2, 3, 7, 30, 10_000][rng.usize(..7)],
        bytes_max: (rng.u8(..4) == 0).then(|| rng.usize(1..2_000)),
        client: rng.u64(..2),
        reader: rng.u64(..3),
        priority: if rng.bool() { Priority::Scan } else { Priority::AtOnce },
        cursors: rng.bool(),
    };
    if rng.u8(..4) == 0 {
        let store = world.store();
        query.stop = Some(wait("end", store.end(query.topic.as_deref()))?.map_err(|e| e.to_string())?);
    }
    let pages = rng.usize(1..4);
    let mut kept = Kept { query, given: 0, began_with: events.len() };
    if kept.go_on(world, rng, pages)? {
        if world.kept.len() == KEPT_MAX {
            world.kept.remove(rng.usize(..KEPT_MAX));
        }
        world.kept.push(kept);
    }
    Ok(())
}

/// Goes on from some kept cursors.
pub fn resume(world: &mut World, rng: &mut Rng) -> Verdict {
    for mut kept in std::mem::take(&mut world.kept) {
        let pages = rng.usize(1..4);
        if rng.bool() || kept.go_on(world, rng, pages)? {
            world.kept.push(kept);
        }
    }
    Ok(())
}

/// Reads all kept listings to their end, and keeps them where they are.
pub fn resume_all(world: &World) -> Verdict {
    for kept in &world.kept {
        kept.clone().go_on(world, &mut Rng::with_seed(7), usize::MAX)?;
    }
    Ok(())
}

/// The whole listing backwards, and each topic both ways.
pub fn both_ways(world: &World) -> Verdict {
    let events = world.expected.shown_events();
    let topics: std::collections::BTreeSet<&str> = events.iter().map(|event| &*event.topic).collect();
    let topics = topics.into_iter().map(|topic| Some(topic.to_owned()));
    for topic in std::iter::once(None).chain(topics) {
        for order in [Order::Ascending, Order::Descending] {
            let limit = 1 + events.len() / 3;
            let query = Query { topic: topic.clone(), order, limit, ..Query::default() };
            Kept { query, given: 0, began_with: events.len() }.go_on(
                world,
                &mut Rng::with_seed(7),
                usize::MAX,
            )?;
        }
    }
    Ok(())
}

/// Events that are there are found as they are listed, others not at all.
pub fn find(world: &mut World, rng: &mut Rng) -> Verdict {
    for _ in 0..10 {
        let events = world.expected.shown_events();
        let picked = match events.len() {
            len if len > 0 && rng.bool() => Some(&events[rng.usize(..len)]),
            _ => None,
        };
        let (topic, id) = match picked {
            Some(event) => (event.topic.to_string(), event.event_id.to_string()),
            None => (traffic::topic(rng), rng.u32(..3_100).to_string()),
        };
        let store = world.store();
        let found = wait("find", patiently(|| store.find(&topic, &id, |_| Ok(()))))?;
        let found = found.map_err(|e| format!("find {topic:?} {id:?}: {e}"))?;
        let listed = events.iter().find(|event| *event.topic == *topic && *event.event_id == *id);
        require(found.as_ref() == listed, || format!("{topic:?} {id:?} is found otherwise than listed"))?;
    }
    Ok(())
}

/// Pages of topics agree with the listing and with the totals.
pub fn topics(world: &mut World, rng: &mut Rng) -> Verdict {
    // Counts that wait to become durable are shown from here on.
    let stats = world.stats()?;
    let (mut topics, mut cursor) = (Vec::<TopicStats>::new(), None);
    let limit = rng.usize(1..8);
    loop {
        let store = world.store();
        let page = wait("topics", async { store.topics(cursor.as_deref(), limit, None).await })?;
        let page = page.map_err(|e| format!("topics: {e}"))?;
        topics.extend(page.topics);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let only = traffic::some_topics(rng);
    let store = world.store();
    let some = wait("topics", async { store.topics(None, usize::MAX, Some(&only)).await })?;
    let some = some.map_err(|e| format!("topics: {e}"))?.topics;
    let meant = topics.iter().filter(|topic| only.matches(topic.topic.as_bytes()));
    require(some.iter().map(|topic| &topic.topic).eq(meant.map(|topic| &topic.topic)), || {
        format!("{only:?} means other topics than {some:?}")
    })?;
    let mut expected: BTreeMap<&str, TopicStats> = BTreeMap::new();
    for event in world.expected.shown_events() {
        let topic = expected.entry(&event.topic).or_insert_with(|| TopicStats {
            topic: event.topic.to_string(),
            first_received_at: event.received_at,
            ..TopicStats::default()
        });
        topic.unique_processed += 1;
        (topic.last_offset, topic.last_received_at) = (event.offset, event.received_at);
    }
    let plain = |topic: &TopicStats| TopicStats { duplicate_dropped: 0, conflicts: 0, ..topic.clone() };
    require(topics.iter().map(plain).eq(expected.into_values()), || {
        format!("the topics are not those of the listing: {topics:?}")
    })?;
    world.expected.stats(&stats, true)?;
    let (dropped, conflicts) =
        topics.iter().fold((0, 0), |sum, topic| (sum.0 + topic.duplicate_dropped, sum.1 + topic.conflicts));
    require((dropped, conflicts) == (stats.totals.duplicate_dropped, stats.totals.conflicts), || {
        "the topics' counts do not add up to the totals".into()
    })
}
