//! A page in the making.

use super::cursor::{Listing, read_cursor, write_cursor};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{LOOK_BYTES, PAGE_BYTES_MAX, SCAN_BYTES};
use crate::store::local::format::entries::{EventRecord, EventsHead};
use crate::store::local::shared::Shared;
use crate::store::{Order, Page, Priority, Query, StoredEvent};

/// What an event takes in an answer beside its fields: their names, its offset, its time of
/// arrival.
const EVENT_SURROUND_BYTES: usize = 160;

/// Collects events until the page is full or enough was read.
pub(crate) struct Collector<'a> {
    shared: &'a Shared,
    query: &'a Query,
    listing: Listing,
    /// Event number or offset from which to go on: the first one not yet taken, or the last one
    /// taken.
    pub(crate) position: u64,
    /// What comes from here on is left out.
    pub(crate) end: u64,
    page: Page,
    /// Bytes of the events taken, as they are in an answer.
    bytes: usize,
}

impl<'a> Collector<'a> {
    /// Begins at the query's cursor, or at the near end of `events` durable ones.
    pub(crate) fn new(shared: &'a Shared, query: &'a Query, listing: Listing, events: u64) -> Result<Self> {
        let read = |text: &Option<String>| {
            text.as_deref().map(|text| read_cursor(shared, listing, text)).transpose()
        };
        let end = read(&query.stop)?.unwrap_or(events).min(events);
        let near = if query.order == Order::Ascending { 0 } else { end };
        let position = read(&query.cursor)?.unwrap_or(near);
        if position > events {
            // Cursors are given for what is durable. What had this one is gone, and what comes in
            // its place would be skipped.
            let message = format!(
                "the cursor is ahead of what is stored (at {position}, and the end is at {events}): the store is an older copy than the one \
                 that gave it; start again without a cursor, or with one of before the copy was made"
            );
            return Err(Error::new(ErrorKind::ExpiredCursor, message));
        }
        let position = position.min(end);
        Ok(Self { shared, query, listing, position, end, page: Page::default(), bytes: 0 })
    }

    pub(crate) fn ascending(&self) -> bool {
        self.query.order == Order::Ascending
    }

    pub(crate) fn is_left(&self) -> bool {
        if self.ascending() { self.position < self.end } else { self.position > 0 }
    }

    /// The next event number or offset to look at, if any is left.
    pub(crate) fn target(&self) -> u64 {
        if self.ascending() { self.position } else { self.position.saturating_sub(1) }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.page.events.len() >= self.query.limit
            || self.bytes >= self.query.bytes_max.unwrap_or(PAGE_BYTES_MAX)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_full()
            || self.page.read_bytes
                >= if self.query.priority == Priority::Scan { SCAN_BYTES } else { LOOK_BYTES }
    }

    pub(crate) fn is_ahead(&self, position: u64) -> bool {
        if self.ascending() {
            position >= self.position && position < self.end
        } else {
            position < self.position
        }
    }

    /// Whether any of the places from the first to the one before the last is ahead.
    pub(crate) fn is_any_ahead(&self, (first, behind): (u64, u64)) -> bool {
        if self.ascending() { behind > self.position && first < self.end } else { first < self.position }
    }

    pub(crate) fn arrived_in_range(&self, (min, max): (i64, i64)) -> bool {
        self.query.since.is_none_or(|since| max >= since.0)
            && self.query.until.is_none_or(|until| min < until.0)
    }

    /// So many bytes of the journal, or what costs as much, were read.
    pub(crate) fn count_read(&mut self, bytes: usize) {
        self.page.read_bytes += bytes;
    }

    pub(crate) fn wants(&mut self, head: &EventsHead<'_>, event: &EventRecord<'_>) -> bool {
        let is_wanted = self.arrived_in_range((head.received_at, head.received_at))
            && self.query.source.as_ref().is_none_or(|source| source.as_bytes() == event.source)
            && self.query.only.as_ref().is_none_or(|only| only.matches(head.topic));
        self.page.passed += usize::from(!is_wanted);
        is_wanted
    }

    /// Takes what stands at `place`, if it is wanted; goes on after it.
    pub(crate) fn take(&mut self, position: u64, event: Option<StoredEvent>) {
        self.position = if self.ascending() { position + 1 } else { position };
        let Some(event) = event else { return };
        self.bytes += EVENT_SURROUND_BYTES + event.bytes();
        self.page.events.push(event);
        if self.query.cursors {
            self.page.cursors.push(write_cursor(self.shared, self.listing, self.position));
        }
    }

    /// Goes on after the events with these numbers, of which none is wanted.
    pub(crate) fn pass(&mut self, events: (u64, u64)) {
        self.page.passed += 1;
        self.skip(events);
    }

    /// Goes on after the events with these numbers, the last one exclusive.
    pub(crate) fn skip(&mut self, (first, behind): (u64, u64)) {
        self.position =
            if self.ascending() { self.position.max(behind) } else { self.position.min(first) }.min(self.end);
    }

    pub(crate) fn page(self) -> Page {
        let reached = write_cursor(self.shared, self.listing, self.position);
        let next_cursor = (self.query.limit > 0 && self.is_left()).then(|| reached.clone());
        Page { next_cursor, reached, ..self.page }
    }
}

/// Events of one block or frame, in the order of a page: as they come, or turned round first.
pub(crate) struct Turned {
    ascending: bool,
    waiting: Vec<(u64, Option<StoredEvent>)>,
}

impl Turned {
    pub(crate) fn new(collector: &Collector<'_>) -> Self {
        Self { ascending: collector.ascending(), waiting: Vec::new() }
    }

    /// Returns whether the page has room for more.
    pub(crate) fn take(
        &mut self,
        collector: &mut Collector<'_>,
        position: u64,
        event: Option<StoredEvent>,
    ) -> bool {
        if self.ascending {
            collector.take(position, event);
            return !collector.is_full();
        }
        self.waiting.push((position, event));
        true
    }

    pub(crate) fn finish(self, collector: &mut Collector<'_>) {
        for (position, event) in self.waiting.into_iter().rev() {
            if collector.is_full() {
                return;
            }
            collector.take(position, event);
        }
    }
}
