//! Events of several slots, or of one topic, in one order.
//!
//! In each slot arrival never goes back, so the order over all is that of arrival, then slot, then
//! number. First only keys are read, some of each slot, and more of those slots that run out; then
//! the events that the page takes. So a page holds no more than it gives, however large events are.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use crate::error::Result;
use crate::limits::{DATABASE_KEYS_FIRST, DATABASE_LOOKED_MAX, DATABASE_SCANNED_MAX};
use crate::store::postgres::node::groups::{Groups, Readers};
use crate::store::postgres::node::topic_names::TopicId;
use crate::store::{Order, Priority};

/// The keys of events in an order: `$place` numbers them, and `$topic` narrows a slot down.
macro_rules! keys {
    ($place:literal, $topic:literal, $order:literal) => {
        concat!(
            "SELECT p.slot, e.place, e.seq, e.topic_id, e.received_at, e.bytes, e.is_wanted
             FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[]) p (slot, topic_id, low, high)
             CROSS JOIN LATERAL (
                 SELECT e.", $place, " AS place, e.seq, e.topic_id, e.received_at,
                        (octet_length(e.event_id) + octet_length(e.timestamp) + octet_length(e.source)
                         + octet_length(e.payload))::bigint AS bytes,
                        $6::text IS NULL OR e.source = $6 AS is_wanted
                 FROM sekali_events e
                 WHERE e.slot = p.slot ", $topic, " AND e.", $place, " >= p.low AND e.", $place, " < p.high
                 ORDER BY e.", $place, " ", $order, " LIMIT $5) e"
        )
    };
}

const OF_SLOTS: [&str; 2] = [keys!("seq", "", "ASC"), keys!("seq", "", "DESC")];
const OF_TOPIC: [&str; 2] = [
    keys!("topic_offset", "AND e.topic_id = p.topic_id", "ASC"),
    keys!("topic_offset", "AND e.topic_id = p.topic_id", "DESC"),
];

/// What a page must know of an event to take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Which of the slot_readers it comes from.
    pub(crate) reader: usize,
    /// Its number there.
    pub(crate) place: i64,
    pub(crate) seq: i64,
    pub(crate) topic: TopicId,
    pub(crate) received_at: i64,
    /// Bytes of its fields but its topic.
    pub(crate) bytes: usize,
    /// Whether it has the source that is asked for.
    pub(crate) is_wanted: bool,
}

/// A slot, or a topic of one, and the part of it that is not read yet.
#[derive(Debug)]
pub(crate) struct SlotReader {
    pub(crate) slot: i16,
    /// The topic, if it is not the whole slot.
    pub(crate) topic: Option<i32>,
    pub(crate) low: i64,
    pub(crate) high: i64,
    keys: VecDeque<Key>,
}

impl SlotReader {
    pub(crate) fn new(slot: i16, topic: Option<i32>, low: i64, high: i64) -> Self {
        Self { slot, topic, low, high, keys: VecDeque::new() }
    }

    fn has_unread(&self) -> bool {
        self.low < self.high
    }
}

/// Sources that become one.
#[derive(Debug)]
pub(crate) struct Merge<'q> {
    order: Order,
    event_source: Option<&'q str>,
    slot_readers: Vec<SlotReader>,
    /// Keys that are read of a reader at once.
    chunk: i64,
    /// Keys that were read, and most of them.
    looked: usize,
    looked_max: usize,
    /// Bytes of the events that were looked at.
    pub(crate) bytes: usize,
}

impl<'q> Merge<'q> {
    /// Of `slot_readers`, for a page of about `limit` events.
    pub(crate) fn new(
        order: Order,
        event_source: Option<&'q str>,
        slot_readers: Vec<SlotReader>,
        limit: usize,
        priority: Priority,
    ) -> Self {
        let busy = slot_readers.iter().filter(|reader| reader.has_unread()).count().max(1);
        let looked_max = if priority == Priority::Scan { DATABASE_SCANNED_MAX } else { DATABASE_LOOKED_MAX };
        let chunk = match busy {
            1 => limit,
            _ => 2 * limit / busy + 4,
        };
        Self {
            order,
            event_source,
            slot_readers,
            chunk: chunk.clamp(1, DATABASE_KEYS_FIRST) as i64,
            looked: 0,
            looked_max,
            bytes: 0,
        }
    }

