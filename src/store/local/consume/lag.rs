//! How far a consumer lags: all topics that may have something new are looked at, in short steps.
//! They take turns with scans, as they may be many and give one line; but not in their thread: that
//! is kept from running where others want to, and publishers and readers would wait for the locks
//! that it holds then.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::consumer::Look;
use crate::consumer::oldest::Search;
use crate::error::Result;
use crate::limits::{CONSUMER_LOOK_TOPICS, LAG_READ_TOPICS};
use crate::store::local::Local;
use crate::store::local::generation::consumers::Consumer;
use crate::store::local::generation::topic::Topic;
use crate::store::local::read::event;
use crate::store::local::shared::Shared;
use crate::sync;

/// How far a consumer lags.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    /// Events that it has not acknowledged.
    pub(super) events: u64,
    /// When the oldest of them arrived, as far as it was looked for.
    pub(super) since: Option<Timestamp>,
}

/// What is under way to find it out.
struct Count {
    consumer: Arc<Consumer>,
    stage: Stage,
    events: u64,
    search: Search,
}

/// What is to be done next.
enum Stage {
    /// To find out which topics may have something new.
    Look,
    /// To look at these topics from this number on.
    Topics(u32),
    /// To read these events, the last one first.
    Read(Vec<(u32, u64)>),
    Done,
}

impl Count {
    fn new(consumer: Arc<Consumer>) -> Self {
        let search = Search::new(consumer.leases.lock().oldest.clone());
        Self { consumer, stage: Stage::Look, events: 0, search }
    }

    /// Goes on for a bounded time; whether it is done.
    fn step(&mut self, shared: &Shared) -> Result<bool> {
        let mut looked = 0;
        while looked < CONSUMER_LOOK_TOPICS {
            looked += match &mut self.stage {
                Stage::Look => self.look(shared),
                Stage::Topics(from) => {
                    let from = *from;
                    self.count(shared, from, CONSUMER_LOOK_TOPICS - looked)
                }
                Stage::Read(unread) => match unread.pop() {
                    Some((number, offset)) => self.read(shared, number, offset)?,
                    None => {
                        self.stage = Stage::Done;
                        0
                    }
                },
                Stage::Done => return Ok(true),
            };
        }
        Ok(matches!(self.stage, Stage::Done))
    }

    /// Finds out more of which topics may have something new; how many topics that took.
    fn look(&mut self, shared: &Shared) -> usize {
        let is_long = self.consumer.leases.lock().backlog.looks_after().is_some();
        if self.consumer.look_beside(&shared.topics, &shared.topic_notes) {
            self.stage = Stage::Topics(0);
        }
        if is_long { CONSUMER_LOOK_TOPICS } else { 0 }
    }

    /// Looks at so many topics; how many there were.
    fn count(&mut self, shared: &Shared, from: u32, most: usize) -> usize {
        let numbers: Vec<u32> = self.consumer.leases.lock().backlog.ready_from(from).take(most).collect();
        numbers
            .iter()
            .filter_map(|number| shared.topics.numbered(*number))
            .for_each(|topic| self.see(&topic));
        self.stage = match numbers.last().filter(|_| numbers.len() == most) {
            Some(last) => Stage::Topics(last.saturating_add(1)),
            None => {
                let mut unread = self.search.unread();
                unread.reverse();
                Stage::Read(unread)
            }
        };
        numbers.len()
    }

    fn see(&mut self, topic: &Topic) {
        let (position, next_offset) = (self.consumer.position(topic), topic.next_offset());
        if position >= next_offset {
            return;
        }
        self.events += next_offset - position;
        let figures = topic.figures();
        let first = topic.lost_at(position).map_or(position, |(_, next)| next);
        if first == 0 {
            self.search.arrived_by(Timestamp(figures.first_received_at));
        } else if first < next_offset {
            // It arrived no later than the topic's last one.
            self.search.arrived_by(Timestamp(figures.last_received_at));
            self.search.see(topic.number, first);
        }
    }

    /// Reads an event; as how many topics that counts.
    fn read(&mut self, shared: &Shared, number: u32, offset: u64) -> Result<usize> {
        if let Some(topic) = shared.topics.numbered(number) {
            let event = event(shared, &topic, offset, |_| Ok(()))?;
            self.search.read(number, offset, event.received_at);
        }
        Ok(LAG_READ_TOPICS)
    }

    fn end(self) -> Lag {
        let (since, oldest) = self.search.end();
        self.consumer.leases.lock().oldest = oldest;
        Lag { events: self.events, since }
    }
}

impl Local {
    /// How far a consumer lags, for whoever looks at it.
    pub(super) async fn lag(&self, consumer: &Arc<Consumer>, look: Look) -> Result<Lag> {
        let mut count = Count::new(Arc::clone(consumer));
        loop {
            let step = move |shared: &Shared| {
                let is_done = count.step(shared);
                (count, is_done)
            };
            let (goes_on, is_done) = self.in_turn(look, step).await?;
            if is_done? {
                return Ok(goes_on.end());
            }
            count = goes_on;
        }
    }

    /// Takes a step when it is the turn of whoever looks. Whoever has gone by then is noticed
    /// first.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        look: Look,
        step: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T> {
        let turn = self.scan_turns.wait(look.client, look.reader).await;
        sync::yield_task().await;
        self.blocking(move |shared| {
            let done = step(shared);
            drop(turn);
            Ok(done)
        })
        .await
    }
}
