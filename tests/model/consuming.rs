//! Consumers through stops, kills and power cuts: what was acknowledged stays so, nothing is
//! skipped, and no event is given twice at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sekali::consumer::partition::Partition;
use sekali::consumer::{ConsumerKey, ConsumerName, Holder, Start, Take};
use sekali::error::{Error, ErrorKind};
use sekali::event::pattern::{TopicPattern, TopicPatterns};
use sekali::store::{EventStore, Given, StoredEvent, Taken};

use super::expected::{Verdict, require};
use super::flaw::Flaw;
use super::runtime::wait;
use super::traffic;
use super::world::{World, patiently};

/// Steps of one history.
const STEPS: usize = 40;
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(1);

/// The offset to go on from in each topic, by what a consumer was told.
type Positions = BTreeMap<String, u64>;

/// A part of a consumer's topics, as its worker knows it.
struct Part {
    partition: Partition,
    /// A receipt that was given, and what it stands for.
    held: Option<(String, Positions)>,
    /// The lease that the held receipt is of is over.
    is_over: bool,
}

/// A consumer as its workers know it.
struct Consumer {
    name: ConsumerName,
    /// Acknowledged, and answered.
    least: Positions,
    /// Sent to be acknowledged.
    most: Positions,
    parts: Vec<Part>,
    /// Tells its workers apart.
    workers: u64,
}

impl Consumer {
    fn new(name: &str) -> Verdict<Self> {
        let (least, most) = (Positions::new(), Positions::new());
        Ok(Self { name: name.parse()?, least, most, parts: parts(1)?, workers: 0 })
    }

    /// The process ended, or the consumer was moved, and all leases ended with that.
    fn leases_ended(&mut self) {
        self.parts.iter_mut().for_each(|part| part.is_over = true);
    }

    fn take(
        &self,
        world: &World,
        (partition, worker): (Partition, u64),
        lease: Duration,
        limit: usize,
    ) -> Verdict<Taken<Vec<StoredEvent>>> {
        let take = Take {
            consumer: key(&self.name),
            partition,
            holder: Holder::named(&holder(partition, worker))?,
            lease_id: None,
            lease,
            limit,
            bytes_max: 1 << 20,
            client: 0,
            reader: 0,
        };
        let taken = wait(
            "take",
            patiently(|| {
                let (store, take) = (world.store(), take.clone());
                async move { store.take(&take, |events| events).await }
            }),
        )?;
        taken.map_err(|e| format!("take: {e}"))
    }

    /// Takes some events of a part, and holds them against what is known.
    fn read(&mut self, world: &World, at: usize, lease: Duration, rng: &mut Rng) -> Verdict {
        let limit = if rng.bool() { 1_000 } else { rng.usize(1..20) };
        let partition = self.parts[at].partition;
        let given = match self.take(world, (partition, self.workers), lease, limit)? {
            Taken::Given(given) => given,
            Taken::Held(held) => return Err(format!("{} is held by {}", self.name, held.holder)),
        };
        if given.is_looking {
            return Ok(());
        }
        let reached = self.hold(partition, &given)?;
        require(given.receipt.is_some() != given.events.is_empty(), || format!("no receipt: {given:?}"))?;
        if limit == 1_000 {
            self.expect_all(world, partition, &given, &reached)?;
        }
        if let Some(receipt) = given.receipt {
            let part = &mut self.parts[at];
            (part.held, part.is_over) = (Some((receipt, reached)), false);
        }
        Ok(())
    }

    /// Each topic is of the part, begins where the consumer is, and comes in order.
    fn hold(&mut self, partition: Partition, given: &Given<Vec<StoredEvent>>) -> Verdict<Positions> {
        let mut reached = Positions::new();
        for event in &given.events {
            let (topic, offset) = (event.topic.to_string(), event.offset);
            require(partition.has(topic.as_bytes()), || format!("{topic} is not of {partition:?}"))?;
            match reached.insert(topic.clone(), offset + 1) {
                Some(next) => require(next == offset, || format!("{topic} goes on at {offset}, not {next}"))?,
                None => {
                    let of = |positions: &Positions| positions.get(&topic).copied().unwrap_or(0);
                    let (least, most) = (of(&self.least), of(&self.most));
                    require((least..=most).contains(&offset), || {
                        format!("{topic} begins at {offset}, and was at {least} to {most}")
                    })?;
                    self.least.insert(topic.clone(), offset);
                    self.most.insert(topic, offset);
                }
            }
        }
        Ok(reached)
    }

