//! Reading: pages of durable events, by topic or over all, in either order.
//!
//! A page reads from one list of generations and up to the durable end as they were when it began. A cursor is a
//! position (event number, or offset in a topic) of one store, never a place in a file. It names the first event not
//! yet given: ascending pages go on from it, descending ones from the one before it.

use std::sync::Arc;

use super::core::Core;
use super::frame::{Block, unreadable};
use super::generation::{FrameRun, Generation};
use super::topic::Topic;
use crate::clock::Timestamp;
use crate::codec::{BlockKind, BlockPlace, EventRecord, EventsHead};
use crate::error::{During, Error, ErrorKind, Result};
use crate::limits::PAGE_SCAN_BYTES_MAX;
use crate::store::{Order, Page, Query, StoredEvent};

/// What finding a run of frames counts as, of what may be read for one page.
const RUN_BYTES: usize = 8 << 10;

/// What a cursor points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    All,
    /// Low half of the topic's hash.
    Topic(u64),
}

/// `a` or `t`, then in hexadecimal: half of the store's id, the position, and for a topic half of its hash.
fn write_cursor(core: &Core, listing: Listing, position: u64) -> String {
    let store = store_half(core);
    match listing {
        Listing::All => format!("a{store:016x}{position:016x}"),
        Listing::Topic(hash) => format!("t{store:016x}{position:016x}{hash:016x}"),
    }
}

fn read_cursor(core: &Core, listing: Listing, text: &str) -> Result<u64> {
    let position = text.get(17..33).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match position {
        Some(position) if write_cursor(core, listing, position) == text => Ok(position),
        _ => {
            let message = "the cursor is not one of this listing of this store; start again without a cursor";
            Err(Error::new(ErrorKind::BadCursor, message))
        }
    }
}

fn store_half(core: &Core) -> u64 {
    u128::from_be_bytes(core.store_id) as u64
}

/// One page.
pub(crate) fn page(core: &Core, query: &Query) -> Result<Page> {
    match &query.topic {
        Some(name) => topic_page(core, query, name),
        None => whole_page(core, query),
    }
}

