//! The backend that a process was started with.
//!
//! A variant for each kind, so that everything above is compiled once and no call of the local
//! store allocates a future. Another backend is a folder beside `local/` that implements
//! [`EventStore`], and a variant here.

use std::sync::Arc;

use super::local::Local;
use super::postgres::Postgres;
use super::{
    Condition, EventStore, Health, Outcome, Page, Query, Stats, StoredEvent, Taken, TopicCount, TopicPage,
};
use crate::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use crate::error::{Error, Result};
use crate::event::Batch;
use crate::event::pattern::TopicPatterns;

/// The open store of a process. Each is boxed: made once, and of very unlike sizes.
#[derive(Debug)]
pub enum Backend {
    /// A journal with indexes, in a directory of this machine.
    Local(Box<Local>),
    /// A PostgreSQL database, which many processes share.
    Postgres(Box<Postgres>),
}

/// Calls the method of whichever backend it is.
macro_rules! each {
    ($backend:expr, $store:ident => $call:expr) => {
        match $backend {
            Backend::Local($store) => $call,
            Backend::Postgres($store) => $call,
        }
    };
}

/// The same with a method that has to be awaited. A database takes milliseconds, and what it keeps
/// meanwhile is boxed: every request would have its size.
macro_rules! awaited {
    ($backend:expr, $store:ident => $call:expr) => {
        match $backend {
            Backend::Local($store) => $call.await,
            Backend::Postgres($store) => Box::pin($call).await,
        }
    };
}

impl Backend {
    /// The number of the store, which no other one has.
    pub fn id(&self) -> u128 {
        each!(self, store => store.id())
    }
}

impl EventStore for Backend {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        awaited!(self, store => store.append(batch))
    }

    fn count_rejected(&self, events: u64) {
        each!(self, store => store.count_rejected(events));
    }

    async fn find(
        &self,
        topic: &str,
        event_id: &str,
        check: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> Result<Option<StoredEvent>> {
        awaited!(self, store => store.find(topic, event_id, check))
    }

    async fn read_as<T: Send + 'static>(
        &self,
        query: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<(Page, T)> {
        awaited!(self, store => store.read_as(query, write))
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        awaited!(self, store => store.end(topic))
    }

    async fn pulse(&self) -> Result<String> {
        awaited!(self, store => store.pulse())
    }

    async fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Result<TopicPage> {
        awaited!(self, store => store.topics(cursor, limit, only))
    }

    async fn stats(&self) -> Result<Stats> {
        awaited!(self, store => store.stats())
    }

    fn topic_count(&self) -> TopicCount {
        each!(self, store => store.topic_count())
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        awaited!(self, store => store.count_new_topics(topics))
    }

    async fn put_consumer(&self, consumer: &ConsumerKey, start: &Start) -> Result<bool> {
        awaited!(self, store => store.put_consumer(consumer, start))
    }

    async fn delete_consumer(&self, consumer: &ConsumerKey) -> Result<bool> {
        awaited!(self, store => store.delete_consumer(consumer))
    }

    async fn seek_consumer(&self, consumer: &ConsumerKey, to: &Start) -> Result<()> {
        awaited!(self, store => store.seek_consumer(consumer, to))
    }

    async fn consumer_topics(&self, name: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        awaited!(self, store => store.consumer_topics(name))
    }

    async fn consumer(&self, consumer: &ConsumerKey, look: Look) -> Result<ConsumerStats> {
        awaited!(self, store => store.consumer(consumer, look))
    }

    async fn consumers(&self, after: Option<&str>, limit: usize) -> Result<Vec<ConsumerKey>> {
        awaited!(self, store => store.consumers(after, limit))
    }

    async fn take<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> Result<Taken<T>> {
        awaited!(self, store => store.take(take, write))
    }

    async fn acknowledge(&self, consumer: &ConsumerKey, receipt: &str) -> Result<()> {
        awaited!(self, store => store.acknowledge(consumer, receipt))
    }

    async fn release(&self, name: &ConsumerName, lease_id: u64) {
        awaited!(self, store => store.release(name, lease_id));
    }

    fn health(&self) -> Health {
        each!(self, store => store.health())
    }

    async fn observe(&self) {
        awaited!(self, store => store.observe());
    }

    async fn condition(&self) -> Condition {
        awaited!(self, store => store.condition())
    }

    async fn failed(&self) -> Error {
        awaited!(self, store => store.failed())
    }

    fn close(&self) -> Result<()> {
        each!(self, store => store.close())
    }
}
