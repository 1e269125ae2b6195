//! Which topics have something new: read once for all consumers of this node, however many wait.

use std::sync::atomic::Ordering;

use tokio_postgres::Row;

use super::desk::{Desk, Reading};
use crate::consumer::backlog::Backlog;
use crate::error::Result;
use crate::limits::{CONSUMER_LOOK_TOPICS, NEWS_KEPT};
use crate::store::postgres::connection::Statement;
use crate::store::postgres::shared::Shared;
use crate::store::postgres::topics::TopicId;

/// The topics of the events of some slots with numbers in a range.
const NEW: Statement = (
    "news",
    "
    SELECT DISTINCT e.slot, e.topic_id
    FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) r (slot, low, high)
    CROSS JOIN LATERAL (SELECT i.slot, i.topic_id FROM sekali_events i
                        WHERE i.slot = r.slot AND i.seq >= r.low AND i.seq < r.high) e",
);

/// The first topics after a name, at most `$4`, of those in ranges of names, with what `$what` says of
/// each; `$from` is joined to them.
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

/// Topics of a filter, and whether a consumer has not acknowledged all that they have.
const LOOK: Statement = (
    "news",
    topics_after!(
        "c.next_offset > coalesce(p.next_offset, 0)",
        "LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_positions k
                            WHERE k.consumer = $5 AND k.topic = t.name LIMIT 1) p ON true"
    ),
);

/// Notes the topics of what is stored by now.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn refresh(shared: &Shared) -> Result<()> {
    let Reading { news, read, begun, done } = &shared.consuming.news;
    let begun_before = begun.load(Ordering::SeqCst);
    let mut read = read.lock().await;
    if done.load(Ordering::SeqCst) > begun_before {
        return Ok(());
    }
    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
    let rows = shared.coverage.rows(&shared.connections).await?;
    let ends: Vec<i64> = rows.iter().map(|row| row.next_seq).collect();
    let new: i64 = ends.iter().zip(&*read).map(|(end, read)| end - read).sum();
    if usize::try_from(new).is_ok_and(|new| new > NEWS_KEPT) {
        news.lose();
    } else if new > 0 {
        let topics = topics_of(shared, &read, &ends).await?;
        news.note(topics.into_iter().map(|id| shared.topic_number(id)));
    }
    *read = ends;
    done.store(number, Ordering::SeqCst);
    Ok(())
}

/// The topics of the events from one number to another of each slot, whose names are known then.
async fn topics_of(shared: &Shared, lows: &[i64], highs: &[i64]) -> Result<Vec<TopicId>> {
    let ranges = (0i16..).zip(lows.iter().zip(highs)).filter(|(_, (low, high))| low < high);
    let (slots, (lows, highs)): (Vec<i16>, (Vec<i64>, Vec<i64>)) = ranges.unzip();
    let client = shared.connections.read().await?;
    let rows = client.rows(NEW, &[&slots, &lows, &highs]).await?;
    let topics: Vec<TopicId> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    shared.topics.name_all(&client, topics.iter().copied()).await?;
    Ok(topics)
}

/// Takes in what is new to a consumer by now, and one step of going through all topics of its filter,
/// if that is under way; whether all that is new is known.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn look(shared: &Shared, desk: &Desk, backlog: &mut Backlog) -> Result<bool> {
    shared.patiently(|| refresh(shared)).await?;
    take_in(shared, desk, backlog);
    let Some(after) = backlog.looks_after() else { return Ok(true) };
    let rows = shared.patiently(|| filtered_after(shared, desk, after)).await?;
    let ready = rows.iter().filter(|row| row.get(3));
    let ready = ready.map(|row| shared.topic_number((row.get(0), row.get(1))));
    let last = rows.last().filter(|_| rows.len() == CONSUMER_LOOK_TOPICS);
    backlog.looked(ready, last.map(|row| row.get::<_, &str>(2).into()));
    Ok(backlog.looks_after().is_none())
}

/// Takes in what was noted as new.
pub(super) fn take_in(shared: &Shared, desk: &Desk, backlog: &mut Backlog) {
    let is_meant = |number| desk.topics.matches(shared.topic_name(number).as_bytes());
    backlog.read(&shared.consuming.news.news, is_meant);
}

/// Topics of a consumer's filter after a name, once what is read of them is covered: a position that
/// is lost with a primary must not hide events.
async fn filtered_after(shared: &Shared, desk: &Desk, after: &str) -> Result<Vec<Row>> {
    let (firsts, lasts) = desk.topics.ranges();
    let limit = CONSUMER_LOOK_TOPICS as i64;
    let rows = {
        let client = shared.connections.read().await?;
        client.rows(LOOK, &[&firsts, &lasts, &after, &limit, &desk.number]).await?
    };
    shared.topics.learn(&rows);
    shared.coverage.commit(&shared.connections).await?;
    Ok(rows)
}
