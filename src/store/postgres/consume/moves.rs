//! Making, moving and ending consumers.

use super::desk::{Known, find, none};
use super::{no_room, random};
use crate::consumer::{ConsumerName, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::limits::{CONSUMERS_MAX, POSITIONS_MAX};
use crate::store::postgres::cursor::{ahead, read_all, read_topic, topic_hash};
use crate::store::postgres::fault::read_failed;
use crate::store::postgres::pages::seqs_since;
use crate::store::postgres::retry::change;
use crate::store::postgres::shared::Shared;

const BEGIN: &str = "SELECT sekali_begin_consumer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const END: &str = "SELECT sekali_end_consumer($1)";
const OF_SLOT: &str = "
    SELECT t.slot, t.topic_id, t.name, c.next_offset FROM sekali_topics t
    CROSS JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
                        WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
    WHERE t.slot = $1";

/// Where a consumer goes on.
#[derive(Debug)]
enum Place {
    /// At the first event of each topic.
    First,
    /// After all that is stored.
    End,
    /// Before these numbers of slots.
    Seqs(Vec<i64>),
    /// At an offset of a topic; in others where it is.
    InTopic(String, i64),
}

/// Makes a consumer; whether it was made.
///
/// # Errors
/// `Conflict`, `BadCursor`, `ExpiredCursor`, `NoSpace`, `Overloaded`, `Unsure`.
pub(crate) async fn put(
    shared: &Shared,
    name: &ConsumerName,
    topics: &TopicPatterns,
    start: &Start,
) -> Result<bool> {
    let known = match find(shared, name).await {
        Ok(known) => Some(known),
        Err(e) if e.kind() == ErrorKind::NoConsumer => None,
        Err(e) => return Err(e),
    };
    // A start is not looked at for one that is there.
    let place = if known.is_some() { Place::First } else { place(shared, topics, start).await? };
    match begin(shared, name, None, topics, place).await? {
        Some(0) => Ok(true),
        Some(1) => shared.coverage.commit(&shared.connections).await.map(|()| false),
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
pub(crate) async fn seek(shared: &Shared, name: &ConsumerName, to: &Start) -> Result<()> {
    let Known { number, topics, .. } = find(shared, name).await?;
    let place = place(shared, &topics, to).await?;
    match begin(shared, name, Some(number), &topics, place).await? {
        Some(0) => Ok(()),
        None => Err(none(name)),
        Some(2) => {
            let message =
                format!("the consumer {name} was changed at the same time: look at it, and try again");
            Err(Error::new(ErrorKind::Conflict, message))
        }
        Some(_) => Err(no_room()),
    }
}

/// Ends a consumer; whether there was one.
///
/// # Errors
/// `Overloaded`, `Unsure`.
pub(crate) async fn end(shared: &Shared, name: &ConsumerName) -> Result<bool> {
    let rows = change(shared, END, &[&name.as_str()]).await?;
    let was_there = rows.first().is_some_and(|row| row.get(0));
    if !was_there {
        shared.coverage.commit(&shared.connections).await?;
    }
    Ok(was_there)
}

async fn begin(
    shared: &Shared,
    name: &ConsumerName,
    replaces: Option<i64>,
    topics: &TopicPatterns,
    place: Place,
) -> Result<Option<i16>> {
    let patterns: Vec<String> = topics.iter().map(TopicPattern::to_string).collect();
    let (firsts, lasts) = if matches!(place, Place::First) { Default::default() } else { topics.ranges() };
    let (mut seqs, mut only) = (None, None);
    match place {
        Place::First | Place::End => {}
        Place::Seqs(numbers) => seqs = Some(numbers),
        Place::InTopic(topic, offset) => only = Some((topic, offset)),
    }
    let keeps = only.is_some();
    let (only_topic, only_offset) = only.unzip();
    let rows = change(
        shared,
        BEGIN,
        &[
            &name.as_str(),
            &replaces,
            &random()?,
            &patterns,
            &firsts,
            &lasts,
            &seqs,
            &keeps,
            &only_topic,
            &only_offset,
            &(CONSUMERS_MAX as i64),
            &(POSITIONS_MAX as i64),
        ],
    )
    .await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

async fn place(shared: &Shared, topics: &TopicPatterns, start: &Start) -> Result<Place> {
    match start {
        Start::Start => Ok(Place::First),
        Start::End => Ok(Place::End),
        Start::Time(since) => {
            let since = || async {
                let ends = ends(shared).await?;
                let client = shared.connections.read().await?;
                seqs_since(&client, *since, &ends).await
            };
            shared.patiently(since).await.map(Place::Seqs)
        }
        Start::Cursor(cursor) => {
            let Ok(seqs) = read_all(shared.store.half(), shared.store.slots, cursor) else {
                return shared.patiently(|| in_one_topic(shared, topics, cursor)).await;
            };
            let ends = shared.patiently(|| ends(shared)).await?;
            if seqs.iter().zip(&ends).any(|(seq, end)| seq > end) {
                return Err(ahead());
            }
            Ok(Place::Seqs(seqs))
        }
    }
}

/// The number after the last event of each slot.
async fn ends(shared: &Shared) -> Result<Vec<i64>> {
    let rows = shared.coverage.rows(&shared.connections).await?;
    Ok(rows.iter().map(|row| row.next_seq).collect())
}

/// The place that a cursor in one topic means, which is found among those of its slot.
async fn in_one_topic(shared: &Shared, topics: &TopicPatterns, cursor: &str) -> Result<Place> {
    let foreign = || {
        let message = "the cursor is not one of this store, or of none of the consumer's topics: use one that /events gave, \
                       a time, start or end";
        Error::new(ErrorKind::BadCursor, message)
    };
    let hash = topic_hash(cursor).ok_or_else(foreign)?;
    let offset = read_topic(shared.store.half(), hash, cursor).map_err(|_| foreign())?;
    let slot = (hash % shared.store.slots as u64) as i16;
    let rows = {
        let client = shared.connections.read().await?;
        let statement = client.prepare_cached(OF_SLOT).await.map_err(|e| read_failed(&e))?;
        client.query(&statement, &[&slot]).await.map_err(|e| read_failed(&e))?
    };
    let is_it = |name: &str| shared.hash(name.as_bytes()) == hash && topics.matches(name.as_bytes());
    let row = rows.iter().find(|row| is_it(row.get(2))).ok_or_else(foreign)?;
    if offset > row.get(3) {
        return Err(ahead());
    }
    Ok(Place::InTopic(row.get(2), offset))
}
