//! Consumers of a store in a database: positions and leases are rows, which all nodes see.
//!
//! ```text
//! take        ─> topics with something new (topic_notes) ─> a lease, and where the consumer is: one statement ─> events ─> receipt
//! acknowledge ─> is the lease still held? positions that are further: one statement ─> answer
//! ```
//! Statements that change something are functions of `migrations/0002-consumers.sql`. Each locks
//! the consumer's row first, and is answered once its commit is where a commit must be. So what it
//! has read is covered, too.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use self::consumer_row::{ConsumerRow, find_meant, none};
use self::plan::{Plan, Range, read, share_out};
use self::topic_notes::{ends_elsewhere, look, refresh, take_in};
use crate::clock::Timestamp;
use crate::consumer::partition::{Partition, hash};
use crate::consumer::receipt::Receipt;
use crate::consumer::{ConsumerKey, ConsumerName, LeaseStats, Take};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::POSITIONS_MAX;
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::consumer_cache::ConsumerCache;
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::node::topic_names::TopicId;
use crate::store::postgres::write::retry::change;
use crate::store::{Given, StoredEvent, Taken};
use crate::sync;

pub(crate) mod consumer_row;
pub(crate) mod lag_metrics;
pub(crate) mod moves;
mod plan;
pub(crate) mod stats;
mod topic_notes;

const TAKE: Statement =
    ("take", "SELECT * FROM sekali_take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)");

/// The function does not look at the part that a lease is of, which never changes.
const ACKNOWLEDGE: Statement = (
    "acknowledge",
    "
    SELECT CASE
        WHEN EXISTS (SELECT FROM sekali_leases l CROSS JOIN unnest($11::text[]) t (hash)
                     WHERE l.consumer = $2 AND l.lease = $3 AND l.until > sekali_now()
                       AND t.hash::numeric % l.parts <> l.part - 1) THEN 3::smallint
        ELSE sekali_acknowledge($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) END",
);
const RELEASE: Statement = ("consumer", "DELETE FROM sekali_leases WHERE consumer = $1 AND lease = $2");

/// A lease that was renewed is not renewed before this part of its time is over.
const RENEWAL_SHARE: u32 = 4;

/// Gives the next events of a consumer under a lease.
///
/// # Errors
/// `NoConsumer`, `Overloaded`, `Unsure`, `Corrupt`.
pub(crate) async fn take<T>(
    shared: &Shared,
    take: &Take,
    write: fn(Vec<StoredEvent>) -> T,
) -> Result<Taken<T>> {
    if let Some(given) = still_nothing(shared, take).await? {
        return Ok(Taken::Given(given.with(write(Vec::new()))));
    }
    let new_lease = random()?;
    loop {
        let known = find_meant(shared, &take.consumer).await?;
        let cache = shared.consumers.of(&take.consumer.name, known.number, &known.topics);
        let mut backlog = cache.backlog.lock().await;
        backlog.pass_turn(u32::try_from(known.turn).unwrap_or_default());
        let is_known = look(shared, &cache, &mut backlog).await?;
        let plan = Plan::new(shared, take, &backlog);
        // It was moved or ended meanwhile: what is there now is looked up again.
        let Some(row) = lease(shared, take, cache.number, new_lease, &plan).await? else { continue };
        if let Some(holder) = row.get::<_, Option<String>>(2) {
            let partition = partition(row.get(3), row.get(4))?;
            return Ok(Taken::Held(LeaseStats {
                holder: holder.into(),
                partition,
                until: Timestamp(row.get(1)),
            }));
        }
        let (ranges, lag) = plan.settle(&mut backlog, row.get(5), row.get(6));
        drop(backlog);
        let given = Given {
            lag,
            lease_id: row.get::<_, i64>(0).unsigned_abs(),
            until: Timestamp(row.get(1)),
            is_looking: ranges.is_empty() && (!is_known || plan.is_cut),
            ..Given::<()>::default()
        };
        let (events, given) = give(shared, take, &cache, given, ranges).await?;
        return Ok(Taken::Given(given.with(write(events))));
    }
}

