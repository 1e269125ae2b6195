//! What consumers ask of a store: events under a lease, and changes of what is kept of them.
//!
//! ```text
//! take ─> a lease (in memory) ─> topics with something new ─> their next events ─> receipt
//! acknowledge ─> is the lease still held? ─> positions that are further ─> journal ─> answer
//! ```

use std::sync::Arc;

use tokio::sync::oneshot;

use super::generation::consumers::Consumer;
use super::generation::consumers::desk::{Desk, Lease, Now};
use super::generation::head::EntryBlocks;
use super::read::batch::{BatchQuery, batch};
use super::read::event;
use super::shared::Shared;
use super::write::group::{Change, Step};
use super::{Local, stopping};
use crate::clock::Timestamp;
use crate::consumer::receipt::Receipt;
use crate::consumer::{ConsumerName, ConsumerStats, Position, Take};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CONSUMER_CHANGE_BYTES_MAX, LAG_TOPICS_COUNTED, LAG_TOPICS_READ_MAX, POSITIONS_MAX};
use crate::store::local::format::codec::{BlockHeader, BlockKind, FixedRecord, FrameHeader};
use crate::store::local::format::manifest::random_u64;
use crate::store::local::generation::consumers::each_reached;
use crate::store::local::generation::head::table_bytes;
use crate::store::local::generation::topic::Topic;
use crate::store::{Given, Taken};
use crate::sync;

mod figures;
mod moves;

pub(super) use self::figures::observe;

impl Local {
    pub(super) fn known_consumer(&self, name: &ConsumerName) -> Result<Arc<Consumer>> {
        self.core.consumers.get(name.as_str()).ok_or_else(|| {
            let message = format!("there is no consumer {name}: make it with PUT /consumers/{name}");
            Error::new(ErrorKind::NoConsumer, message)
        })
    }

    fn at_once(&self) -> Now {
        let clock = &self.core.seams.clock;
        Now { monotonic: clock.monotonic(), wall: clock.now() }
    }

    /// Gives the next events under a lease.
    pub(super) async fn take_events(&self, take: &Take) -> Result<Taken> {
        let consumer = self.known_consumer(&take.consumer)?;
        let (lease, plan, lag, is_looking) = {
            let mut desk = consumer.desk.lock();
            let id = u64::from(self.life) << 32 | (random_u64()? >> 32);
            let lease = match desk.lease(take, id, self.at_once()) {
                Ok(lease) => lease,
                Err(held) => return Ok(Taken::Held(held)),
            };
            let is_known = consumer.look(&mut desk.backlog, &self.core.topics, &self.core.news);
            let (plan, lag) = plan(&self.core, &consumer, &mut desk, take);
            (lease, plan, lag, !is_known)
        };
        let mut given = Given {
            lag,
            lease_id: lease.id,
            until: lease.until(),
            is_looking: is_looking && plan.is_empty(),
            ..Given::default()
        };
        if plan.is_empty() {
            return Ok(Taken::Given(given));
        }
        let turn = self.take_turns.wait(take.client, take.reader).await;
        let query = BatchQuery { topics: plan, limit: take.limit, bytes_max: take.bytes_max };
        let read = move |core: &Shared| {
            let batch = batch(core, &query);
            drop(turn);
            batch
        };
        let batch = self.takes.run(&self.core, read).await?.unwrap_or_else(|| Err(stopping()))?;
        if !batch.events.is_empty() {
            let receipt = Receipt { consumer: consumer.number, lease: lease.id, positions: batch.reached };
            given.receipt = Some(receipt.to_text());
            consumer.desk.lock().give(lease.id);
        }
        given.events = batch.events;
        Ok(Taken::Given(given))
    }

