//! Topics and their figures, in order of their names.

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use super::cursor::{read_name, write_name};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::pattern::TopicPatterns;
use crate::limits::DATABASE_TOPICS_READ;
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::shared::Shared;
use crate::store::{TopicPage, TopicStats};

const PAGE: Statement = (
    "topics",
    "
    SELECT t.name, c.next_offset, c.duplicates, c.conflicts, c.first_received_at, c.last_received_at
    FROM sekali_topics t
    CROSS JOIN LATERAL (SELECT * FROM sekali_topic_counts c
                        WHERE c.slot = t.slot AND c.topic_id = t.topic_id LIMIT 1) c
    WHERE t.name >= $1 ORDER BY t.name LIMIT $2",
);

/// Topics and their figures in order of their bytes, at most `limit`, of those that `only` means.
///
/// # Errors
/// `BadCursor`, `Overloaded`, `Unsure`.
pub(crate) async fn page(
    shared: &Shared,
    cursor: Option<&str>,
    limit: usize,
    only: Option<&TopicPatterns>,
) -> Result<TopicPage> {
    let store = shared.store.half();
    // No name holds a control character, so this is the first one after the cursor's.
    let mut from = cursor.map(|cursor| read_name(store, cursor)).transpose()?.map(|name| name + "\u{1}");
    let (mut topics, mut has_more) = (Vec::new(), true);
    {
        let readers = shared.groups.readers().await?;
        while has_more && topics.len() <= limit {
            let begin = match only {
                Some(only) => only.next_from(from.as_deref().unwrap_or_default()).map(str::to_owned),
                None => Some(from.take().unwrap_or_default()),
            };
            let Some(begin) = begin else { break };
            let count = (limit + 1 - topics.len()).min(DATABASE_TOPICS_READ) as i64;
            let reads = readers.iter().map(|client| async { client.rows(PAGE, &[&begin, &count]).await });
            let mut rows = by_name(try_join_all(reads).await?, 0);
            has_more = rows.len() as i64 >= count;
            rows.truncate(usize::try_from(count).unwrap_or_default());
            for row in rows {
                let name: String = row.get(0);
                from = Some(name.clone() + "\u{1}");
                if only.is_some_and(|only| !only.matches(name.as_bytes())) {
                    // What follows up to the next topic that is meant need not be read.
                    has_more = true;
                    break;
                }
                topics.push(stats(&row, name));
            }
        }
    }
    // The figures of a page are covered when all slots are.
    shared.groups.rows().await?;
    let is_cut = topics.len() > limit;
    topics.truncate(limit);
    let next_cursor = topics.last().filter(|_| is_cut).map(|topic| write_name(store, &topic.topic));
    Ok(TopicPage { topics, next_cursor })
}

/// Rows of all databases as one list, in order of the names in this column.
pub(crate) fn by_name(rows: Vec<Vec<Row>>, column: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    rows.sort_by(|one, other| one.get::<_, &str>(column).cmp(other.get(column)));
    rows
}

fn stats(row: &Row, topic: String) -> TopicStats {
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    TopicStats {
        topic,
        unique_processed: count(1),
        duplicate_dropped: count(2),
        conflicts: count(3),
        first_offset: 0,
        last_offset: count(1).saturating_sub(1),
        first_received_at: Timestamp(row.get(4)),
        last_received_at: Timestamp(row.get(5)),
    }
}
