//! Pages of events, single events, and where listings end.

use tokio_postgres::Row;

use super::connection::{Reader, Statement};
use super::coverage::read_rows;
use super::cursor::{Positions, ahead, read_all, read_topic, write_all, write_topic};
use super::merge::{Key, Merge, Source};
use super::shared::Shared;
use super::topics::TopicId;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::PAGE_BYTES_MAX;
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

const TOPIC_END: Statement =
    ("topics", "SELECT next_offset FROM sekali_topic_counts WHERE slot = $1 AND topic_id = $2");

/// For each range of numbers, the first that arrived at or after a time.
const SLOTS_SINCE: Statement = (
    "since",
    "
    SELECT sekali_search(r.slot, NULL, r.high, $3, NULL)
    FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY r (slot, high, ord) ORDER BY r.ord",
);

const TOPIC_SINCE: Statement = ("since", "SELECT sekali_search($1, $2, $4, $3, NULL)");

/// What a listing goes through.
enum Listing {
    /// Every slot.
    All,
    /// A topic of a slot, with its hash.
    Topic { id: Option<TopicId>, hash: u64 },
}

impl Listing {
    fn write(&self, shared: &Shared, positions: &[i64]) -> String {
        let store = shared.store.half();
        match self {
            Self::All => write_all(store, positions),
            Self::Topic { hash, .. } => {
                write_topic(store, *hash, positions.first().copied().unwrap_or_default())
            }
        }
    }

    fn read(&self, shared: &Shared, text: &str) -> Result<Positions> {
        let store = shared.store.half();
        match self {
            Self::All => read_all(store, shared.store.slots, text),
            Self::Topic { hash, .. } => Ok(vec![read_topic(store, *hash, text)?]),
        }
    }

    /// Where it ends now.
    async fn ends(&self, client: &Reader) -> Result<Positions> {
        match self {
            Self::All => Ok(read_rows(client).await?.iter().map(|row| row.next_seq).collect()),
            Self::Topic { id: None, .. } => Ok(vec![0]),
            Self::Topic { id: Some((slot, topic)), .. } => {
                let rows = client.rows(TOPIC_END, &[slot, topic]).await?;
                Ok(vec![rows.first().map_or(0, |row| row.get(0))])
            }
        }
    }

