//! Pages of events, single events, and where listings end.

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use super::cursor::{Positions, ahead, write_all};
use super::listing::Listing;
use super::merge::{Key, Merge};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::PAGE_BYTES_MAX;
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::groups::Readers;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::Names;
use crate::store::{Order, Page, Query, StoredEvent};

/// What an event takes in an answer beside its fields.
pub(crate) const EVENT_SURROUND_BYTES: usize = 160;

const EVENTS: Statement = (
    "events",
    "
    SELECT e.slot, e.topic_id, e.event_id, e.timestamp, e.source, e.payload, e.topic_offset, e.received_at
    FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY k (slot, seq, ord)
    CROSS JOIN LATERAL (SELECT * FROM sekali_events e WHERE e.slot = k.slot AND e.seq = k.seq LIMIT 1) e
    ORDER BY k.ord",
);

const FIND: Statement = (
    "find",
    "
    SELECT e.slot, e.topic_id, e.event_id, e.timestamp, e.source, e.payload, e.topic_offset, e.received_at, e.seq
    FROM (SELECT * FROM sekali_ids i WHERE i.slot = $1 AND i.topic_id = $2 AND i.event_id = $3 LIMIT 1) i
    CROSS JOIN LATERAL (SELECT * FROM sekali_events e WHERE e.slot = $1 AND e.seq = i.seq LIMIT 1) e",
);

/// One page of events.
///
/// # Errors
/// `BadCursor`, `ExpiredCursor`, `Overloaded`, `Unsure`, `Corrupt`.
pub(crate) async fn page(shared: &Shared, query: &Query) -> Result<Page> {
    let primaries = shared.groups.primaries();
    let (page, taken) = read(shared, query).await?;
    shared.groups.cover(&primaries, taken.iter().map(|key| (key.topic.0, key.seq))).await?;
    Ok(page)
}

/// A page, which may not be covered, and the keys of its events.
async fn read(shared: &Shared, query: &Query) -> Result<(Page, Vec<Key>)> {
    let (listing, readers) = Listing::of(shared, query.topic.as_deref()).await?;
    let (mut positions, mut merge) = begin(shared, &readers, query, &listing).await?;
    let (mut page, mut taken, mut bytes) = (Page::default(), Vec::new(), 0);
    // Its own, as they may not be covered before its events are.
    let mut names = Names::new();
    let bytes_max = query.bytes_max.unwrap_or(PAGE_BYTES_MAX);
    while taken.len() < query.limit && bytes < bytes_max {
        if merge.is_dry() {
            let Some(keys) = merge.fill(&shared.groups, &readers).await? else { break };
            shared.name_all(&readers, keys.iter().map(|key| key.topic), &mut names).await?;
        }
        let Some(key) = merge.next() else { break };
        positions[key.reader] = if query.order == Order::Ascending { key.place + 1 } else { key.place };
        let name = names.get(&key.topic).map_or("", |name| &**name);
        if !key.is_wanted
            || !has_arrived(&key, query)
            || query.only.as_deref().is_some_and(|only| !only.matches(name.as_bytes()))
        {
            page.passed += 1;
            continue;
        }
        bytes += EVENT_SURROUND_BYTES + key.bytes + name.len();
        taken.push(key);
        if query.cursors {
            page.cursors.push(listing.write(shared, &positions));
        }
    }
    page.events = events(shared, &readers, &taken, &names).await?;
    page.reached = listing.write(shared, &positions);
    page.next_cursor = (query.limit > 0 && merge.is_left()).then(|| page.reached.clone());
    page.read_bytes = merge.bytes;
    Ok((page, taken))
}

/// Whether an event arrived at a time that is asked for.
fn has_arrived(key: &Key, query: &Query) -> bool {
    query.since.is_none_or(|since| key.received_at >= since.0)
        && query.until.is_none_or(|until| key.received_at < until.0)
}

