//! What is known of a consumer: its lag, its leases and its positions.

use tokio_postgres::Row;

use super::desk::Desk;
use super::known::find;
use super::news::{look, positions};
use super::partition;
use crate::clock::Timestamp;
use crate::consumer::{ConsumerName, ConsumerStats, DeliveryFault, DeliveryFaultKind, LeaseStats, Position};
use crate::error::Result;
use crate::limits::LAG_TOPICS_READ_MAX;
use crate::store::postgres::connection::Statement;
use crate::store::postgres::shared::Shared;
use crate::store::postgres::topics::TopicId;

/// How many events of these topics are after these offsets, and when the oldest of them arrived, of
/// the first topics that have any.
const LAG: Statement = (
    "lag",
    "
    WITH lagging AS MATERIALIZED (
        SELECT t.ord, t.slot, t.topic_id, c.next_offset, t.position
        FROM unnest($1::smallint[], $2::integer[], $3::bigint[]) WITH ORDINALITY t (slot, topic_id, position, ord)
        CROSS JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
                            WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
        WHERE c.next_offset > t.position
    )
    SELECT (SELECT coalesce(sum(l.next_offset - l.position), 0)::bigint FROM lagging l),
           (SELECT min(e.received_at) FROM (SELECT * FROM lagging ORDER BY ord LIMIT $4) l
            CROSS JOIN LATERAL (SELECT i.received_at FROM sekali_events i
                                WHERE i.slot = l.slot AND i.topic_id = l.topic_id AND i.topic_offset = l.position
                                LIMIT 1) e)",
);
const LEASES: Statement = (
    "consumers",
    "
    SELECT holder, part, parts, until FROM sekali_leases WHERE consumer = $1 AND until > sekali_now() ORDER BY parts, part",
);
const POSITIONS: Statement = (
    "consumers",
    "SELECT topic, next_offset FROM sekali_positions WHERE consumer = $1 ORDER BY topic LIMIT $2",
);

/// What went wrong last. A lease that is over is noted when the next one is asked for.
const ERROR: Statement = (
    "consumers",
    "
    SELECT e.at, e.reason, e.holder
    FROM (SELECT c.error_at, c.error_reason, c.error_holder FROM sekali_consumers c
          WHERE c.name = $2 AND c.error_at IS NOT NULL
          UNION ALL
          SELECT l.until, 0::smallint, l.holder FROM sekali_leases l
          WHERE l.consumer = $1 AND l.until <= sekali_now() AND l.is_open) e (at, reason, holder)
    ORDER BY e.at DESC LIMIT 1",
);

/// What is known of a consumer, with its first `shown` positions.
///
/// # Errors
/// `NoConsumer`, `Overloaded`, `Unsure`, `Corrupt`.
pub(crate) async fn stats(shared: &Shared, name: &ConsumerName, shown: usize) -> Result<ConsumerStats> {
    let known = find(shared, name).await?;
    let desk = shared.consuming.desk(name, known.number, &known.topics);
    let well = shared.groups.well();
    let (lag_events, lags_since) = lag(shared, &desk, &well).await?;
    let [leases, errors, positions] = shared.patiently(|| rows(shared, name, known.number, shown)).await?;
    shared.patiently(|| shared.groups.commit(&well)).await?;
    let lease = |row: &Row| {
        let holder = row.get::<_, &str>(0).into();
        Ok(LeaseStats { holder, partition: partition(row.get(1), row.get(2))?, until: Timestamp(row.get(3)) })
    };
    let position = |row: &Row| Position {
        topic: row.get::<_, &str>(0).into(),
        next_offset: row.get::<_, i64>(1).unsigned_abs(),
    };
    Ok(ConsumerStats {
        name: name.as_str().into(),
        topics: known.topics.iter().map(ToString::to_string).collect(),
        created_at: Timestamp(known.created_at),
        lag_events,
        lags_since,
        leases: leases.iter().map(lease).collect::<Result<_>>()?,
        last_fault: errors.first().map(fault),
        positions: positions.iter().map(position).collect(),
        positions_total: known.positions.unsigned_abs(),
    })
}

async fn rows(shared: &Shared, name: &ConsumerName, number: i64, shown: usize) -> Result<[Vec<Row>; 3]> {
    let client = shared.groups.home().connections.read().await?;
    let leases = client.rows(LEASES, &[&number]).await?;
    let errors = client.rows(ERROR, &[&number, &name.as_str()]).await?;
    let shown = i64::try_from(shown).unwrap_or(i64::MAX);
    let positions = client.rows(POSITIONS, &[&number, &shown]).await?;
    Ok([leases, errors, positions])
}

fn fault(row: &Row) -> DeliveryFault {
    let kind = match row.get::<_, i16>(1) {
        0 => DeliveryFaultKind::LeaseExpired,
        _ => DeliveryFaultKind::AckRefused,
    };
    DeliveryFault { at: Timestamp(row.get(0)), kind, holder: row.get::<_, Option<&str>>(2).map(Into::into) }
}

/// How many events a consumer has not acknowledged, and when the oldest of them arrived, of the
/// first topics that it lags in, of those in the databases at these places. It may not be covered.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn lag(shared: &Shared, desk: &Desk, places: &[usize]) -> Result<(u64, Option<Timestamp>)> {
    let ready: Vec<u32> = {
        let mut backlog = desk.backlog.lock().await;
        while !look(shared, desk, &mut backlog).await? {}
        backlog.ready().collect()
    };
    let (events, oldest) = shared.patiently(|| lag_of(shared, desk.number, &ready, places)).await?;
    Ok((events.unsigned_abs(), oldest.map(Timestamp)))
}

async fn lag_of(shared: &Shared, number: i64, topics: &[u32], asked: &[usize]) -> Result<(i64, Option<i64>)> {
    let names: Vec<_> = topics.iter().map(|topic| shared.topic_name(*topic)).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let positions = positions(shared, number, &names).await?;
    let places = topics.iter().map(|topic| shared.topic_id(*topic)).zip(positions);
    let (mut events, mut oldest) = (0, None);
    for (place, places) in shared.groups.sort(places, |(topic, _)| topic.0).into_iter().enumerate() {
        if places.is_empty() || !asked.contains(&place) {
            continue;
        }
        let (ids, positions): (Vec<TopicId>, Vec<i64>) = places.into_iter().unzip();
        let (slots, ids): (Vec<i16>, Vec<i32>) = ids.into_iter().unzip();
        let rows = shared
            .groups
            .get(place)
            .read(LAG, &[&slots, &ids, &positions, &(LAG_TOPICS_READ_MAX as i64)])
            .await?;
        for row in rows {
            events += row.get::<_, i64>(0);
            let of_group: Option<i64> = row.get(1);
            oldest = of_group.into_iter().chain(oldest).min();
        }
    }
    Ok((events, oldest))
}