    /// The first numbers below `highs` that arrived at or after a time.
    async fn since(&self, client: &Reader, at: i64, highs: &[i64]) -> Result<Positions> {
        match self {
            Self::All => seqs_since(client, at, highs).await,
            Self::Topic { id: None, .. } => Ok(vec![0]),
            Self::Topic { id: Some((slot, topic)), .. } => {
                let rows = client.rows(TOPIC_SINCE, &[slot, topic, &at, &highs.first()]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
        }
    }

    fn sources(&self, lows: &[i64], highs: &[i64]) -> Vec<Source> {
        match self {
            Self::All => {
                let ranges = (0..).zip(lows.iter().zip(highs));
                ranges.map(|(slot, (low, high))| Source::new(slot, None, *low, *high)).collect()
            }
            Self::Topic { id: Some((slot, topic)), .. } => {
                vec![Source::new(*slot, Some(*topic), lows[0], highs[0])]
            }
            Self::Topic { id: None, .. } => Vec::new(),
        }
    }
}

/// Of each slot the first number below `highs` that arrived at or after a time.
///
/// # Errors
/// `Overloaded`.
pub(crate) async fn seqs_since(client: &Reader, at: i64, highs: &[i64]) -> Result<Positions> {
    let slots: Vec<i16> = (0..).take(highs.len()).collect();
    let rows = client.rows(SLOTS_SINCE, &[&slots, &highs, &at]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn listing(shared: &Shared, client: &Reader, topic: Option<&str>) -> Result<Listing> {
    let Some(topic) = topic else { return Ok(Listing::All) };
    let id = shared.topics.id(client, topic).await?;
    Ok(Listing::Topic { id, hash: shared.store.hash(topic.as_bytes()) })
}

/// One page of events.
///
/// # Errors
/// `BadCursor`, `ExpiredCursor`, `Overloaded`, `Unsure`, `Corrupt`.
pub(crate) async fn page(shared: &Shared, query: &Query) -> Result<Page> {
    let (page, taken) = {
        let client = shared.connections.read().await?;
        read(shared, &client, query).await?
    };
    let shown = taken.iter().map(|key| (usize::try_from(key.topic.0).unwrap_or_default(), key.seq));
    shared.coverage.events(&shared.connections, shown).await?;
    Ok(page)
}

/// A page, which may not be covered, and the keys of its events.
async fn read(shared: &Shared, client: &Reader, query: &Query) -> Result<(Page, Vec<Key>)> {
    let listing = listing(shared, client, query.topic.as_deref()).await?;
    let (mut positions, merge) = begin(shared, client, query, &listing).await?;
    let mut merge = merge;
    let (mut page, mut taken, mut bytes) = (Page::default(), Vec::new(), 0);
    let bytes_max = query.bytes_max.unwrap_or(PAGE_BYTES_MAX);
    while taken.len() < query.limit && bytes < bytes_max {
        if merge.is_dry() {
            let Some(keys) = merge.fill(client).await? else { break };
            shared.topics.name_all(client, keys.iter().map(|key| key.topic)).await?;
        }
        let Some(key) = merge.next() else { break };
        positions[key.source] = if query.order == Order::Ascending { key.place + 1 } else { key.place };
        let is_meant = |only: &crate::event::pattern::TopicPatterns| {
            only.matches(shared.topics.name(key.topic).as_bytes())
        };
        if !key.is_wanted
            || !has_arrived(&key, query)
            || query.only.as_deref().is_some_and(|only| !is_meant(only))
        {
            page.passed += 1;
            continue;
        }
        bytes += EVENT_SURROUND_BYTES + key.bytes + shared.topics.name(key.topic).len();
        taken.push(key);
        if query.cursors {
            page.cursors.push(listing.write(shared, &positions));
        }
    }
    page.events = events(shared, client, &taken).await?;
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
    client: &Reader,
    query: &'q Query,
    listing: &Listing,
) -> Result<(Positions, Merge<'q>)> {
    let ends = listing.ends(client).await?;
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
        lows = listing.since(client, since.0.saturating_sub(slack), &highs).await?;
    }
    if let Some(until) = query.until {
        highs = listing.since(client, until.0.saturating_add(slack), &highs).await?;
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
    let sources = listing.sources(&lows, &highs);
    let merge = Merge::new(query.order, query.source.as_deref(), sources, query.limit, query.is_scan);
    Ok((positions, merge))
}

/// The events of these keys.
async fn events(shared: &Shared, client: &Reader, keys: &[Key]) -> Result<Vec<StoredEvent>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (slots, seqs): (Vec<i16>, Vec<i64>) = keys.iter().map(|key| (key.topic.0, key.seq)).unzip();
    let rows = client.rows(EVENTS, &[&slots, &seqs]).await?;
    match rows.len() == keys.len() {
        true => Ok(rows.iter().map(|row| event(shared, row)).collect()),
        false => Err(Error::new(
            ErrorKind::Corrupt,
            "the database no longer has an event that it had a moment ago",
        )),
    }
}

/// An event as a row that begins with its slot, its topic's number, its texts, its offset and its
/// arrival.
pub(crate) fn event(shared: &Shared, row: &Row) -> StoredEvent {
    let text = |column| row.get::<_, &str>(column).into();
    StoredEvent {
        topic: (&*shared.topics.name((row.get(0), row.get(1)))).into(),
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
    let (found, slot, seq) = {
        let client = shared.connections.read().await?;
        let Some((slot, id)) = shared.topics.id(&client, topic).await? else { return Ok(None) };
        let rows = client.rows(FIND, &[&slot, &id, &event_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        (event(shared, row), slot, row.get(8))
    };
    let shown = (usize::try_from(slot).unwrap_or_default(), seq);
    shared.coverage.events(&shared.connections, std::iter::once(shown)).await?;
    Ok(Some(found))
}

/// The cursor after the newest event, of `topic` or of all.
///
/// # Errors
/// `Overloaded`, `Unsure`.
pub(crate) async fn end(shared: &Shared, topic: Option<&str>) -> Result<String> {
    let Some(topic) = topic else {
        let rows = shared.coverage.rows(&shared.connections).await?;
        return Ok(write_all(shared.store.half(), &rows.iter().map(|row| row.next_seq).collect::<Vec<_>>()));
    };
    let (listing, ends) = {
        let client = shared.connections.read().await?;
        let listing = listing(shared, &client, Some(topic)).await?;
        let ends = listing.ends(&client).await?;
        (listing, ends)
    };
    // Its slot is not behind it when it is read afterwards.
    shared.coverage.rows(&shared.connections).await?;
    Ok(listing.write(shared, &ends))
}
