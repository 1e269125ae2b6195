//! What consumers ask of a store: events under a lease, and changes of what is kept of them.
//!
//! ```text
//! take ─> a lease (in memory) ─> topics with something new ─> their next events ─> receipt
//! acknowledge ─> is the lease still held? ─> positions that are further ─> journal ─> answer
//! ```

use std::sync::Arc;

use tokio::sync::oneshot;

use self::lag::Lag;
use super::admission::job::{Change, Job, Step};
use super::admission::queue::Closed;
use super::admission::route::route;
use super::generation::consumers::Consumer;
use super::generation::consumers::leases::{Lease, Leases, Now};
use super::generation::head::EntryBlocks;
use super::read::batch::{BatchQuery, EventBatch, batch};
use super::shared::Shared;
use super::{Local, wake_later};
use crate::clock::Timestamp;
use crate::consumer::receipt::Receipt;
use crate::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Position, Take};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CONSUMER_CHANGE_BYTES_MAX, LAG_TOPICS_COUNTED, POSITIONS_MAX};
use crate::store::local::format::codec::{BlockHeader, BlockKind, FixedRecord, FrameHeader};
use crate::store::local::format::manifest::random_u64;
use crate::store::local::generation::consumers::each_reached;
use crate::store::local::generation::head::table_bytes;
use crate::store::local::generation::topic::Topic;
use crate::store::{Given, StoredEvent, Taken};

mod lag;
mod lag_metrics;
mod moves;

impl Local {
    /// The consumer that has a name, if it is the one that is meant.
    pub(super) fn known_consumer(&self, key: &ConsumerKey) -> Result<Arc<Consumer>> {
        let known = self.shared.consumers.get(key.name.as_str());
        known.filter(|known| known.topics == key.topics).ok_or_else(|| {
            let name = &key.name;
            let message = format!("there is no consumer {name}: make it with PUT /consumers/{name}");
            Error::new(ErrorKind::NoConsumer, message)
        })
    }

    fn at_once(&self) -> Now {
        let clock = &self.shared.seams.clock;
        Now { monotonic: clock.monotonic(), wall: clock.now() }
    }

    /// What is known of a consumer, for whoever looks at it.
    pub(super) async fn consumer_stats(&self, key: &ConsumerKey, look: Look) -> Result<ConsumerStats> {
        let consumer = self.known_consumer(key)?;
        let lag = self.lag(&consumer, look).await?;
        self.in_turn(look, move |shared| stats(shared, &consumer, lag, look.positions)).await
    }

    /// Gives the next events under a lease.
    pub(super) async fn take_events<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> Result<Taken<T>> {
        let consumer = self.known_consumer(&take.consumer)?;
        let (lease, plan, lag, is_looking) = {
            let mut leases = consumer.leases.lock();
            let id = u64::from(self.life) << 32 | (random_u64()? >> 32);
            let lease = match leases.lease(take, id, self.at_once()) {
                Ok(lease) => lease,
                Err(held) => return Ok(Taken::Held(held)),
            };
            let is_known = consumer.look(&mut leases.backlog, &self.shared.topics, &self.shared.topic_notes);
            let (plan, lag) = plan(&self.shared, &consumer, &mut leases, take);
            (lease, plan, lag, !is_known)
        };
        let mut given = Given {
            lag,
            lease_id: lease.id,
            until: lease.until(),
            is_looking: is_looking && plan.is_empty(),
            ..Given::<()>::default()
        };
        if plan.is_empty() {
            return Ok(Taken::Given(given.with(write(Vec::new()))));
        }
        let turn = self.take_turns.wait(take.client, take.reader).await;
        let query = BatchQuery { topics: plan, limit: take.limit, bytes_max: take.bytes_max };
        let read = move |shared: &Shared| {
            let done = batch(shared, &query).map(|EventBatch { events, reached }| {
                let reached = if events.is_empty() { Vec::new() } else { reached };
                (write(events), reached)
            });
            drop(turn);
            done
        };
        let read = self.takes.run(&self.shared, read).await?.unwrap_or_else(|| Err(Error::stopping()));
        let (events, positions) = read?;
        if !positions.is_empty() {
            let receipt = Receipt { consumer: consumer.number, lease: lease.id, positions };
            given.receipt = Some(receipt.to_text());
            consumer.leases.lock().give(lease.id);
        }
        Ok(Taken::Given(given.with(events)))
    }

