//! Reading: pages of durable events, by topic or over all, in either order.
//!
//! A page reads from one list of generations and up to the durable end as they were when it began.
//! What it reads is bounded, so that nobody waits long for a turn.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use super::collector::{Collector, Turned};
use super::cursor::{Listing, write_cursor};
use crate::clock::Timestamp;
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::block::Block;
use crate::store::local::format::claim::BlockLocation;
use crate::store::local::format::codec::{BLOCK_BYTES_MAX, BlockKind, FixedRecord, FrameHeader};
use crate::store::local::format::entries::{EventRecord, EventsHead};
use crate::store::local::format::frame::Frame;
use crate::store::local::generation::Generation;
use crate::store::local::generation::topic::Topic;
use crate::store::local::sealed::frame_run::FrameRun;
use crate::store::local::shared::Shared;
use crate::store::{Page, Query, StoredEvent};
use crate::sync::atomic::Ordering;

/// What finding a run of frames counts as, of what may be read for one page.
const RUN_BYTES: usize = 8 << 10;
/// What finding a block of a topic counts as.
const BLOCK_FOUND_BYTES: usize = 4 << 10;
/// What is fetched after a run of frames while that is read, where all of a range is wanted. More
/// than one read of the disk, so that it is there when its turn comes; not much more, as syncs wait
/// after it.
const AHEAD_BYTES: NonZeroU64 = NonZeroU64::new(256 << 10).expect("not zero");

/// One page.
pub(crate) fn page(shared: &Shared, query: &Query) -> Result<Page> {
    match &query.topic {
        Some(name) => topic_page(shared, query, name),
        None => whole_page(shared, query),
    }
}

/// The cursor after the last durable event of a topic, or of all.
pub(crate) fn end(shared: &Shared, topic: Option<&str>) -> String {
    match topic {
        Some(name) => {
            let listing = Listing::Topic(shared.secret.topic(name.as_bytes()) as u64);
            write_cursor(shared, listing, shared.topics.get(name).map_or(0, |topic| topic.next_offset()))
        }
        None => write_cursor(shared, Listing::All, shared.visible_events.load(Ordering::Acquire)),
    }
}

/// Durable events of all generations, which are in order.
fn events(generations: &[Arc<Generation>]) -> u64 {
    generations.last().map_or(0, |live| live.first_event + live.events())
}

/// The event at `offset` of `topic`. One that has a block of its own is shown to `check`, which may
/// refuse so many bytes, before it is unpacked.
pub(crate) fn event(
    shared: &Shared,
    topic: &Topic,
    offset: u64,
    check: impl FnOnce(usize) -> Result<()>,
) -> Result<StoredEvent> {
    let (generation, first, location) = locate(shared, topic, offset, None)?;
    let path = generation.journal_path();
    let bytes = kept(&generation, &location, &path)?;
    let block = block(&bytes, &location, &path)?;
    if block.count == 1 {
        check(block.unpacked_bytes())?;
    }
    let mut found = None;
    each_event(&block, first, topic, &mut |block, head, event, at| {
        if at == offset {
            found = Some(stored(block, head, event, at)?);
        }
        Ok(found.is_none())
    })?;
    found.ok_or_else(|| missing(topic, offset))
}

fn topic_page(shared: &Shared, query: &Query, name: &str) -> Result<Page> {
    let listing = Listing::Topic(shared.secret.topic(name.as_bytes()) as u64);
    let topic = shared.topics.get(name);
    let end = topic.as_ref().map_or(0, |topic| topic.next_offset());
    let mut collector = Collector::new(shared, query, listing, end)?;
    let Some(topic) = topic else { return Ok(collector.page()) };
    let mut near = None;
    while collector.is_left() && !collector.is_done() {
        if let Some(lost) = topic.lost_at(collector.target()) {
            collector.skip(lost);
            continue;
        }
        let (generation, first, location) = locate(shared, &topic, collector.target(), near.as_ref())?;
        near = Some(Arc::clone(&generation));
        collector.count_read(BLOCK_FOUND_BYTES + location.length as usize);

        let mut turned = Turned::new(&collector);
        read_block(&generation, first, &location, &topic, &mut |block, head, event, offset| {
            if !collector.is_ahead(offset) {
                return Ok(true);
            }
            let event = match collector.wants(head, event) {
                true => Some(stored(block, head, event, offset)?),
                false => None,
            };
            Ok(turned.take(&mut collector, offset, event))
        })?;
        turned.finish(&mut collector);
    }
    Ok(collector.page())
}