/// The event at `offset` of `topic`.
pub(crate) fn event(core: &Core, topic: &Topic, offset: u64) -> Result<StoredEvent> {
    let (generation, place) = locate(core, topic, offset, None)?;
    let mut found = None;
    read_block(&generation, &place, topic, &mut |head, event, at| {
        if at == offset {
            found = Some(stored(&generation, place.at, head, event, at)?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| missing(topic, offset))
}

/// Collects events until the page is full or enough was read.
struct Collector<'a> {
    query: &'a Query,
    events: Vec<StoredEvent>,
    read_bytes: usize,
}

impl<'a> Collector<'a> {
    fn new(query: &'a Query) -> Self {
        Self { query, events: Vec::new(), read_bytes: 0 }
    }

    fn is_done(&self) -> bool {
        self.events.len() >= self.query.limit || self.read_bytes >= PAGE_SCAN_BYTES_MAX
    }

    fn arrived_in_range(&self, (min, max): (i64, i64)) -> bool {
        self.query.since.is_none_or(|since| max >= since.0)
            && self.query.until.is_none_or(|until| min < until.0)
    }

    fn wants(&self, head: &EventsHead<'_>, event: &EventRecord<'_>) -> bool {
        self.arrived_in_range((head.received_at, head.received_at))
            && self.query.source.as_ref().is_none_or(|source| source.as_bytes() == event.source)
    }

    fn page(self, core: &Core, listing: Listing, next: Option<u64>) -> Page {
        Page { events: self.events, next_cursor: next.map(|position| write_cursor(core, listing, position)) }
    }
}

fn topic_page(core: &Core, query: &Query, name: &str) -> Result<Page> {
    let hash = core.secret.topic(name.as_bytes());
    let listing = Listing::Topic(hash as u64);
    let cursor = query.cursor.as_deref().map(|text| read_cursor(core, listing, text)).transpose()?;
    let Some(topic) = core.topics.get(name) else { return Ok(Page::default()) };
    let end = topic.next_offset();
    let mut collector = Collector::new(query);
    let ascending = query.order == Order::Ascending;
    let mut position = cursor.unwrap_or(if ascending { 0 } else { end }).min(end);
    let is_left = |position: u64| if ascending { position < end } else { position > 0 };
    let mut near = None;
    while is_left(position) && !collector.is_done() {
        let wanted = if ascending { position } else { position - 1 };
        let (generation, place) = locate(core, &topic, wanted, near.as_ref())?;
        near = Some(Arc::clone(&generation));

        let mut block = Vec::new();
        read_block(&generation, &place, &topic, &mut |head, event, offset| {
            let is_ahead = if ascending { offset >= position } else { offset < position };
            let wanted = is_ahead && collector.wants(head, event);
            let event = if wanted { Some(stored(&generation, place.at, head, event, offset)?) } else { None };
            block.push((offset, event));
            Ok(())
        })?;
        collector.read_bytes += place.length as usize;
        if !ascending {
            block.reverse();
        }
        for (offset, event) in block {
            if collector.events.len() >= query.limit {
                break;
            }
            collector.events.extend(event);
            position = if ascending { position.max(offset + 1) } else { position.min(offset) };
        }
    }
    let next = (query.limit > 0 && is_left(position)).then_some(position);
    Ok(collector.page(core, listing, next))
}

fn whole_page(core: &Core, query: &Query) -> Result<Page> {
    let cursor = query.cursor.as_deref().map(|text| read_cursor(core, Listing::All, text)).transpose()?;
    let generations = core.generations();
    let end = generations.last().map_or(0, |live| live.first_event + live.events());
    let mut collector = Collector::new(query);
    let ascending = query.order == Order::Ascending;
    let mut position = cursor.unwrap_or(if ascending { 0 } else { end }).min(end);
    let is_left = |position: u64| if ascending { position < end } else { position > 0 };
    while is_left(position) && !collector.is_done() {
        let target = if ascending { position } else { position - 1 };
        // The last generation that begins at or before it; empty ones begin where the next does.
        let at = generations.partition_point(|generation| generation.first_event <= target);
        let Some(generation) = at.checked_sub(1).and_then(|at| generations.get(at)) else { break };
        let (first, behind) = (generation.first_event, generation.first_event + generation.events());
        let closed = generation.closed();
        if target < behind
            && behind < end
            && !collector.arrived_in_range((closed.received_min, closed.received_max))
        {
            position = if ascending { behind } else { first };
            continue;
        }
        let run = generation.frames_near(target)?;
        collector.read_bytes += RUN_BYTES;
        let run = FrameRun { events: (run.events.0, run.events.1.min(end)), ..run };
        if collector.arrived_in_range(run.received) {
            position = read_run(generation, &run, ascending, position, &mut collector)?;
        } else {
            position =
                if ascending { run.events.1.max(position + 1) } else { run.events.0.min(position - 1) };
        }
    }
    let next = (query.limit > 0 && is_left(position)).then_some(position);
    Ok(collector.page(core, Listing::All, next))
}

/// Takes what is wanted of a run of frames; returns the position reached.
fn read_run(
    generation: &Generation,
    run: &FrameRun,
    ascending: bool,
    mut position: u64,
    collector: &mut Collector<'_>,
) -> Result<u64> {
    let path = generation.journal_path();
    let mut reader = generation.reader()?.short();
    let mut frames = Vec::new();
    let mut at = run.bytes.0;
    while at < run.bytes.1 {
        let Some(header) = reader.header(at, &path)? else {
            return Err(Error::corrupt(&path, at, "no valid frame"));
        };
        let (first, behind) = (header.first_event, header.first_event + u64::from(header.events));
        let is_ahead = if ascending { behind > position } else { first < position };
        if header.events > 0 && is_ahead && first < run.events.1 {
            frames.push(header.clone());
        }
        at += crate::codec::FixedRecord::encoded(&header).len() as u64 + u64::from(header.length);
    }
    if !ascending {
        frames.reverse();
    }
    for header in frames {
        if collector.is_done() {
            return Ok(position);
        }
        let behind = header.first_event + u64::from(header.events);
        if collector.arrived_in_range((header.received_min, header.received_max)) {
            let Some(frame) = reader.frame(header.at, &path)? else {
                return Err(Error::corrupt(&path, header.at, "no valid frame"));
            };
            collector.read_bytes += frame.bytes.len();
            let mut events = Vec::new();
            let mut number = header.first_event;
            for block in frame.blocks().filter(|block| block.kind == BlockKind::Events) {
                let (head, entries) = block.events().map_err(|e| unreadable(&path, block.at, e))?;
                for (event, offset) in entries.zip(head.first_offset..) {
                    let event = event.map_err(|e| unreadable(&path, block.at, e))?;
                    let is_ahead = if ascending { number >= position } else { number < position };
                    let wanted = is_ahead && collector.wants(&head, &event);
                    if is_ahead {
                        let event = if wanted {
                            Some(stored(generation, block.at, &head, &event, offset)?)
                        } else {
                            None
                        };
                        events.push((number, event));
                    }
                    number += 1;
                }
            }
            if !ascending {
                events.reverse();
            }
            for (number, event) in events {
                if collector.events.len() >= collector.query.limit {
                    return Ok(position);
                }
                collector.events.extend(event);
                position = if ascending { number + 1 } else { number };
            }
        }
        position = if ascending { position.max(behind) } else { position.min(header.first_event) };
    }
    let reached = if ascending { position >= run.events.1 } else { position <= run.events.0 };
    if !reached {
        return Err(Error::corrupt(&path, run.bytes.1, "frames are missing before this place"));
    }
    Ok(position)
}

/// The block that holds `offset` of `topic`: in the newest generation that has one beginning at or before it.
/// `near` is where the block before was found: most often the next one is there too.
fn locate(
    core: &Core,
    topic: &Topic,
    offset: u64,
    near: Option<&Arc<Generation>>,
) -> Result<(Arc<Generation>, BlockPlace)> {
    let all = core.generations();
    let mut failed = None;
    for generation in near.into_iter().chain(all.iter().rev()) {
        match generation.block(topic, offset) {
            Ok(Some((first, place))) if offset - first < u64::from(place.count) => {
                return Ok((Arc::clone(generation), place));
            }
            Ok(_) => {}
            // An older generation may have it all the same.
            Err(e) => failed = Some(e),
        }
    }
    let doubt = || all.iter().rev().find_map(|generation| generation.doubt_block());
    Err(failed.or_else(doubt).unwrap_or_else(|| missing(topic, offset)))
}

fn missing(topic: &Topic, offset: u64) -> Error {
    let message = format!(
        "offset {offset} of a topic with {} events can't be found: stop the service and run `sekali verify`",
        topic.next_offset()
    );
    Error::new(ErrorKind::Corrupt, message)
}

/// Shows each event of a block, with its offset.
fn read_block(
    generation: &Generation,
    place: &BlockPlace,
    topic: &Topic,
    show: &mut dyn FnMut(&EventsHead<'_>, &EventRecord<'_>, u64) -> Result<()>,
) -> Result<()> {
    let path = generation.journal_path();
    if place.length as usize > crate::codec::BLOCK_BYTES_MAX + 64 {
        return Err(Error::corrupt(&path, place.at, "a block's place in the index is impossible"));
    }
    let mut bytes = vec![0; place.length as usize];
    generation.journal()?.read_exact_at(&mut bytes, place.at).during("read", &path)?;
    let block = Block::open(&bytes, place.at).map_err(|e| unreadable(&path, place.at, e))?;
    if block.kind != BlockKind::Events {
        return Err(Error::corrupt(&path, place.at, "not a block of events"));
    }
    let (head, events) = block.events().map_err(|e| unreadable(&path, place.at, e))?;
    if head.topic != topic.name.as_bytes() {
        return Err(Error::corrupt(&path, place.at, "a block of another topic"));
    }
    for (event, offset) in events.zip(head.first_offset..) {
        show(&head, &event.map_err(|e| unreadable(&path, place.at, e))?, offset)?;
    }
    Ok(())
}

fn stored(
    generation: &Generation,
    at: u64,
    head: &EventsHead<'_>,
    event: &EventRecord<'_>,
    offset: u64,
) -> Result<StoredEvent> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Box::from(text)),
        Err(_) => Err(Error::corrupt(&generation.journal_path(), at, "an event is not UTF-8")),
    };
    Ok(StoredEvent {
        topic: text(head.topic)?,
        event_id: text(event.event_id)?,
        timestamp: text(event.timestamp)?,
        source: text(event.source)?,
        payload: text(event.payload)?,
        offset,
        received_at: Timestamp(head.received_at),
    })
}