    /// Moves a consumer on over what a receipt stands for, durably.
    pub(super) async fn reach(&self, name: &ConsumerName, receipt: &str) -> Result<()> {
        let consumer = self.known_consumer(name)?;
        let Some(receipt) = Receipt::parse(receipt) else {
            let message = "this is no receipt: send the one that came with the events, as it is";
            return Err(Error::new(ErrorKind::BadCursor, message));
        };
        let positions = self.check_receipt(&consumer, &receipt)?;
        if !positions.is_empty() {
            self.check_room(consumer.count_new(&positions))?;
            let mut entries = EntryBlocks::new(BlockKind::Consumers);
            each_reached(&consumer.name, consumer.number, &positions, &self.core.topics, |entry| {
                entries.push(entry);
            });
            let step = Step::Reach { consumer: Arc::clone(&consumer), positions };
            self.change(name, step, entries).await?;
        }
        let mut desk = consumer.desk.lock();
        if let Some((last, _)) = receipt.positions.last() {
            desk.backlog.pass_turn(*last);
        }
        desk.settle(receipt.lease);
        // One without a name would not be known again when it comes for more.
        if desk.find(receipt.lease, self.at_once()).is_some_and(|lease| !lease.holder.is_named) {
            desk.end(receipt.lease);
        }
        Ok(())
    }

