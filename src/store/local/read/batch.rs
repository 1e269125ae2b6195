//! The next events of several topics, each from a place of its own.

use std::sync::Arc;

use super::cursor::{Listing, read_cursor, write_cursor};
use super::pages::page;
use crate::error::Result;
use crate::limits::LOOK_BYTES;
use crate::store::local::generation::topic::Topic;
use crate::store::local::shared::Shared;
use crate::store::{Query, StoredEvent};

/// What to read.
#[derive(Debug)]
pub(crate) struct BatchQuery {
    /// The topics in order, each with the offset of the first event to give.
    pub(crate) topics: Vec<(Arc<Topic>, u64)>,
    /// At most this many events.
    pub(crate) limit: usize,
    /// End where the events, and what surrounds them in an answer, reach this many bytes.
    pub(crate) bytes_max: usize,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct EventBatch {
    pub(crate) events: Vec<StoredEvent>,
    /// The topics of the events by their numbers, each with the offset after its last event here.
    pub(crate) reached: Vec<(u32, u64)>,
}

/// Reads a batch. Each topic gets an equal share of the events first, and what is left of that goes
/// to those that have more. It reads a bounded amount, and gives at least one event if there is
/// one.
pub(crate) fn batch(shared: &Shared, query: &BatchQuery) -> Result<EventBatch> {
    let mut batch = EventBatch::default();
    let mut at: Vec<u64> = query.topics.iter().map(|(_, from)| *from).collect();
    let (mut bytes, mut read_bytes, mut is_full) = (0, 0, false);
    while !is_full {
        let share = (query.limit - batch.events.len()).div_ceil(query.topics.len().max(1));
        let before = batch.events.len();
        for ((topic, _), at) in query.topics.iter().zip(&mut at) {
            is_full =
                batch.events.len() >= query.limit || bytes >= query.bytes_max || read_bytes >= LOOK_BYTES;
            if is_full {
                break;
            }
            if *at >= topic.next_offset() {
                continue;
            }
            let listing = Listing::Topic(topic.hash as u64);
            let query = Query {
                topic: Some(topic.name.to_string()),
                cursor: Some(write_cursor(shared, listing, *at)),
                limit: share.min(query.limit - batch.events.len()),
                bytes_max: Some(query.bytes_max - bytes),
                ..Query::default()
            };
            let page = page(shared, &query)?;
            *at = read_cursor(shared, listing, &page.reached)?;
            read_bytes += page.read_bytes;
            bytes += page.events.iter().map(StoredEvent::bytes).sum::<usize>();
            batch.events.extend(page.events);
        }
        if batch.events.len() == before {
            break;
        }
    }
    let moved = query.topics.iter().zip(at).filter(|((_, from), at)| from != at);
    batch.reached = moved.map(|((topic, _), at)| (topic.number, at)).collect();
    Ok(batch)
}
