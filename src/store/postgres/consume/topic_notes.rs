//! Which topics have something new: read once for all consumers of this node, however many wait.

use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use crate::consumer::backlog::Backlog;
use crate::error::{ErrorKind, Result};
use crate::limits::{CONSUMER_LOOK_TOPICS, TOPIC_NOTES_KEPT};
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::consumer_cache::{ConsumerCache, NotesProgress};
use crate::store::postgres::node::coverage::another_primary;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::{TopicId, topic_id};
use crate::store::postgres::read::topic_list::by_name;

/// The topics of the events of some slots with numbers in a range.
const NEW: Statement = (
    "news",
    "
    SELECT DISTINCT e.slot, e.topic_id
    FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) r (slot, low, high)
    CROSS JOIN LATERAL (SELECT i.slot, i.topic_id FROM sekali_events i
                        WHERE i.slot = r.slot AND i.seq >= r.low AND i.seq < r.high) e",
);

/// The first topics after a name, at most `$4`, of those in ranges of names, with what `$what` says
/// of each; `$from` is joined to them.
macro_rules! topics_after {
    ($what:literal, $from:literal) => {
        concat!(
            "SELECT t.slot, t.topic_id, t.name, ", $what, "
             FROM (SELECT DISTINCT i.name, i.slot, i.topic_id FROM unnest($1::text[], $2::text[]) r (low, high)
                   CROSS JOIN LATERAL (SELECT * FROM sekali_topics t
                                       WHERE t.name > $3 AND t.name >= r.low AND t.name <= r.high
                                       ORDER BY t.name LIMIT $4) i
                   ORDER BY i.name LIMIT $4) t
             CROSS JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
                                 WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
             ", $from, "
             ORDER BY t.name"
        )
    };
}
pub(super) use topics_after;

/// Topics of a filter, and where they end.
const LOOK: Statement = ("news", topics_after!("c.next_offset", ""));

/// Where a consumer is in some topics.
const POSITIONS: Statement = (
    "consumers",
    "
    SELECT coalesce(p.next_offset, 0)
    FROM unnest($2::text[]) WITH ORDINALITY t (name, ord)
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_positions k
                       WHERE k.consumer = $1 AND k.topic = t.name LIMIT 1) p ON true
    ORDER BY t.ord",
);

/// Notes the topics of what is stored by now.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn refresh(shared: &Shared) -> Result<()> {
    let NotesProgress { topics: notes, read, begun, done, is_partial } = &shared.consumers.notes;
    let begun_before = begun.load(Ordering::SeqCst);
    let mut read = read.lock().await;
    if done.load(Ordering::SeqCst) > begun_before {
        return Ok(());
    }
    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
    // What does not answer is read once it does.
    let well = shared.groups.well();
    let is_whole = well.len() == shared.groups.iter().count();
    let rows = shared.groups.rows_of(&well).await?;
    let mut ends = read.clone();
    ends.resize(shared.store.slots, 0);
    rows.iter().for_each(|row| ends[row.slot] = row.next_seq);
    if is_whole && is_partial.swap(false, Ordering::SeqCst) {
        notes.lose();
    }
    let new: i64 = ends.iter().zip(&*read).map(|(end, read)| end - read).sum();
    if usize::try_from(new).is_ok_and(|new| new > TOPIC_NOTES_KEPT) {
        notes.lose();
    } else if new > 0 {
        let topics = topics_of(shared, &read, &ends).await?;
        notes.note(topics.into_iter().map(|id| shared.topic_number(id)));
    }
    *read = ends;
    done.store(number, Ordering::SeqCst);
    Ok(())
}