    /// No topic of the part with something new is left out.
    fn expect_all(
        &self,
        world: &World,
        partition: Partition,
        given: &Given<Vec<StoredEvent>>,
        reached: &Positions,
    ) -> Verdict {
        for (topic, end) in ends(world)?.into_iter().filter(|(topic, _)| partition.has(topic.as_bytes())) {
            let known = reached.get(&topic).or_else(|| self.most.get(&topic));
            let is_full = given.events.len() >= 1_000;
            require(is_full || known.copied().unwrap_or(0) >= end, || {
                format!("{topic} has more than {known:?}, and it is not given")
            })?;
        }
        Ok(())
    }

    /// Acknowledges what is held of a part.
    fn acknowledge(&mut self, world: &World, at: usize) -> Verdict {
        let (held, is_over) = (self.parts[at].held.clone(), self.parts[at].is_over);
        held.map_or(Ok(()), |held| self.acknowledge_held(world, held, is_over))
    }

    fn acknowledge_held(
        &mut self,
        world: &World,
        (receipt, reached): (String, Positions),
        is_over: bool,
    ) -> Verdict {
        let is_news = reached.iter().any(|(topic, next)| self.least.get(topic).is_none_or(|at| at < next));
        match acknowledge(world, &self.name, &receipt)? {
            Ok(()) if is_over && is_news => Err(format!("{}: a lease that is over counts", self.name)),
            Ok(()) if is_over => Ok(()),
            Ok(()) => {
                self.least.extend(reached.clone());
                self.most.extend(reached);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Conflict && is_over => Ok(()),
            Err(e) => Err(format!("{}: it can't be acknowledged: {e}", self.name)),
        }
    }

    /// Another worker comes after the lease of the first is over, and the first is too late.
    fn change_worker(&mut self, world: &World, at: usize, rng: &mut Rng) -> Verdict {
        self.read(world, at, LONG, rng)?;
        self.expect_held(world, self.parts[at].partition)?;
        let late = self.let_go(world, at, rng)?;
        // All parts have other workers from now on.
        for other in 0..self.parts.len() {
            self.let_go(world, other, rng)?;
        }
        self.workers += 1;
        self.read(world, at, LONG, rng)?;
        late.map_or(Ok(()), |late| self.acknowledge_held(world, late, true))
    }

    /// While a worker has its part, another one gets nothing of a part with the same topics.
    fn expect_held(&self, world: &World, partition: Partition) -> Verdict {
        let mut own = self.parts.iter().map(|part| holder(part.partition, self.workers));
        match self.take(world, (partition, self.workers + 1), LONG, 1)? {
            Taken::Held(held) => require(own.any(|own| *held.holder == *own), || format!("{held:?}")),
            Taken::Given(given) => Err(format!("two workers at once: {given:?}")),
        }
    }

    /// Has the lease of a part end by itself; the receipt that was of it.
    fn let_go(&mut self, world: &World, at: usize, rng: &mut Rng) -> Verdict<Option<(String, Positions)>> {
        self.read(world, at, SHORT, rng)?;
        sekali::sync::sleep(20 * SHORT);
        Ok(self.parts[at].held.take())
    }

    /// Its topics are given to another number of workers. Those of before are too late.
    fn share(&mut self, world: &World, rng: &mut Rng) -> Verdict {
        self.read(world, 0, LONG, rng)?;
        // The first parts have topics in common, whatever their numbers are.
        self.expect_held(world, format!("1/{}", self.parts.len() + 1).parse()?)?;
        let mut late = Vec::new();
        for at in 0..self.parts.len() {
            late.extend(self.let_go(world, at, rng)?);
        }
        self.parts = parts(rng.usize(1..4))?;
        for at in 0..self.parts.len() {
            self.read(world, at, LONG, rng)?;
        }
        late.into_iter().try_for_each(|held| self.acknowledge_held(world, held, true))
    }

    /// Moves the consumer, forwards or back. What was given before can't be acknowledged.
    fn seek(&mut self, world: &World, rng: &mut Rng) -> Verdict {
        let ends = ends(world)?;
        let (store, key) = (world.store(), key(&self.name));
        let (to, moved) = match rng.usize(..2 + ends.len()) {
            0 => (Start::Start, ends.into_keys().map(|topic| (topic, 0)).collect()),
            1 => (Start::End, ends),
            at => {
                let (topic, end) = ends.into_iter().nth(at - 2).ok_or("no such topic")?;
                let (store, of) = (world.store(), topic.clone());
                let cursor = wait("end", async move { store.end(Some(&of)).await })?;
                let cursor = cursor.map_err(|e| format!("end: {e}"))?;
                (Start::Cursor(cursor), Positions::from([(topic, end)]))
            }
        };
        let done = wait("seek", async move { store.seek_consumer(&key, &to).await })?;
        done.map_err(|e| format!("seek: {e}"))?;
        self.least.extend(moved.clone());
        self.most.extend(moved);
        self.leases_ended();
        Ok(())
    }

    /// Ends the consumer, and makes another one of its name. Receipts of the first are worth nothing.
    fn replace(&mut self, world: &World) -> Verdict {
        let (store, key) = (world.store(), key(&self.name));
        let ended = wait("delete", async move { store.delete_consumer(&key).await })?;
        require(matches!(ended, Ok(true)), || format!("delete: {ended:?}"))?;
        make(world, &self.name)?;
        (self.least, self.most) = (Positions::new(), Positions::new());
        self.leases_ended();
        Ok(())
    }
}

/// What a worker is called.
fn holder(partition: Partition, worker: u64) -> String {
    let (index, count) = partition.numbers();
    format!("worker-{index}-of-{count}-{worker}")
}

/// All topics, in so many parts.
fn parts(count: usize) -> Verdict<Vec<Part>> {
    let part = |number| {
        let partition = format!("{number}/{count}").parse()?;
        Ok(Part { partition, held: None, is_over: false })
    };
    (1..=count).map(part).collect()
}

/// The offset after the last one of each topic.
fn ends(world: &World) -> Verdict<Positions> {
    let store = world.store();
    let page = wait("topics", async move { store.topics(None, 1_000, None).await })?;
    let topics = page.map_err(|e| e.to_string())?.topics.into_iter();
    Ok(topics.map(|topic| (topic.topic, topic.last_offset + 1)).collect())
}

fn acknowledge(world: &World, name: &ConsumerName, receipt: &str) -> Verdict<Result<(), Error>> {
    let (store, key, receipt) = (world.store(), key(name), receipt.to_owned());
    wait("acknowledge", async move { store.acknowledge(&key, &receipt).await })
}

/// A consumer of all topics.
fn key(name: &ConsumerName) -> ConsumerKey {
    let topics: TopicPatterns = std::iter::once(TopicPattern::all()).collect();
    ConsumerKey { name: name.clone(), topics: Arc::new(topics) }
}

fn make(world: &World, name: &ConsumerName) -> Verdict {
    let (store, key) = (world.store(), key(name));
    let made = wait("put", async move { store.put_consumer(&key, &Start::Start).await })?;
    made.map(drop).map_err(|e| format!("put: {e}"))
}

/// Two consumers of the same topics, while events come and the store ends in one way or another.
pub fn consuming(seed: u64) -> Verdict {
    let rng = &mut Rng::with_seed(seed);
    let mut world = World::new(Flaw::None, seed)?;
    let mut consumers = [Consumer::new("first")?, Consumer::new("second")?];
    for consumer in &consumers {
        make(&world, &consumer.name)?;
    }
    for _ in 0..STEPS {
        let which = rng.usize(..2);
        let part = rng.usize(..consumers[which].parts.len());
        let consumer = &mut consumers[which];
        match rng.u8(..16) {
            0..=4 => {
                let batch = traffic::batch(rng, &world.expected, &[]);
                world.append(&batch)?.map_err(|kind| format!("an append fails: {kind:?}"))?;
            }
            5..=6 => consumer.read(&world, part, LONG, rng)?,
            7..=8 => {
                consumer.read(&world, part, LONG, rng)?;
                consumer.acknowledge(&world, part)?;
            }
            9 => consumer.acknowledge(&world, part)?,
            10 => consumer.change_worker(&world, part, rng)?,
            11 => {
                // The receipt of one is worth nothing to the other.
                if let Some((receipt, _)) = &consumers[which].parts[part].held {
                    let answer = acknowledge(&world, &consumers[1 - which].name, receipt)?;
                    require(answer.is_err(), || "a receipt of another consumer counts".to_owned())?;
                }
            }
            12 => consumer.share(&world, rng)?,
            13 => {
                consumer.seek(&world, rng)?;
                consumer.acknowledge(&world, part)?;
            }
            14 if rng.bool() => {
                consumer.replace(&world)?;
                consumer.acknowledge(&world, part)?;
            }
            _ => {
                // Right after an answer: what that rests on has had no time to become durable.
                match rng.u8(..4) {
                    0 => consumer.seek(&world, rng)?,
                    1 => consumer.replace(&world)?,
                    _ => consumer.acknowledge(&world, part)?,
                }
                match rng.u8(..3) {
                    0 => world.close()?,
                    1 => world.kill()?,
                    _ => world.cut(rng)?,
                }
                world.start(rng)?;
                consumers.iter_mut().for_each(Consumer::leases_ended);
            }
        }
    }
    world.cut(rng)?;
    world.start(rng)?;
    for consumer in &mut consumers {
        for part in 0..consumer.parts.len() {
            consumer.read(&world, part, LONG, rng)?;
        }
    }
    Ok(())
}