    /// Moves a consumer on over what a receipt stands for, durably.
    ///
    /// A lease that ends between its check and the commit does no harm: its reader has had the
    /// events, and positions only grow, so what another reader has acknowledged meanwhile is
    /// neither undone nor skipped.
    pub(super) async fn reach(&self, key: &ConsumerKey, receipt: &str) -> Result<()> {
        let consumer = self.known_consumer(key)?;
        let Some(receipt) = Receipt::parse(receipt) else {
            let message = "this is no receipt: send the one that came with the events, as it is";
            return Err(Error::new(ErrorKind::BadCursor, message));
        };
        let positions = self.check_receipt(&consumer, &receipt)?;
        if !positions.is_empty() {
            self.check_room(consumer.count_new(&positions))?;
            let mut entries = EntryBlocks::new(BlockKind::Consumers);
            each_reached(&consumer.name, consumer.number, &positions, &self.shared.topics, |entry| {
                entries.push(entry);
            });
            let step = Step::Reach { consumer: Arc::clone(&consumer), positions };
            self.change(&key.name, step, entries).await?;
        }
        let mut leases = consumer.leases.lock();
        if let Some((last, _)) = receipt.positions.last() {
            leases.backlog.pass_turn(*last);
        }
        leases.settle(receipt.lease);
        // One without a name would not be known again when it comes for more.
        if leases.find(receipt.lease, self.at_once()).is_some_and(|lease| !lease.holder.is_named) {
            leases.end(receipt.lease);
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
        let (mut leases, now) = (consumer.leases.lock(), self.at_once());
        let lease = leases.find(receipt.lease, now);
        let lease = lease.filter(|_| is_readable);
        let Some(lease) = lease else {
            // What is acknowledged already may be acknowledged again.
            if positions.is_empty() && is_readable {
                return Ok(positions);
            }
            // A receipt of another consumer says nothing of this one.
            if receipt.consumer == consumer.number {
                leases.refuse(now);
            }
            let message = "the lease is over under which these events were given, or the consumer was moved: what is not \
                           acknowledged is given again, so read again; if the work takes longer than the lease, ask \
                           for a longer one";
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        let is_own = |(number, next_offset): &(u32, u64)| {
            self.shared.topics.numbered(*number).is_some_and(|topic| {
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
        if positions == 0 || self.shared.consumers.positions_len().saturating_add(positions) <= POSITIONS_MAX
        {
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
        // All changes of a consumer go to one worker, whose next commit of events has them.
        let worker = route(self.shared.secret.topic(name.as_str().as_bytes()), self.shared.queues.len());
        let place = self.place(worker).await?;
        match self.shared.queues[worker].push(Job::Change { place, change }, reserved, &self.shared.pace) {
            Ok(Some(wake)) => wake_later(wake).await,
            Ok(None) => {}
            Err(Closed) => return Err(Error::stopping()),
        }
        self.answer(answer).await
    }
}

/// The topics to read from for whoever asks, each with where to begin; and how many events wait in
/// all topics of the consumer that are known to have some.
fn plan(
    shared: &Shared,
    consumer: &Consumer,
    leases: &mut Leases,
    take: &Take,
) -> (Vec<(Arc<Topic>, u64)>, u64) {
    let (mut plan, mut caught_up, mut lag, mut counted) = (Vec::new(), Vec::new(), 0u64, 0);
    for number in leases.backlog.ready() {
        if plan.len() >= take.limit && counted >= LAG_TOPICS_COUNTED {
            break;
        }
        let Some(topic) = shared.topics.numbered(number) else { continue };
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
    caught_up.into_iter().for_each(|topic| leases.backlog.is_caught_up(topic));
    (plan, lag)
}

/// What is known of a consumer that lags so far, with its first `shown` positions.
fn stats(shared: &Shared, consumer: &Consumer, lag: Lag, shown: usize) -> ConsumerStats {
    let now = Now { monotonic: shared.seams.clock.monotonic(), wall: shared.seams.clock.now() };
    let (leases, last_fault) = {
        let mut leases = consumer.leases.lock();
        (leases.current(now).iter().map(Lease::stats).collect(), leases.last_fault().cloned())
    };
    ConsumerStats {
        name: consumer.name.clone(),
        topics: consumer.topics.iter().map(ToString::to_string).collect(),
        created_at: Timestamp(consumer.created_at),
        lag_events: lag.events,
        lags_since: lag.since,
        leases,
        last_fault,
        positions: first_positions(shared, consumer, shown),
        positions_total: consumer.positions_len() as u64,
    }
}

/// The first positions of a consumer, in the order of the topics' names.
fn first_positions(shared: &Shared, consumer: &Consumer, shown: usize) -> Vec<Position> {
    if shown == 0 {
        return Vec::new();
    }
    let kept = consumer.positions();
    let named = kept.iter().filter_map(|(number, next)| Some((shared.topics.numbered(*number)?, *next)));
    let mut named: Vec<_> = named.collect();
    // All of them may be very many more than are shown.
    if shown < named.len() {
        named.select_nth_unstable_by(shown, |(a, _), (b, _)| a.name.cmp(&b.name));
        named.truncate(shown);
    }
    named.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let position =
        |(topic, next_offset): (Arc<Topic>, u64)| Position { topic: topic.name.clone(), next_offset };
    named.into_iter().map(position).collect()
}