/// The topics of the events from one number to another of each slot, whose names are known then.
async fn topics_of(shared: &Shared, lows: &[i64], highs: &[i64]) -> Result<Vec<TopicId>> {
    let ranges = (0i16..).zip(lows.iter().zip(highs)).filter(|(_, (low, high))| low < high);
    let sorted = shared.groups.sort(ranges, |range| range.0);
    let mut topics = Vec::new();
    for (group, ranges) in shared.groups.iter().zip(sorted) {
        if ranges.is_empty() {
            continue;
        }
        let (slots, (lows, highs)): (Vec<i16>, (Vec<i64>, Vec<i64>)) = ranges.into_iter().unzip();
        let rows = group.read(NEW, &[&slots, &lows, &highs]).await?;
        topics.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    shared.learn(topics.iter().copied()).await?;
    Ok(topics)
}

/// Takes in what is new to a consumer by now, and one step of going through all topics of its
/// filter, if that is under way; whether all that is new is row.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn look(shared: &Shared, cache: &ConsumerCache, backlog: &mut Backlog) -> Result<bool> {
    shared.patiently(|| refresh(shared)).await?;
    take_in(shared, cache, backlog);
    let Some(after) = backlog.looks_after() else { return Ok(true) };
    let rows = shared.patiently(|| filtered_after(shared, cache, after)).await?;
    let (rows, positions) = rows;
    let ready = rows.iter().zip(positions).filter(|(row, position)| row.get::<_, i64>(3) > *position);
    let ready = ready.map(|(row, _)| shared.topic_number((row.get(0), row.get(1))));
    let last = rows.last().filter(|_| rows.len() == CONSUMER_LOOK_TOPICS);
    backlog.looked(ready, last.map(|row| row.get::<_, &str>(2).into()));
    Ok(backlog.looks_after().is_none())
}

/// Takes in what was noted as new.
pub(super) fn take_in(shared: &Shared, cache: &ConsumerCache, backlog: &mut Backlog) {
    let is_meant = |number| cache.topics.matches(shared.topic_name(number).as_bytes());
    backlog.read(&shared.consumers.notes.topics, is_meant);
}

/// Topics of a consumer's filter after a name, with the consumer's positions in them, once what is
/// read of them is covered: a position that is lost with a primary must not hide events.
async fn filtered_after(shared: &Shared, cache: &ConsumerCache, after: &str) -> Result<(Vec<Row>, Vec<i64>)> {
    let (firsts, lasts) = cache.topics.ranges();
    let limit = CONSUMER_LOOK_TOPICS as i64;
    let well = shared.groups.well();
    if well.len() < shared.groups.iter().count() {
        // Before the others are read: whoever finds that all answer has this gone through again.
        shared.consumers.notes.is_partial.store(true, Ordering::SeqCst);
    }
    let primaries = shared.groups.primaries();
    let read = async |place: &usize| {
        let client = shared.groups.get(*place).connections.read().await?;
        shared.read_topics(*place, &client, LOOK, &[&firsts, &lasts, &after, &limit]).await
    };
    let mut rows = by_name(try_join_all(well.iter().map(read)).await?, 2);
    rows.truncate(CONSUMER_LOOK_TOPICS);
    let names: Vec<&str> = rows.iter().map(|row| row.get(2)).collect();
    let positions = positions(shared, cache.number, &names).await?;
    shared.groups.commit(&primaries, &well).await?;
    shared.learn(rows.iter().map(topic_id)).await.map_err(|e| match e.kind() {
        // They were not covered, and are lost.
        ErrorKind::Corrupt => another_primary(),
        _ => e,
    })?;
    Ok((rows, positions))
}

/// Where a consumer is in these topics, which may not be covered.
///
/// # Errors
/// `Overloaded`.
pub(super) async fn positions(shared: &Shared, consumer: i64, topics: &[&str]) -> Result<Vec<i64>> {
    let rows = shared.groups.home().read(POSITIONS, &[&consumer, &topics]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Where topics end that are not where consumers are; `None` for those that are, whose ends the
/// statement finds itself that changes the consumer. `expected` as for `Group::ends`.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn ends_elsewhere(
    shared: &Shared,
    topics: &[TopicId],
    expected: &[i64],
) -> Result<Vec<Option<i64>>> {
    let sorted = shared.groups.sort(topics.iter().copied().enumerate(), |(_, topic)| topic.0);
    let elsewhere = sorted.iter().enumerate();
    let elsewhere = elsewhere.filter(|(place, topics)| !topics.is_empty() && !shared.groups.is_home(*place));
    let reads = elsewhere.clone().map(async |(place, numbered)| {
        let (numbers, topics): (Vec<usize>, Vec<TopicId>) = numbered.iter().copied().unzip();
        let expected: Vec<i64> = numbers.iter().filter_map(|number| expected.get(*number).copied()).collect();
        shared.groups.get(place).ends(&topics, &expected).await
    });
    let mut ends = vec![None; topics.len()];
    for ((_, numbered), found) in elsewhere.zip(try_join_all(reads).await?) {
        numbered.iter().zip(found).for_each(|((number, _), end)| ends[*number] = Some(end));
    }
    Ok(ends)
}