/// The lease that whoever asks has now, or another's that stands against it, with where the
/// consumer is in the topics of a plan; `None` if there is no consumer with this number.
async fn lease(
    shared: &Shared,
    take: &Take,
    number: i64,
    new_lease: i64,
    plan: &Plan,
) -> Result<Option<Row>> {
    let own = take.lease_id.and_then(|lease| i64::try_from(lease).ok());
    let leases: Vec<i64> = own.into_iter().chain([new_lease]).collect();
    let (part, parts) = take.partition.numbers();
    let lasts = i64::try_from(take.lease.as_micros()).unwrap_or(i64::MAX);
    let topics: Vec<TopicId> = plan.topics.iter().map(|topic| topic.id).collect();
    // After what is new was noted: what is stored later is noted later.
    let known_ends = shared.patiently(|| ends_elsewhere(shared, &topics, &[])).await?;
    let (slots, ids): (Vec<i16>, Vec<i32>) = topics.iter().copied().unzip();
    let names: Vec<_> = plan.topics.iter().map(|topic| shared.topic_name(topic.number)).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let rows = change(
        shared,
        TAKE,
        &[
            &take.consumer.name.as_str(),
            &number,
            &leases,
            &&*take.holder.label,
            &take.holder.is_named,
            &i32::from(part),
            &i32::from(parts),
            &lasts,
            &slots,
            &ids,
            &names,
            &known_ends,
        ],
    )
    .await?;
    Ok(rows.into_iter().next())
}

/// What is given of these ranges under a lease.
async fn give(
    shared: &Shared,
    take: &Take,
    cache: &ConsumerCache,
    mut given: Given<()>,
    mut ranges: Vec<Range>,
) -> Result<(Vec<StoredEvent>, Given<()>)> {
    if ranges.is_empty() {
        if !given.is_looking {
            let now = shared.now();
            cache.set_idle(&given, now, now + take.lease / RENEWAL_SHARE);
        }
        return Ok((Vec::new(), given));
    }
    cache.is_over(given.lease_id);
    share_out(&mut ranges, take.limit);
    let (events, positions) = read(shared, &ranges, take.bytes_max).await?;
    let receipt = Receipt { consumer: cache.number.unsigned_abs(), lease: given.lease_id, positions };
    given.receipt = Some(receipt.to_text());
    Ok((events, given))
}

/// The answer to a reader that waits, if there is still nothing for it and its lease need not be
/// renewed: the database is not asked for each of those who wait.
async fn still_nothing(shared: &Shared, take: &Take) -> Result<Option<Given<()>>> {
    let cache = shared.consumers.last(&take.consumer.name);
    let Some((lease, cache)) = take.lease_id.zip(cache) else { return Ok(None) };
    let Some(given) = cache.idle(lease, shared.now()) else { return Ok(None) };
    shared.patiently(|| refresh(shared)).await?;
    let mut backlog = cache.backlog.lock().await;
    take_in(shared, &cache, &mut backlog);
    let mut own = backlog.ready().filter(|topic| take.partition.has(shared.topic_name(*topic).as_bytes()));
    Ok((own.next().is_none() && backlog.looks_after().is_none()).then_some(given))
}

