//! Which topics are read for whoever asks, and how many events of each.

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use crate::consumer::Take;
use crate::consumer::backlog::Backlog;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::LAG_TOPICS_COUNTED;
use crate::store::StoredEvent;
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::TopicId;
use crate::store::postgres::read::pages::{EVENT_SURROUND_BYTES, event};

/// The events of ranges of offsets, range by range, until they have so many bytes.
const EVENTS: Statement = (
    "events",
    "
    SELECT e.slot, e.topic_id, e.event_id, e.timestamp, e.source, e.payload, e.topic_offset, e.received_at, e.seq
    FROM (SELECT r.ord, k.*,
                 sum($5::bigint + octet_length(k.event_id) + octet_length(k.timestamp) + octet_length(k.source)
                     + octet_length(k.payload))
                 OVER (ORDER BY r.ord, k.topic_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
          FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[])
               WITH ORDINALITY r (slot, topic_id, low, high, ord)
          CROSS JOIN LATERAL (SELECT * FROM sekali_events i
                              WHERE i.slot = r.slot AND i.topic_id = r.topic_id
                                AND i.topic_offset >= r.low AND i.topic_offset < r.high
                              ORDER BY i.topic_offset) k) e
    WHERE coalesce(e.bytes_before, 0) < $6::bigint ORDER BY e.ord, e.topic_offset",
);

/// Topics that may have something new, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) topics: Vec<Candidate>,
    /// There are more that whoever asks could be given events of.
    pub(super) is_cut: bool,
}

/// A topic that may have something new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) number: u32,
    pub(super) id: TopicId,
    /// Whether it is of the part that is asked for.
    pub(super) is_wanted: bool,
}

impl Plan {
    pub(super) fn new(shared: &Shared, take: &Take, backlog: &Backlog) -> Self {
        let (mut plan, mut wanted) = (Self::default(), 0);
        for number in backlog.ready() {
            let slot = usize::try_from(shared.topic_id(number).0).unwrap_or_default();
            // What does not answer keeps no other topic waiting.
            if !shared.groups.is_well(shared.groups.place(slot)) {
                continue;
            }
            let is_own = take.partition.has(shared.topic_name(number).as_bytes());
            let is_wanted = is_own && wanted < take.limit;
            plan.is_cut |= is_own && !is_wanted;
            let counts = plan.topics.len() < LAG_TOPICS_COUNTED;
            if plan.is_cut && !counts {
                break;
            }
            if is_wanted || counts {
                wanted += usize::from(is_wanted);
                plan.topics.push(Candidate { number, id: shared.topic_id(number), is_wanted });
            }
        }
        plan
    }

    /// What there is to give of the topics of a consumer that is at these positions of them, and
    /// how many events wait in all of them. Topics without any leave the backlog.
    pub(super) fn settle(
        &self,
        backlog: &mut Backlog,
        positions: Vec<i64>,
        ends: Vec<i64>,
    ) -> (Vec<Range>, u64) {
        let (mut ranges, mut lag) = (Vec::new(), 0);
        for (topic, (low, high)) in self.topics.iter().zip(positions.into_iter().zip(ends)) {
            if low >= high {
                backlog.is_caught_up(topic.number);
                continue;
            }
            lag += (high - low).unsigned_abs();
            if topic.is_wanted {
                ranges.push(Range { number: topic.number, id: topic.id, low, high });
            }
        }
        (ranges, lag)
    }
}

/// Events of a topic from one offset to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) number: u32,
    pub(super) id: TopicId,
    pub(super) low: i64,
    pub(super) high: i64,
}

/// Leaves at most `limit` events of these ranges: each topic gets an equal share first, and what is
/// left of that goes to those that have more.
pub(super) fn share_out(ranges: &mut Vec<Range>, limit: usize) {
    let wanted: Vec<i64> = ranges.iter().map(|range| range.high).collect();
    ranges.iter_mut().for_each(|range| range.high = range.low);
    let mut left = i64::try_from(limit).unwrap_or(i64::MAX);
    loop {
        let open = ranges.iter().zip(&wanted).filter(|(range, wanted)| range.high < **wanted).count() as i64;
        if open == 0 || left == 0 {
            break;
        }
        let share = (left + open - 1) / open;
        for (range, wanted) in ranges.iter_mut().zip(&wanted) {
            let more = share.min(left).min(wanted - range.high);
            range.high += more;
            left -= more;
        }
    }
    ranges.retain(|range| range.low < range.high);
}