    /// Whether there is an event that was not given yet.
    pub(crate) fn is_left(&self) -> bool {
        self.slot_readers.iter().any(|reader| reader.has_unread() || !reader.keys.is_empty())
    }

    /// Reads keys until each reader has one or is over. Returns the keys that are new; `None` if
    /// enough was looked at.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn fill(&mut self, groups: &Groups, readers: &Readers) -> Result<Option<Vec<Key>>> {
        let dry: Vec<usize> = (0..self.slot_readers.len())
            .filter(|at| self.slot_readers[*at].keys.is_empty() && self.slot_readers[*at].has_unread())
            .collect();
        if dry.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if self.looked >= self.looked_max {
            return Ok(None);
        }
        let chunk = self.chunk.min((self.looked_max - self.looked).div_ceil(dry.len()) as i64);
        let sorted = groups.sort(dry.iter().copied(), |at| self.slot_readers[*at].slot);
        let reads = sorted.iter().enumerate().filter(|(_, dry)| !dry.is_empty());
        let reads = reads.map(|(place, dry)| self.read(readers, place, dry, chunk));
        let rows = try_join_all(reads).await?.concat();
        self.looked += rows.len();
        self.chunk *= 2;
        let by_slot = |slot: i16| dry.iter().copied().find(|at| self.slot_readers[*at].slot == slot);
        let keys: Vec<Key> =
            rows.iter().filter_map(|row| by_slot(row.get(0)).map(|at| key(at, row))).collect();
        self.bytes += keys.iter().map(|key| key.bytes).sum::<usize>();
        for key in &keys {
            self.slot_readers[key.reader].keys.push_back(*key);
        }
        for at in dry {
            let reader = &mut self.slot_readers[at];
            match (reader.keys.back(), self.order) {
                (Some(last), Order::Ascending) if reader.keys.len() as i64 == chunk => {
                    reader.low = last.place + 1;
                }
                (Some(last), Order::Descending) if reader.keys.len() as i64 == chunk => {
                    reader.high = last.place;
                }
                _ => reader.low = reader.high,
            }
        }
        Ok(Some(keys))
    }

    /// Rows of at most `chunk` keys of each of these slot_readers, which one database has.
    async fn read(&self, readers: &Readers, place: usize, dry: &[usize], chunk: i64) -> Result<Vec<Row>> {
        let texts = if self.slot_readers[dry[0]].topic.is_some() { OF_TOPIC } else { OF_SLOTS };
        let column = |value: fn(&SlotReader) -> i64| -> Vec<i64> {
            dry.iter().map(|at| value(&self.slot_readers[*at])).collect()
        };
        let slots: Vec<i16> = dry.iter().map(|at| self.slot_readers[*at].slot).collect();
        let topics: Vec<i32> =
            dry.iter().map(|at| self.slot_readers[*at].topic.unwrap_or_default()).collect();
        let (lows, highs) = (column(|reader| reader.low), column(|reader| reader.high));
        let statement = ("events", texts[self.order as usize]);
        let client = readers.of(place)?;
        client.rows(statement, &[&slots, &topics, &lows, &highs, &chunk, &self.event_source]).await
    }

    /// The next key, once [`Merge::fill`] has filled all slot_readers.
    pub(crate) fn next(&mut self) -> Option<Key> {
        let rank = |key: &Key| (key.received_at, key.topic.0, key.place);
        let fronts = self.slot_readers.iter().filter_map(|reader| reader.keys.front());
        let next = match self.order {
            Order::Ascending => fronts.min_by_key(|key| rank(key)),
            Order::Descending => fronts.max_by_key(|key| rank(key)),
        };
        let reader = next?.reader;
        self.slot_readers[reader].keys.pop_front()
    }

    /// Whether a reader must be filled before the next key is known.
    pub(crate) fn is_dry(&self) -> bool {
        self.slot_readers.iter().any(|reader| reader.keys.is_empty() && reader.has_unread())
    }
}

fn key(reader: usize, row: &Row) -> Key {
    Key {
        reader,
        place: row.get(1),
        seq: row.get(2),
        topic: (row.get(0), row.get(3)),
        received_at: row.get(4),
        bytes: usize::try_from(row.get::<_, i64>(5)).unwrap_or_default(),
        is_wanted: row.get(6),
    }
}