/// Moves a consumer on over what a receipt stands for.
///
/// # Errors
/// `NoConsumer`, `BadCursor`, `Conflict`, `NoSpace`, `Overloaded`, `Unsure`.
pub(crate) async fn acknowledge(shared: &Shared, key: &ConsumerKey, receipt: &str) -> Result<()> {
    let (name, known) = (&key.name, find_meant(shared, key).await?);
    let Some(receipt) = Receipt::parse(receipt) else {
        return Err(bad_receipt("this is no receipt: send the one that came with the events, as it is"));
    };
    if receipt.consumer != known.number.unsigned_abs() {
        return Err(over());
    }
    let last = receipt.positions.last().map_or(known.turn, |(topic, _)| i64::from(*topic));
    let positions = named(shared, &known, &receipt).await?;
    let topics: Vec<TopicId> = positions.iter().map(|(number, _)| shared.topic_id(*number)).collect();
    let (slots, ids): (Vec<i16>, Vec<i32>) = topics.iter().copied().unzip();
    let names: Vec<_> = positions.iter().map(|(number, _)| shared.topic_name(*number)).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let hashes: Vec<String> = names.iter().map(|name| hash(name.as_bytes()).to_string()).collect();
    let offsets: Vec<i64> = positions.iter().map(|(_, next_offset)| *next_offset).collect();
    let known_ends = shared.patiently(|| ends_elsewhere(shared, &topics, &offsets)).await?;
    let lease = i64::try_from(receipt.lease).unwrap_or_default();
    let (name_text, positions_max) = (name.as_str(), POSITIONS_MAX as i64);
    let primaries = shared.groups.primaries();
    let rows = change(
        shared,
        ACKNOWLEDGE,
        &[
            &name_text,
            &known.number,
            &lease,
            &slots,
            &ids,
            &names,
            &offsets,
            &known_ends,
            &last,
            &positions_max,
            &hashes,
        ],
    )
    .await?;
    match rows.first().and_then(|row| row.get::<_, Option<i16>>(0)) {
        None => Err(none(name)),
        Some(0) => Ok(()),
        // It rests on what another commit has changed.
        Some(1) => shared.groups.commit_at_home(&primaries).await,
        Some(2) => Err(over()),
        Some(3) => Err(foreign()),
        Some(_) => Err(no_room()),
    }
}

/// The positions of a receipt, each topic once, whose names this node knows then.
async fn named(shared: &Shared, known: &ConsumerRow, receipt: &Receipt) -> Result<Vec<(u32, i64)>> {
    let mut positions: BTreeMap<u32, i64> = BTreeMap::new();
    for (number, next_offset) in &receipt.positions {
        let next_offset = i64::try_from(*next_offset).map_err(|_| foreign())?;
        let most = positions.entry(*number).or_default();
        *most = next_offset.max(*most);
    }
    let learn = || shared.learn(positions.keys().map(|number| shared.topic_id(*number)));
    shared.patiently(learn).await.map_err(|e| if e.kind() == ErrorKind::Corrupt { foreign() } else { e })?;
    let is_meant = |number: &u32| known.topics.matches(shared.topic_name(*number).as_bytes());
    if positions.keys().all(is_meant) { Ok(positions.into_iter().collect()) } else { Err(foreign()) }
}

/// Ends a lease that was taken for nothing.
pub(crate) async fn release(shared: &Shared, name: &ConsumerName, lease: u64) {
    let Some(cache) = shared.consumers.last(name) else { return };
    cache.is_over(lease);
    let lease = i64::try_from(lease).unwrap_or_default();
    // If it stays, it ends by itself.
    let _ = change(shared, RELEASE, &[&cache.number, &lease]).await;
}

/// A number that nobody has had before.
fn random() -> Result<i64> {
    let random = sync::random_u64().map_err(|e| {
        Error::new(ErrorKind::Overloaded, format!("the system has no random number ({e}); retry later"))
    })?;
    Ok((random >> 1) as i64)
}

fn partition(part: i32, parts: i32) -> Result<Partition> {
    format!("{part}/{parts}").parse().map_err(|why| {
        Error::new(ErrorKind::Corrupt, format!("the database has a lease that can't be: {why}"))
    })
}

fn over() -> Error {
    let message = "the lease is over under which these events were given, or the consumer was moved: what is not \
                   acknowledged is given again, so read again; if the work takes longer than the lease, ask for a \
                   longer one";
    Error::new(ErrorKind::Conflict, message)
}

fn foreign() -> Error {
    bad_receipt("the receipt is not one of this consumer: send the one that came with the events")
}

fn bad_receipt(message: &str) -> Error {
    Error::new(ErrorKind::BadCursor, message)
}

fn no_room() -> Error {
    let message = format!(
        "consumers keep at most {POSITIONS_MAX} positions, one for each topic that one has read: remove consumers, or have \
         them read fewer topics"
    );
    Error::new(ErrorKind::NoSpace, message)
}