/// Where a page begins, and what it goes through.
async fn begin<'q>(
    shared: &Shared,
    readers: &Readers,
    query: &'q Query,
    listing: &Listing,
) -> Result<(Positions, Merge<'q>)> {
    let ends = listing.ends(shared, readers).await?;
    let least = |a: &[i64], b: &[i64]| -> Positions { a.iter().zip(b).map(|(a, b)| *a.min(b)).collect() };
    let mut highs = match &query.stop {
        Some(stop) => least(&listing.read(shared, stop)?, &ends),
        None => ends.clone(),
    };
    let mut positions = match (&query.cursor, query.order) {
        (Some(cursor), _) => listing.read(shared, cursor)?,
        (None, Order::Ascending) => vec![0; ends.len()],
        (None, Order::Descending) => highs.clone(),
    };
    if positions.iter().zip(&ends).any(|(position, end)| position > end) {
        return Err(ahead());
    }
    positions = least(&positions, &highs);
    let mut lows = vec![0; ends.len()];
    // What arrived before an event with a lower number is told apart one by one.
    let slack = shared.store.arrival_slack;
    if let Some(since) = query.since {
        lows = listing.since(shared, readers, since.0.saturating_sub(slack), &highs).await?;
    }
    if let Some(until) = query.until {
        highs = listing.since(shared, readers, until.0.saturating_add(slack), &highs).await?;
    }
    match query.order {
        Order::Ascending => {
            positions = positions.iter().zip(&lows).map(|(position, low)| *position.max(low)).collect();
            lows.clone_from(&positions);
        }
        Order::Descending => {
            positions = least(&positions, &highs);
            highs.clone_from(&positions);
        }
    }
    let slot_readers = listing.slot_readers(&lows, &highs);
    let merge = Merge::new(query.order, query.source.as_deref(), slot_readers, query.limit, query.priority);
    Ok((positions, merge))
}

/// The events of these keys, in their order.
async fn events(shared: &Shared, readers: &Readers, keys: &[Key], names: &Names) -> Result<Vec<StoredEvent>> {
    let sorted = shared.groups.sort(keys.iter().enumerate(), |(_, key)| key.topic.0);
    let asked = sorted.iter().enumerate().filter(|(_, keys)| !keys.is_empty());
    let reads = asked.clone().map(async |(place, keys)| {
        let (slots, seqs): (Vec<i16>, Vec<i64>) = keys.iter().map(|(_, key)| (key.topic.0, key.seq)).unzip();
        readers.of(place)?.rows(EVENTS, &[&slots, &seqs]).await
    });
    let mut events: Vec<Option<StoredEvent>> = vec![None; keys.len()];
    for ((_, keys), rows) in asked.zip(try_join_all(reads).await?) {
        if rows.len() == keys.len() {
            keys.iter().zip(&rows).for_each(|((number, key), row)| {
                events[*number] = names.get(&key.topic).map(|topic| event(topic, row));
            });
        }
    }
    events.into_iter().collect::<Option<_>>().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the database no longer has an event that it had a moment ago")
    })
}

/// An event of a topic as a row that has its texts, its offset and its arrival after two columns.
pub(crate) fn event(topic: &str, row: &Row) -> StoredEvent {
    let text = |column| row.get::<_, &str>(column).into();
    StoredEvent {
        topic: topic.into(),
        event_id: text(2),
        timestamp: text(3),
        source: text(4),
        payload: text(5),
        offset: row.get::<_, i64>(6).unsigned_abs(),
        received_at: Timestamp(row.get(7)),
    }
}

/// The stored event with this id.
///
/// # Errors
/// `Overloaded`, `Unsure`.
pub(crate) async fn find(shared: &Shared, topic: &str, event_id: &str) -> Result<Option<StoredEvent>> {
    let place = shared.groups.place(shared.store.slot(topic.as_bytes()));
    let primaries = shared.groups.primaries();
    let (found, slot, seq) = {
        let client = shared.groups.get(place).connections.read().await?;
        let Some((slot, id)) = shared.id(place, &client, topic).await? else { return Ok(None) };
        let rows = client.rows(FIND, &[&slot, &id, &event_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        (event(topic, row), slot, row.get(8))
    };
    shared.groups.cover(&primaries, [(slot, seq)]).await?;
    Ok(Some(found))
}

/// The cursor after the newest event, of `topic` or of all.
///
/// # Errors
/// `Overloaded`, `Unsure`.
pub(crate) async fn end(shared: &Shared, topic: Option<&str>) -> Result<String> {
    let Some(topic) = topic else {
        let rows = shared.groups.rows().await?;
        return Ok(write_all(shared.store.half(), &rows.iter().map(|row| row.next_seq).collect::<Vec<_>>()));
    };
    let (listing, ends) = {
        let (listing, readers) = Listing::of(shared, Some(topic)).await?;
        let ends = listing.ends(shared, &readers).await?;
        (listing, ends)
    };
    // Its slot is not behind it when it is read afterwards.
    shared.groups.of(shared.store.slot(topic.as_bytes())).rows().await?;
    Ok(listing.write(shared, &ends))
}