    /// The positions of a receipt that are further than those of its consumer.
    ///
    /// # Errors
    /// `Conflict` if its lease is over; `BadCursor` if it is of other topics.
    fn check_receipt(&self, consumer: &Consumer, receipt: &Receipt) -> Result<Vec<(u32, u64)>> {
        // Topics have other numbers in another process.
        let is_readable = receipt.consumer == consumer.number && receipt.lease >> 32 == u64::from(self.life);
        let positions = consumer.further(&receipt.positions);
        let (mut desk, now) = (consumer.desk.lock(), self.at_once());
        let lease = desk.find(receipt.lease, now);
        let lease = lease.filter(|_| is_readable);
        let Some(lease) = lease else {
            // What is acknowledged already may be acknowledged again.
            if positions.is_empty() && is_readable {
                return Ok(positions);
            }
            desk.refuse(now);
            let message = "the lease is over under which these events were given: they are given again, so read \
                           again, and ask for a longer lease if the work takes longer";
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        let is_own = |(number, next_offset): &(u32, u64)| {
            self.core.topics.numbered(*number).is_some_and(|topic| {
                let name = topic.name.as_bytes();
                consumer.topics.matches(name)
                    && lease.partition.has(name)
                    && *next_offset <= topic.next_offset()
            })
        };
        if !positions.iter().all(is_own) {
            let message = "the receipt is not one of this consumer: send the one that came with the events";
            return Err(Error::new(ErrorKind::BadCursor, message));
        }
        Ok(positions)
    }

    /// Refuses positions beyond those that there may be.
    fn check_room(&self, positions: usize) -> Result<()> {
        // Whoever adds none can always go on.
        if positions == 0 || self.core.consumers.positions_len().saturating_add(positions) <= POSITIONS_MAX {
            return Ok(());
        }
        let message = format!(
            "consumers keep at most {POSITIONS_MAX} positions, one for each topic that one has read: remove consumers, \
             or have them read fewer topics"
        );
        Err(Error::new(ErrorKind::NoSpace, message))
    }

    /// Makes a change of a consumer durable.
    async fn change(&self, name: &ConsumerName, step: Step, entries: EntryBlocks) -> Result<()> {
        let blocks = entries.finish();
        let bytes = table_bytes(&blocks) as usize;
        if bytes > CONSUMER_CHANGE_BYTES_MAX {
            let message = format!(
                "the names of the topics to keep positions in have more than {CONSUMER_CHANGE_BYTES_MAX} bytes: have \
                 the consumer read fewer topics"
            );
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        let reserved = (bytes + FrameHeader::BYTES + BlockHeader::BYTES) as u64;
        let (reply, answer) = oneshot::channel();
        let change = Change { name: name.as_str().into(), step, blocks, reserved, reply };
        let commits = self.commits.lock().clone().ok_or_else(stopping)?;
        let core = Arc::clone(&self.core);
        let sent = sync::blocking(move || {
            core.preallocation.reserve(reserved)?;
            if commits.change(change) { Ok(()) } else { Err(core.failure.unsure()) }
        });
        sent.await.unwrap_or_else(|| Err(self.core.failure.unsure()))?;
        self.answer(answer).await
    }
}

/// The topics to read from for whoever asks, each with where to begin; and how many events wait in
/// all topics of the consumer that are known to have some.
fn plan(core: &Shared, consumer: &Consumer, desk: &mut Desk, take: &Take) -> (Vec<(Arc<Topic>, u64)>, u64) {
    let (mut plan, mut caught_up, mut lag, mut counted) = (Vec::new(), Vec::new(), 0u64, 0);
    for number in desk.backlog.ready() {
        if plan.len() >= take.limit && counted >= LAG_TOPICS_COUNTED {
            break;
        }
        let Some(topic) = core.topics.numbered(number) else { continue };
        let (position, next_offset) = (consumer.position(&topic), topic.next_offset());
        if position >= next_offset {
            caught_up.push(number);
            continue;
        }
        counted += 1;
        lag += next_offset - position;
        if plan.len() < take.limit && take.partition.has(topic.name.as_bytes()) {
            plan.push((topic, position));
        }
    }
    caught_up.into_iter().for_each(|topic| desk.backlog.is_caught_up(topic));
    (plan, lag)
}

/// What is known of a consumer.
pub(super) fn stats(core: &Shared, consumer: &Consumer, shown: usize) -> Result<ConsumerStats> {
    let (lag_events, oldest) = lag(core, consumer)?;
    let now = Now { monotonic: core.seams.clock.monotonic(), wall: core.seams.clock.now() };
    let (leases, last_fault) = {
        let mut desk = consumer.desk.lock();
        (desk.leases(now).iter().map(Lease::stats).collect(), desk.last_fault().cloned())
    };
    let kept = consumer.positions();
    let positions_total = kept.len() as u64;
    let mut positions: Vec<_> = if shown == 0 {
        Vec::new()
    } else {
        let named = kept.iter().filter_map(|(number, next_offset)| {
            Some(Position { topic: core.topics.numbered(*number)?.name.clone(), next_offset: *next_offset })
        });
        named.collect()
    };
    positions.sort_by(|a, b| a.topic.cmp(&b.topic));
    positions.truncate(shown);
    Ok(ConsumerStats {
        name: consumer.name.clone(),
        topics: consumer.topics.iter().map(ToString::to_string).collect(),
        created_at: Timestamp(consumer.created_at),
        lag_events,
        lags_since: oldest,
        leases,
        last_fault,
        positions,
        positions_total,
    })
}

/// How many events a consumer has not acknowledged, and when the oldest of them arrived, of the
/// first topics that it lags in.
fn lag(core: &Shared, consumer: &Consumer) -> Result<(u64, Option<Timestamp>)> {
    // In steps: whoever reads for the consumer waits for the lock.
    while !consumer.look(&mut consumer.desk.lock().backlog, &core.topics, &core.news) {}
    let ready: Vec<u32> = consumer.desk.lock().backlog.ready().collect();
    let (mut events, mut oldest, mut read) = (0u64, None::<Timestamp>, 0);
    for topic in ready.into_iter().filter_map(|number| core.topics.numbered(number)) {
        let (position, next_offset) = (consumer.position(&topic), topic.next_offset());
        if position >= next_offset {
            continue;
        }
        events += next_offset - position;
        let first = topic.lost_at(position).map_or(position, |(_, next)| next);
        if read < LAG_TOPICS_READ_MAX && first < next_offset {
            read += 1;
            let at = event(core, &topic, first)?.received_at;
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        }
    }
    Ok((events, oldest))
}