fn whole_page(shared: &Shared, query: &Query) -> Result<Page> {
    let generations = shared.generations();
    let all = events(&generations);
    let mut collector = Collector::new(shared, query, Listing::All, all)?;
    while collector.is_left() && !collector.is_done() {
        let target = collector.target();
        // The last generation that begins at or before it; empty ones begin where the next does.
        let at = generations.partition_point(|generation| generation.first_event <= target);
        let Some(generation) = at.checked_sub(1).and_then(|at| generations.get(at)) else { break };
        if let Some(hole) = generation.hole(target) {
            collector.skip((hole.first_event, hole.next_event));
            continue;
        }
        let numbers = (generation.first_event, generation.first_event + generation.events());
        let closed = generation.closed();
        if target < numbers.1
            && numbers.1 < all
            && !collector.arrived_in_range((closed.received_min, closed.received_max))
        {
            collector.count_read(RUN_BYTES);
            collector.pass(numbers);
            continue;
        }
        let run = generation.frames_near(target)?;
        collector.count_read(RUN_BYTES);
        if collector.arrived_in_range(run.received) {
            if query.stop.is_some() {
                generation.journal()?.prefetch(run.bytes.1, AHEAD_BYTES);
            }
            read_run(generation, &run, &mut collector)?;
        } else {
            collector.pass((run.events.0.min(target), run.events.1.max(target + 1)));
        }
    }
    Ok(collector.page())
}

/// Takes what is wanted of a run of frames.
fn read_run(generation: &Generation, run: &FrameRun, collector: &mut Collector<'_>) -> Result<()> {
    let mut reader = generation.reader()?.short();
    let mut frames = Vec::new();
    let behind_run = run.events.1.min(collector.end);
    let mut at = run.bytes.0;
    while at < run.bytes.1 {
        let header = reader.known_header(at)?;
        let (first, behind) = (header.first_event, header.first_event + u64::from(header.events));
        let is_ahead =
            if collector.ascending() { behind > collector.position } else { first < collector.position };
        if header.events > 0 && is_ahead && first < behind_run {
            frames.push(header.clone());
        }
        at += FrameHeader::BYTES as u64 + u64::from(header.length);
    }
    if !collector.ascending() {
        frames.reverse();
    }
    for header in frames {
        if collector.is_done() {
            return Ok(());
        }
        if collector.arrived_in_range((header.received_min, header.received_max)) {
            let frame = reader.known_frame(header.at)?;
            collector.count_read(frame.bytes.len());
            read_frame(&frame, collector)?;
            if collector.is_full() {
                return Ok(());
            }
            collector.skip((header.first_event, header.first_event + u64::from(header.events)));
        } else {
            collector.pass((header.first_event, header.first_event + u64::from(header.events)));
        }
    }
    let reached = if collector.ascending() {
        collector.position >= behind_run
    } else {
        collector.position <= run.events.0
    };
    if !reached {
        return Err(Error::corrupt(reader.path(), run.bytes.1, "frames are missing before this place"));
    }
    Ok(())
}