/// The events of these ranges, until they have `bytes_max`; and the topics that they are of, each
/// with the offset after its last event.
///
/// # Errors
/// `Overloaded`, `Unsure`; `Corrupt` if an event is missing.
pub(super) async fn read(
    shared: &Shared,
    ranges: &[Range],
    bytes_max: usize,
) -> Result<(Vec<StoredEvent>, Vec<(u32, u64)>)> {
    let covered = async || {
        let primaries = shared.groups.primaries();
        let rows = rows_of(shared, ranges, bytes_max).await?;
        let seqs = rows.iter().flatten().map(|row| (row.get(0), row.get(8)));
        shared.groups.cover(&primaries, seqs).await.map(|()| rows)
    };
    let rows = shared.patiently(covered).await?;
    let mut rows: Vec<_> = rows.iter().map(|rows| rows.iter().peekable()).collect();
    let (mut events, mut reached, mut bytes) = (Vec::new(), Vec::new(), 0);
    for range in ranges {
        let slot = usize::try_from(range.id.0).unwrap_or_default();
        let rows = &mut rows[shared.groups.place(slot)];
        let mut next = range.low;
        while next < range.high && bytes < bytes_max {
            let row =
                rows.next_if(|row| (row.get(0), row.get(1), row.get(6)) == (range.id.0, range.id.1, next));
            let row = row.ok_or_else(|| missing(shared, range, next))?;
            let event = event(&shared.topic_name(range.number), row);
            bytes += EVENT_SURROUND_BYTES + event.bytes() - event.topic.len();
            events.push(event);
            next += 1;
        }
        if next > range.low {
            reached.push((range.number, next.unsigned_abs()));
        }
    }
    Ok((events, reached))
}

/// The events of each database, in the order of the ranges, until they alone have so many bytes.
async fn rows_of(shared: &Shared, ranges: &[Range], bytes_max: usize) -> Result<Vec<Vec<Row>>> {
    let sorted = shared.groups.sort(ranges.iter().copied(), |range| range.id.0);
    let reads = shared.groups.iter().zip(sorted).map(async |(group, ranges)| {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let (slots, topics): (Vec<i16>, Vec<i32>) = ranges.iter().map(|range| range.id).unzip();
        let (lows, highs): (Vec<i64>, Vec<i64>) = ranges.iter().map(|range| (range.low, range.high)).unzip();
        let (surround, most) = (EVENT_SURROUND_BYTES as i64, i64::try_from(bytes_max).unwrap_or(i64::MAX));
        group.read(EVENTS, &[&slots, &topics, &lows, &highs, &surround, &most]).await
    });
    try_join_all(reads).await
}

/// A reader never skips.
fn missing(shared: &Shared, range: &Range, offset: i64) -> Error {
    let topic = shared.topic_name(range.number);
    Error::new(ErrorKind::Corrupt, format!("the database lacks event {offset} of the topic {topic:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_gets_a_share_and_the_rest_goes_to_those_that_have_more() {
        for (counts, limit, expected) in [
            (vec![2_000, 1], 100, vec![99, 1]),
            (vec![10, 10, 10], 15, vec![5, 5, 5]),
            (vec![10, 10, 10], 2, vec![1, 1]),
            (vec![1, 2, 3], 100, vec![1, 2, 3]),
            (vec![], 5, vec![]),
        ] {
            let range = |(number, count): (u32, i64)| Range { number, id: (0, 0), low: 7, high: 7 + count };
            let mut ranges: Vec<Range> = (0..).zip(counts).map(range).collect();
            share_out(&mut ranges, limit);
            assert_eq!(ranges.iter().map(|range| range.high - range.low).collect::<Vec<_>>(), expected);
        }
    }
}
