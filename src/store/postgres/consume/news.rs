//! Which topics have something new: read once for all consumers of this node, however many wait.

use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_postgres::ClientWrapper;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use super::desk::Desk;
use crate::consumer::backlog::{Backlog, News};
use crate::error::Result;
use crate::limits::{CONSUMER_LOOK_TOPICS, NEWS_KEPT};
use crate::store::postgres::fault::read_failed;
use crate::store::postgres::shared::Shared;
use crate::store::postgres::topics::TopicId;

/// The topics of the events of some slots with numbers in a range.
const NEW: &str = "
    SELECT DISTINCT e.slot, e.topic_id
    FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) r (slot, low, high)
    CROSS JOIN LATERAL (SELECT i.slot, i.topic_id FROM sekali_events i
                        WHERE i.slot = r.slot AND i.seq >= r.low AND i.seq < r.high) e";

/// Topics of a filter after a name, and whether a consumer has not acknowledged all that they have.
const LOOK: &str = "
    SELECT t.slot, t.topic_id, t.name, c.next_offset > coalesce(p.next_offset, 0)
    FROM (SELECT DISTINCT i.name, i.slot, i.topic_id FROM unnest($1::text[], $2::text[]) r (low, high)
          CROSS JOIN LATERAL (SELECT * FROM sekali_topics t
                              WHERE t.name > $3 AND t.name >= r.low AND t.name <= r.high
                              ORDER BY t.name LIMIT $4) i
          ORDER BY i.name LIMIT $4) t
    CROSS JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
                        WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_positions k
                       WHERE k.consumer = $5 AND k.topic = t.name LIMIT 1) p ON true
    ORDER BY t.name";

/// How far the slots were read for news.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(super) news: News,
    /// By slot, the number up to which it was read; empty before the first time. Held by whoever
    /// reads; those who wait take part in what begins after they came.
    read: Mutex<Vec<i64>>,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Reading {
    /// Notes the topics of what is stored by now.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`, `Corrupt`.
    pub(super) async fn refresh(&self, shared: &Shared) -> Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut read = self.read.lock().await;
        if self.done.load(Ordering::SeqCst) > begun {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let rows = shared.coverage.rows(&shared.connections).await?;
        let ends: Vec<i64> = rows.iter().map(|row| row.next_seq).collect();
        let new: i64 = ends.iter().zip(&*read).map(|(end, read)| end - read).sum();
        if read.is_empty() {
            *read = ends;
        } else if usize::try_from(new).is_ok_and(|new| new > NEWS_KEPT) {
            self.news.lose();
            *read = ends;
        } else if new > 0 {
            let topics = topics_of(shared, &read, &ends).await?;
            self.news.note(topics.into_iter().map(|id| shared.topic_number(id)));
            *read = ends;
        }
        self.done.store(number, Ordering::SeqCst);
        Ok(())
    }
}

/// The topics of the events from one number to another of each slot, whose names are known then.
async fn topics_of(shared: &Shared, lows: &[i64], highs: &[i64]) -> Result<Vec<TopicId>> {
    let ranges = (0i16..).zip(lows.iter().zip(highs)).filter(|(_, (low, high))| low < high);
    let (slots, (lows, highs)): (Vec<i16>, (Vec<i64>, Vec<i64>)) = ranges.unzip();
    let client = shared.connections.read().await?;
    let statement = client.prepare_cached(NEW).await.map_err(|e| read_failed(&e))?;
    let rows = client.query(&statement, &[&slots, &lows, &highs]).await.map_err(|e| read_failed(&e))?;
    let topics: Vec<TopicId> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    shared.topics.name_all(&client, topics.iter().copied()).await?;
    Ok(topics)
}

impl Desk {
    /// Takes in what is new by now, and one step of going through all topics, if that is under way;
    /// whether all that is new is known.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`, `Corrupt`.
    pub(super) async fn look(&self, shared: &Shared, backlog: &mut Backlog) -> Result<bool> {
        shared.patiently(|| shared.consuming.news.refresh(shared)).await?;
        self.read_news(shared, backlog);
        let Some(after) = backlog.looks_after() else { return Ok(true) };
        let rows = shared.patiently(|| self.topics_after(shared, after)).await?;
        let ready = rows.iter().filter(|row| row.get(3));
        let ready = ready.map(|row| shared.topic_number((row.get(0), row.get(1))));
        let last = rows.last().filter(|_| rows.len() == CONSUMER_LOOK_TOPICS);
        backlog.looked(ready, last.map(|row| row.get::<_, &str>(2).into()));
        Ok(backlog.looks_after().is_none())
    }

    /// Takes in what was noted as new.
    pub(super) fn read_news(&self, shared: &Shared, backlog: &mut Backlog) {
        let is_meant = |number| self.topics.matches(shared.topic_name(number).as_bytes());
        backlog.read(&shared.consuming.news.news, is_meant);
    }

    /// Topics of its filter after a name, once what is read of them is covered: a position that is
    /// lost with a primary must not hide events.
    async fn topics_after(&self, shared: &Shared, after: &str) -> Result<Vec<Row>> {
        let rows = {
            let client = shared.connections.read().await?;
            let rows = self.read_topics(&client, after).await?;
            shared.topics.learn(&rows);
            rows
        };
        shared.coverage.commit(&shared.connections).await?;
        Ok(rows)
    }

    async fn read_topics(&self, client: &ClientWrapper, after: &str) -> Result<Vec<Row>> {
        let (firsts, lasts) = self.topics.ranges();
        let limit = CONSUMER_LOOK_TOPICS as i64;
        let statement = client.prepare_cached(LOOK).await.map_err(|e| read_failed(&e))?;
        client
            .query(&statement, &[&firsts, &lasts, &after, &limit, &self.number])
            .await
            .map_err(|e| read_failed(&e))
    }
}
