//! Making, moving and ending consumers.

use tokio_postgres::types::ToSql;

use super::consumer_row::{ConsumerRow, find, find_meant, none};
use super::topic_notes::topics_after;
use super::{no_room, random};
use crate::consumer::{ConsumerKey, ConsumerName, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::limits::{CONSUMER_LOOK_TOPICS, CONSUMERS_MAX, POSITIONS_MAX};
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::read::cursor::{ahead, read_all, read_topic, topic_hash};
use crate::store::postgres::read::listing::seqs_since;
use crate::store::postgres::write::retry::change;

const BEGIN: Statement = ("consumer", "SELECT sekali_begin_consumer($1, $2, $3, $4, $5, $6, $7, $8, $9)");

/// Ends a consumer, if it still has this filter once its row is locked.
const END: Statement = (
    "consumer",
    "
    SELECT sekali_end_consumer(c.name)
    FROM (SELECT k.name FROM sekali_consumers k WHERE k.name = $1 AND k.topics = $2 FOR UPDATE) c",
);
const OF_SLOT: Statement = (
    "topics",
    "
    SELECT t.slot, t.topic_id, t.name, c.next_offset FROM sekali_topics t
    CROSS JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
                        WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
    WHERE t.slot = $1",
);

/// Topics of a filter, and the offset of the first event of each that has at least its slot's
/// number.
const BEFORE: Statement = (
    "since",
    topics_after!(
        "p.next_offset",
        "CROSS JOIN LATERAL (SELECT CASE
         WHEN EXISTS (SELECT FROM sekali_events e WHERE e.slot = t.slot AND e.topic_id = t.topic_id
                        AND e.topic_offset = c.next_offset - 1 AND e.seq >= ($5::bigint[])[t.slot + 1])
         THEN sekali_search(t.slot, t.topic_id, c.next_offset, NULL, ($5::bigint[])[t.slot + 1])
         ELSE c.next_offset END AS next_offset) p"
    ),
);

/// Where a consumer goes on.
#[derive(Debug, Default)]
struct Positions {
    /// Topics, each with the offset of the first event to give.
    topics: Vec<String>,
    next_offsets: Vec<i64>,
    /// In other topics it stays where it is; else it begins there with the first event.
    keeps: bool,
}

/// Makes a consumer; whether it was made.
///
/// # Errors
/// `Conflict`, `BadCursor`, `ExpiredCursor`, `NoSpace`, `Overloaded`, `Unsure`.
pub(crate) async fn put(shared: &Shared, key: &ConsumerKey, start: &Start) -> Result<bool> {
    let ConsumerKey { name, topics } = key;
    let primaries = shared.groups.primaries();
    let begun = match find(shared, name).await {
        // A start is not looked at for one that is there.
        Ok(row) => Some(if row.topics == *topics { 1 } else { 2 }),
        Err(e) if e.kind() == ErrorKind::NoConsumer => {
            let positions = positions_of(shared, topics, start).await?;
            begin(shared, name, None, topics, positions).await?
        }
        Err(e) => return Err(e),
    };
    match begun {
        Some(0) => Ok(true),
        Some(1) => shared.groups.commit_at_home(&primaries).await.map(|()| false),
        Some(2) => {
            let message = format!(
                "there is a consumer {name} with other topics, and its topics don't change: give this one another name, or \
                 remove that one first"
            );
            Err(Error::new(ErrorKind::Conflict, message))
        }
        Some(3) => {
            let message =
                format!("there are {CONSUMERS_MAX} consumers, as many as there may be: remove some");
            Err(Error::new(ErrorKind::NoSpace, message))
        }
        _ => Err(no_room()),
    }
}

/// Has a consumer go on elsewhere.
///
/// # Errors
/// `NoConsumer`, and those of [`put`].
pub(crate) async fn seek(shared: &Shared, key: &ConsumerKey, to: &Start) -> Result<()> {
    let name = &key.name;
    loop {
        let ConsumerRow { number, topics, .. } = find_meant(shared, key).await?;
        let positions = positions_of(shared, &topics, to).await?;
        match begin(shared, name, Some(number), &topics, positions).await? {
            Some(0) => return Ok(()),
            None => return Err(none(name)),
            // It was changed at the same time: this comes after that.
            Some(2) => {}
            Some(_) => return Err(no_room()),
        }
    }
}

