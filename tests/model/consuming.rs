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

/// A consumer as its worker knows it.
struct Consumer {
    name: ConsumerName,
    /// Acknowledged, and answered.
    least: Positions,
    /// Sent to be acknowledged.
    most: Positions,
    /// A receipt that was given, and what it stands for.
    held: Option<(String, Positions)>,
    /// The lease that the held receipt is of is over.
    is_over: bool,
    /// Tells its workers apart.
    workers: u64,
}

impl Consumer {
    fn new(name: &str) -> Verdict<Self> {
        let (least, most) = (Positions::new(), Positions::new());
        Ok(Self { name: name.parse()?, least, most, held: None, is_over: false, workers: 0 })
    }

    /// The process ended, and all leases with it.
    fn restarted(&mut self) {
        self.is_over = true;
    }

    fn take(
        &self,
        world: &World,
        worker: u64,
        lease: Duration,
        limit: usize,
    ) -> Verdict<Taken<Vec<StoredEvent>>> {
        let take = Take {
            consumer: key(&self.name),
            partition: Partition::ALL,
            holder: Holder::named(&format!("worker-{worker}"))?,
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

    /// Takes some events, and holds them against what is known.
    fn read(&mut self, world: &World, lease: Duration, rng: &mut Rng) -> Verdict {
        let limit = if rng.bool() { 1_000 } else { rng.usize(1..20) };
        let given = match self.take(world, self.workers, lease, limit)? {
            Taken::Given(given) => given,
            Taken::Held(held) => return Err(format!("{} is held by {}", self.name, held.holder)),
        };
        if given.is_looking {
            return Ok(());
        }
        let reached = self.hold(&given)?;
        require(given.receipt.is_some() != given.events.is_empty(), || format!("no receipt: {given:?}"))?;
        if limit == 1_000 {
            self.expect_all(world, &given, &reached)?;
        }
        if let Some(receipt) = given.receipt {
            (self.held, self.is_over) = (Some((receipt, reached)), false);
        }
        Ok(())
    }

    /// Each topic begins where the consumer is, and comes in order.
    fn hold(&mut self, given: &Given<Vec<StoredEvent>>) -> Verdict<Positions> {
        let mut reached = Positions::new();
        for event in &given.events {
            let (topic, offset) = (event.topic.to_string(), event.offset);
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

    /// No topic with something new is left out.
    fn expect_all(&self, world: &World, given: &Given<Vec<StoredEvent>>, reached: &Positions) -> Verdict {
        let store = world.store();
        let page = wait("topics", async move { store.topics(None, 1_000, None).await })?;
        for topic in page.map_err(|e| e.to_string())?.topics {
            let known = reached.get(&topic.topic).or_else(|| self.most.get(&topic.topic));
            let is_full = given.events.len() >= 1_000;
            require(is_full || known.copied().unwrap_or(0) > topic.last_offset, || {
                format!("{} has more than {known:?}, and it is not given", topic.topic)
            })?;
        }
        Ok(())
    }

    /// Acknowledges what is held.
    fn acknowledge(&mut self, world: &World) -> Verdict {
        let Some((receipt, reached)) = self.held.clone() else { return Ok(()) };
        let answer = acknowledge(world, &self.name, &receipt)?;
        let is_news = reached.iter().any(|(topic, next)| self.least.get(topic).is_none_or(|at| at < next));
        match answer {
            Ok(()) if self.is_over && is_news => Err(format!("{}: a lease that is over counts", self.name)),
            Ok(()) => {
                self.least.extend(reached.clone());
                self.most.extend(reached);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Conflict && self.is_over => Ok(()),
            Err(e) => Err(format!("{}: it can't be acknowledged: {e}", self.name)),
        }
    }

    /// Another worker comes after the lease of the first is over, and the first is too late.
    fn change_worker(&mut self, world: &World, rng: &mut Rng) -> Verdict {
        self.read(world, LONG, rng)?;
        match self.take(world, self.workers + 1, LONG, 1)? {
            Taken::Held(held) => {
                require(*held.holder == *format!("worker-{}", self.workers), || format!("{held:?}"))?;
            }
            Taken::Given(given) => return Err(format!("two workers at once: {given:?}")),
        }
        self.read(world, SHORT, rng)?;
        let late = self.held.take();
        sekali::sync::sleep(20 * SHORT);
        self.workers += 1;
        self.read(world, LONG, rng)?;
        let next = self.held.take();
        if late.is_some() {
            (self.held, self.is_over) = (late, true);
            self.acknowledge(world)?;
        }
        (self.held, self.is_over) = (next, false);
        Ok(())
    }
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
        let at = rng.usize(..2);
        match rng.u8(..12) {
            0..=3 => {
                let batch = traffic::batch(rng, &world.expected, &[]);
                world.append(&batch)?.map_err(|kind| format!("an append fails: {kind:?}"))?;
            }
            4..=5 => consumers[at].read(&world, LONG, rng)?,
            6..=7 => {
                consumers[at].read(&world, LONG, rng)?;
                consumers[at].acknowledge(&world)?;
            }
            8 => consumers[at].acknowledge(&world)?,
            9 => consumers[at].change_worker(&world, rng)?,
            10 => {
                // The receipt of one is worth nothing to the other.
                if let Some((receipt, _)) = &consumers[at].held {
                    let answer = acknowledge(&world, &consumers[1 - at].name, receipt)?;
                    require(answer.is_err(), || "a receipt of another consumer counts".to_owned())?;
                }
            }
            _ => {
                // Right after an answer: what that rests on has had no time to become durable.
                consumers[at].acknowledge(&world)?;
                match rng.u8(..3) {
                    0 => world.close()?,
                    1 => world.kill()?,
                    _ => world.cut(rng)?,
                }
                world.start(rng)?;
                consumers.iter_mut().for_each(Consumer::restarted);
            }
        }
    }
    world.cut(rng)?;
    world.start(rng)?;
    for consumer in &mut consumers {
        consumer.read(&world, LONG, rng)?;
    }
    Ok(())
}
