//! What a listing of events goes through: all slots, each in its database, or a topic of one slot.

use futures_util::future::try_join_all;

use super::cursor::{Positions, read_all, read_topic, write_all, write_topic};
use super::merge::SlotReader;
use crate::error::Result;
use crate::store::postgres::connect::connection::{Reader, Statement};
use crate::store::postgres::node::coverage::read_rows;
use crate::store::postgres::node::groups::Readers;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::TopicId;

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
pub(super) enum Listing {
    /// Every slot.
    All,
    /// A topic of a slot, with its hash.
    Topic { slot: usize, id: Option<TopicId>, hash: u64 },
}

impl Listing {
    /// The one of a topic, or of all, with connections to the databases that have it.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) async fn of(shared: &Shared, topic: Option<&str>) -> Result<(Self, Readers)> {
        let Some(topic) = topic else { return Ok((Self::All, shared.groups.readers().await?)) };
        let slot = shared.store.slot(topic.as_bytes());
        let readers = shared.groups.reader(slot).await?;
        let place = shared.groups.place(slot);
        let id = shared.id(place, readers.of(place)?, topic).await?;
        Ok((Self::Topic { slot, id, hash: shared.store.hash(topic.as_bytes()) }, readers))
    }

    pub(super) fn write(&self, shared: &Shared, positions: &[i64]) -> String {
        let store = shared.store.half();
        match self {
            Self::All => write_all(store, positions),
            Self::Topic { hash, .. } => {
                write_topic(store, *hash, positions.first().copied().unwrap_or_default())
            }
        }
    }

    pub(super) fn read(&self, shared: &Shared, text: &str) -> Result<Positions> {
        let store = shared.store.half();
        match self {
            Self::All => read_all(store, shared.store.slots, text),
            Self::Topic { hash, .. } => Ok(vec![read_topic(store, *hash, text)?]),
        }
    }

    /// Where it ends now.
    pub(super) async fn ends(&self, shared: &Shared, readers: &Readers) -> Result<Positions> {
        match self {
            Self::All => {
                let groups = shared.groups.iter().enumerate();
                let reads =
                    groups.map(async |(place, group)| read_rows(readers.of(place)?, &group.slots).await);
                let mut ends = vec![0; shared.store.slots];
                try_join_all(reads).await?.iter().flatten().for_each(|row| ends[row.slot] = row.next_seq);
                Ok(ends)
            }
            Self::Topic { id: None, .. } => Ok(vec![0]),
            Self::Topic { slot, id: Some((_, topic)), .. } => {
                let rows =
                    topic_reader(shared, readers, *slot)?.rows(TOPIC_END, &[&(*slot as i16), topic]).await?;
                Ok(vec![rows.first().map_or(0, |row| row.get(0))])
            }
        }
    }

    /// The first numbers below `highs` that arrived at or after a time.
    pub(super) async fn since(
        &self,
        shared: &Shared,
        readers: &Readers,
        at: i64,
        highs: &[i64],
    ) -> Result<Positions> {
        match self {
            Self::All => seqs_since(shared, readers, at, highs).await,
            Self::Topic { id: None, .. } => Ok(vec![0]),
            Self::Topic { slot, id: Some((_, topic)), .. } => {
                let client = topic_reader(shared, readers, *slot)?;
                let rows = client.rows(TOPIC_SINCE, &[&(*slot as i16), topic, &at, &highs.first()]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
        }
    }

    pub(super) fn slot_readers(&self, lows: &[i64], highs: &[i64]) -> Vec<SlotReader> {
        match self {
            Self::All => {
                let ranges = (0..).zip(lows.iter().zip(highs));
                ranges.map(|(slot, (low, high))| SlotReader::new(slot, None, *low, *high)).collect()
            }
            Self::Topic { id: Some((slot, topic)), .. } => {
                vec![SlotReader::new(*slot, Some(*topic), lows[0], highs[0])]
            }
            Self::Topic { id: None, .. } => Vec::new(),
        }
    }
}

fn topic_reader<'r>(shared: &Shared, readers: &'r Readers, slot: usize) -> Result<&'r Reader> {
    readers.of(shared.groups.place(slot))
}

/// Of each slot the first number below `highs` that arrived at or after a time.
///
/// # Errors
/// `Overloaded`.
pub(crate) async fn seqs_since(
    shared: &Shared,
    readers: &Readers,
    at: i64,
    highs: &[i64],
) -> Result<Positions> {
    let reads = shared.groups.iter().enumerate().map(async |(place, group)| {
        let (slots, highs): (Vec<i16>, Vec<i64>) =
            group.slots.iter().map(|slot| (*slot as i16, highs[*slot])).unzip();
        readers.of(place)?.rows(SLOTS_SINCE, &[&slots, &highs, &at]).await
    });
    let (rows, mut seqs) = (try_join_all(reads).await?, vec![0; highs.len()]);
    for (group, rows) in shared.groups.iter().zip(rows) {
        group.slots.iter().zip(rows).for_each(|(slot, row)| seqs[*slot] = row.get(0));
    }
    Ok(seqs)
}