/// Ends a consumer; whether there was one.
///
/// # Errors
/// `Overloaded`, `Unsure`.
pub(crate) async fn end(shared: &Shared, key: &ConsumerKey) -> Result<bool> {
    let patterns: Vec<String> = key.topics.iter().map(TopicPattern::to_string).collect();
    let primaries = shared.groups.primaries();
    let rows = change(shared, END, &[&key.name.as_str(), &patterns]).await?;
    let was_there = rows.first().is_some_and(|row| row.get(0));
    if !was_there {
        shared.groups.commit_at_home(&primaries).await?;
    }
    Ok(was_there)
}

async fn begin(
    shared: &Shared,
    name: &ConsumerName,
    replaces: Option<i64>,
    topics: &TopicPatterns,
    positions: Positions,
) -> Result<Option<i16>> {
    let patterns: Vec<String> = topics.iter().map(TopicPattern::to_string).collect();
    let Positions { topics, next_offsets, keeps } = positions;
    let rows = change(
        shared,
        BEGIN,
        &[
            &name.as_str(),
            &replaces,
            &random()?,
            &patterns,
            &topics,
            &next_offsets,
            &keeps,
            &(CONSUMERS_MAX as i64),
            &(POSITIONS_MAX as i64),
        ],
    )
    .await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

async fn positions_of(shared: &Shared, topics: &TopicPatterns, start: &Start) -> Result<Positions> {
    let seqs = match start {
        Start::Start => return Ok(Positions::default()),
        Start::End => shared.patiently(|| ends(shared)).await?,
        Start::Time(since) => {
            let since = || async {
                let ends = ends(shared).await?;
                let readers = shared.groups.readers().await?;
                seqs_since(shared, &readers, since.0.saturating_sub(shared.store.arrival_slack), &ends).await
            };
            shared.patiently(since).await?
        }
        Start::Cursor(cursor) => {
            let Ok(seqs) = read_all(shared.store.half(), shared.store.slots, cursor) else {
                return shared.patiently(|| in_one_topic(shared, topics, cursor)).await;
            };
            let ends = shared.patiently(|| ends(shared)).await?;
            if seqs.iter().zip(&ends).any(|(seq, end)| seq > end) {
                return Err(ahead());
            }
            seqs
        }
    };
    before(shared, topics, &seqs).await
}

/// Where topics are before these numbers of slots. What is before a number never changes, so topics
/// are looked at some at a time.
async fn before(shared: &Shared, topics: &TopicPatterns, seqs: &[i64]) -> Result<Positions> {
    let ((firsts, lasts), mut positions) = (topics.ranges(), Positions::default());
    let limit = CONSUMER_LOOK_TOPICS as i64;
    for group in shared.groups.iter() {
        let mut after = Some(String::new());
        while let Some(name) = after {
            let parameters: [&(dyn ToSql + Sync); 5] = [&firsts, &lasts, &name, &limit, &seqs];
            let rows = shared.patiently(|| group.read(BEFORE, &parameters)).await?;
            for row in rows.iter().filter(|row| row.get::<_, i64>(3) > 0) {
                positions.topics.push(row.get(2));
                positions.next_offsets.push(row.get(3));
            }
            after = rows.last().filter(|_| rows.len() == CONSUMER_LOOK_TOPICS).map(|last| last.get(2));
        }
    }
    Ok(positions)
}

/// The number after the last event of each slot.
async fn ends(shared: &Shared) -> Result<Vec<i64>> {
    let rows = shared.groups.rows().await?;
    Ok(rows.iter().map(|row| row.next_seq).collect())
}

/// The positions that a cursor in one topic means, which is found among those of its slot.
async fn in_one_topic(shared: &Shared, topics: &TopicPatterns, cursor: &str) -> Result<Positions> {
    let foreign = || {
        let message = "the cursor is not one of this store, or of none of the consumer's topics: use one that /events gave, \
                       a time, start or end";
        Error::new(ErrorKind::BadCursor, message)
    };
    let hash = topic_hash(cursor).ok_or_else(foreign)?;
    let offset = read_topic(shared.store.half(), hash, cursor).map_err(|_| foreign())?;
    let slot = (hash % shared.store.slots as u64) as i16;
    let group = shared.groups.of(usize::try_from(slot).unwrap_or_default());
    let primary = group.connections.primary();
    let rows = group.read(OF_SLOT, &[&slot]).await?;
    let is_it = |name: &str| shared.store.hash(name.as_bytes()) == hash && topics.matches(name.as_bytes());
    let row = rows.iter().find(|row| is_it(row.get(2))).ok_or_else(foreign)?;
    if offset > row.get(3) {
        return Err(ahead());
    }
    // The topic may be in another database than the consumer, whose commit does not cover it.
    group.commit(primary).await?;
    Ok(Positions { topics: vec![row.get(2)], next_offsets: vec![offset], keeps: true })
}
