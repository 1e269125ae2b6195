//! What is known of a consumer: its lag, its leases and its positions.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::consumer_row::find_meant;
use super::partition;
use super::topic_notes::{look, positions};
use crate::clock::Timestamp;
use crate::consumer::oldest::Search;
use crate::consumer::{
    ConsumerKey, ConsumerName, ConsumerStats, DeliveryFault, DeliveryFaultKind, LeaseStats, Position,
};
use crate::error::Result;
use crate::limits::CONSUMER_LOOK_TOPICS;
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::consumer_cache::ConsumerCache;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::TopicId;

/// How many events of these topics are after these offsets; those of them that have any, by their
/// places in the list; and when the last event of those arrived where that was longest ago.
const LAG: Statement = (
    "lag",
    "
    SELECT coalesce(sum(l.next_offset - l.position), 0)::bigint, coalesce(array_agg(l.ord), '{}'), min(l.last_received_at)
    FROM (SELECT t.ord, t.position, c.next_offset, c.last_received_at
          FROM unnest($1::smallint[], $2::integer[], $3::bigint[]) WITH ORDINALITY t (slot, topic_id, position, ord)
          CROSS JOIN LATERAL (SELECT k.next_offset, k.last_received_at FROM sekali_topic_counts k
                              WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c
          WHERE c.next_offset > t.position) l",
);

/// When the events of these topics arrived that are at these offsets.
const ARRIVALS: Statement = (
    "lag",
    "
    SELECT t.slot, t.topic_id, e.received_at
    FROM unnest($1::smallint[], $2::integer[], $3::bigint[]) t (slot, topic_id, topic_offset)
    CROSS JOIN LATERAL (SELECT i.received_at FROM sekali_events i
                        WHERE i.slot = t.slot AND i.topic_id = t.topic_id AND i.topic_offset = t.topic_offset
                        LIMIT 1) e",
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
pub(crate) async fn stats(shared: &Shared, key: &ConsumerKey, shown: usize) -> Result<ConsumerStats> {
    shared.patiently(|| read_stats(shared, key, shown)).await
}

async fn read_stats(shared: &Shared, key: &ConsumerKey, shown: usize) -> Result<ConsumerStats> {
    let primaries = shared.groups.primaries();
    let (name, row) = (&key.name, find_meant(shared, key).await?);
    let cache = shared.consumers.of(name, row.number, &row.topics);
    let well = shared.groups.well();
    let (lag_events, lags_since) = lag(shared, &cache, &well).await?;
    let [leases, errors, positions] = rows(shared, name, row.number, shown).await?;
    shared.groups.commit(&primaries, &well).await?;
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
        topics: row.topics.iter().map(ToString::to_string).collect(),
        created_at: Timestamp(row.created_at),
        lag_events,
        lags_since,
        leases: leases.iter().map(lease).collect::<Result<_>>()?,
        last_fault: errors.first().map(fault),
        positions: positions.iter().map(position).collect(),
        positions_total: row.positions.unsigned_abs(),
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

/// How many events a consumer has not acknowledged, and when the oldest of them arrived, as far as
/// it was looked for, of those in the databases at these places. It may not be covered.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(super) async fn lag(
    shared: &Shared,
    cache: &ConsumerCache,
    places: &[usize],
) -> Result<(u64, Option<Timestamp>)> {
    let ready: Vec<u32> = {
        let mut backlog = cache.backlog.lock().await;
        while !look(shared, cache, &mut backlog).await? {}
        backlog.ready_from(0).collect()
    };
    let (mut search, mut events) = (Search::new(cache.oldest.lock().clone()), 0);
    // In steps: no statement is of more topics than one that looks for news.
    for topics in ready.chunks(CONSUMER_LOOK_TOPICS) {
        let seen = shared.patiently(|| seen(shared, cache.number, topics, places)).await?;
        let mut all_lagging = Vec::new();
        for Seen { events: more, lagging, by } in seen {
            events += more.unsigned_abs();
            by.into_iter().for_each(|by| search.arrived_by(Timestamp(by)));
            all_lagging.extend(lagging);
        }
        // Each database has told of its own: a search goes by numbers over all of them.
        all_lagging.sort_unstable();
        all_lagging.into_iter().for_each(|(topic, position)| search.see(topic, position.unsigned_abs()));
    }
    let unread = search.unread();
    let arrivals = shared.patiently(|| arrivals(shared, &unread)).await?;
    for (topic, offset) in unread {
        if let Some(at) = arrivals.get(&shared.topic_id(topic)) {
            search.read(topic, offset, Timestamp(*at));
        }
    }
    let (since, oldest) = search.end();
    *cache.oldest.lock() = oldest;
    Ok((events, since))
}

/// What is seen of some topics in one database.
struct Seen {
    /// Events that wait in them.
    events: i64,
    /// The topics with any, each with the offset of the first one.
    lagging: Vec<(u32, i64)>,
    /// One of these arrived by then.
    by: Option<i64>,
}

async fn seen(shared: &Shared, number: i64, topics: &[u32], asked: &[usize]) -> Result<Vec<Seen>> {
    let names: Vec<_> = topics.iter().map(|topic| shared.topic_name(*topic)).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let positions = positions(shared, number, &names).await?;
    let places = topics.iter().copied().zip(positions);
    let mut seen = Vec::new();
    let sorted = shared.groups.sort(places, |(topic, _)| shared.topic_id(*topic).0);
    for (place, places) in sorted.into_iter().enumerate() {
        if places.is_empty() || !asked.contains(&place) {
            continue;
        }
        let (slots, ids): (Vec<i16>, Vec<i32>) =
            places.iter().map(|(topic, _)| shared.topic_id(*topic)).unzip();
        let positions: Vec<i64> = places.iter().map(|(_, position)| *position).collect();
        let rows = shared.groups.get(place).read(LAG, &[&slots, &ids, &positions]).await?;
        seen.extend(rows.iter().map(|row| {
            let lagging = row.get::<_, Vec<i64>>(1).into_iter();
            let lagging = lagging.filter_map(|ord| places.get(usize::try_from(ord - 1).ok()?).copied());
            Seen { events: row.get(0), lagging: lagging.collect(), by: row.get(2) }
        }));
    }
    Ok(seen)
}

/// When these events arrived, by their topics, as far as they are there.
async fn arrivals(shared: &Shared, events: &[(u32, u64)]) -> Result<HashMap<TopicId, i64>> {
    let places = events.iter().map(|(topic, offset)| (shared.topic_id(*topic), offset.cast_signed()));
    let mut arrivals = HashMap::new();
    for (place, places) in shared.groups.sort(places, |(topic, _)| topic.0).into_iter().enumerate() {
        if places.is_empty() {
            continue;
        }
        let (ids, offsets): (Vec<TopicId>, Vec<i64>) = places.into_iter().unzip();
        let (slots, ids): (Vec<i16>, Vec<i32>) = ids.into_iter().unzip();
        let rows = shared.groups.get(place).read(ARRIVALS, &[&slots, &ids, &offsets]).await?;
        arrivals.extend(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))));
    }
    Ok(arrivals)
}