/// Takes what is wanted of a frame, until the page is full.
fn read_frame(frame: &Frame<'_>, collector: &mut Collector<'_>) -> Result<()> {
    let mut number = frame.header.first_event;
    let numbered = frame.event_blocks().map(|block| {
        let first = number;
        number += u64::from(block.count);
        (block, first)
    });
    let mut blocks: Vec<_> = numbered.collect();
    if !collector.ascending() {
        blocks.reverse();
    }
    for (block, first) in blocks {
        // Where nothing of it is left to give, it is not unpacked: a large frame is read by many
        // pages.
        if !collector.is_any_ahead((first, first + u64::from(block.count))) {
            continue;
        }
        let body = block.body()?;
        let events = body.events()?;
        let head = events.head;
        let mut turned = Turned::new(collector);
        for (event, number) in events.zip(first..) {
            let (offset, event) = event?;
            if !collector.is_ahead(number) {
                continue;
            }
            let event = match collector.wants(&head, &event) {
                true => Some(stored(&block, &head, &event, offset)?),
                false => None,
            };
            if !turned.take(collector, number, event) {
                return Ok(());
            }
        }
        turned.finish(collector);
        if collector.is_full() {
            return Ok(());
        }
    }
    Ok(())
}

/// The block that holds `offset` of `topic`, and its first one: in the newest generation that has
/// one beginning at or before it. `near` is where the block before was found: most often the next
/// one is there too.
fn locate(
    shared: &Shared,
    topic: &Topic,
    offset: u64,
    near: Option<&Arc<Generation>>,
) -> Result<(Arc<Generation>, u64, BlockLocation)> {
    let all = shared.generations();
    let mut failed = None;
    for generation in near.into_iter().chain(all.iter().rev()) {
        match generation.block(topic, offset) {
            Ok(Some((first, location)))
                if (first..first.saturating_add(location.count.into())).contains(&offset) =>
            {
                return Ok((Arc::clone(generation), first, location));
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

/// Shows the events of a block that begins with offset `first`, each with its offset, as long as
/// `show` wants more.
fn read_block(
    generation: &Generation,
    first: u64,
    location: &BlockLocation,
    topic: &Topic,
    show: &mut dyn FnMut(&Block<'_>, &EventsHead<'_>, &EventRecord<'_>, u64) -> Result<bool>,
) -> Result<()> {
    let path = generation.journal_path();
    let bytes = kept(generation, location, &path)?;
    each_event(&block(&bytes, location, &path)?, first, topic, show)
}

/// What is kept at a location of a journal.
fn kept(generation: &Generation, location: &BlockLocation, path: &Path) -> Result<Vec<u8>> {
    if location.length as usize > BLOCK_BYTES_MAX + 64 {
        return Err(Error::corrupt(path, location.at, "a block's location in the index is impossible"));
    }
    let mut bytes = vec![0; location.length as usize];
    generation.journal()?.read_exact_at(&mut bytes, location.at).during("read", path)?;
    Ok(bytes)
}

/// The block of events that was read from a location.
fn block<'a>(bytes: &'a [u8], location: &BlockLocation, path: &'a Path) -> Result<Block<'a>> {
    // Its head has no checksum of its own; that of its frame is not read here. So all of it is held
    // against the location.
    let is_it = |block: &Block<'_>| block.kind == BlockKind::Events && block.location() == *location;
    Block::open(bytes, location.at, path).ok().filter(is_it).ok_or_else(|| {
        Error::corrupt(path, location.at, "not the block of events that the index says is here")
    })
}

/// Shows the events of a block, which must be the one of `topic` that begins with offset `first`.
fn each_event(
    block: &Block<'_>,
    first: u64,
    topic: &Topic,
    show: &mut dyn FnMut(&Block<'_>, &EventsHead<'_>, &EventRecord<'_>, u64) -> Result<bool>,
) -> Result<()> {
    let body = block.body()?;
    let events = body.events()?;
    let head = events.head;
    if (head.topic, head.first_offset) != (topic.name.as_bytes(), first) {
        return Err(block.corrupt("not the block of this topic and offset"));
    }
    for event in events {
        let (offset, event) = event?;
        if !show(block, &head, &event, offset)? {
            break;
        }
    }
    Ok(())
}

fn stored(
    block: &Block<'_>,
    head: &EventsHead<'_>,
    event: &EventRecord<'_>,
    offset: u64,
) -> Result<StoredEvent> {
    let text = |bytes| block.text(bytes, "an event").map(Box::from);
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
