//! The backend that a process was started with.
//!
//! A variant for each kind, so that everything above is compiled once and no call allocates a
//! future. Another backend is a folder beside `local/` that implements [`EventStore`], and a variant
//! here.

use std::sync::Arc;

use super::local::Local;
use super::postgres::Postgres;
use super::{
    Condition, EventStore, Health, Outcome, Page, Query, Stats, StoredEvent, Taken, TopicCount, TopicPage,
};
use crate::consumer::{ConsumerName, ConsumerStats, Start, Take};
use crate::error::{Error, Result};
use crate::event::Batch;
use crate::event::pattern::TopicPatterns;

/// The open store of a process.
#[derive(Debug)]
pub enum Backend {
    /// A journal with indexes, in a directory of this machine.
    Local(Local),
    /// A PostgreSQL database, which many processes share.
    Postgres(Postgres),
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

impl EventStore for Backend {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        each!(self, store => store.append(batch).await)
    }

    fn count_rejected(&self, events: u64) {
        each!(self, store => store.count_rejected(events));
    }

    async fn find(&self, topic: &str, event_id: &str) -> Result<Option<StoredEvent>> {
        each!(self, store => store.find(topic, event_id).await)
    }

    async fn read(&self, query: Query) -> Result<Page> {
        each!(self, store => store.read(query).await)
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        each!(self, store => store.end(topic).await)
    }

    async fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Result<TopicPage> {
        each!(self, store => store.topics(cursor, limit, only).await)
    }

    async fn stats(&self) -> Result<Stats> {
        each!(self, store => store.stats().await)
    }

    fn topic_count(&self) -> TopicCount {
        each!(self, store => store.topic_count())
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        each!(self, store => store.count_new_topics(topics).await)
    }

    async fn put_consumer(
        &self,
        name: &ConsumerName,
        topics: Arc<TopicPatterns>,
        start: &Start,
    ) -> Result<bool> {
        each!(self, store => store.put_consumer(name, topics, start).await)
    }

    async fn delete_consumer(&self, name: &ConsumerName) -> Result<bool> {
        each!(self, store => store.delete_consumer(name).await)
    }

    async fn seek_consumer(&self, name: &ConsumerName, to: &Start) -> Result<()> {
        each!(self, store => store.seek_consumer(name, to).await)
    }

    async fn consumer_topics(&self, name: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        each!(self, store => store.consumer_topics(name).await)
    }

    async fn consumer(&self, name: &ConsumerName, positions: usize) -> Result<ConsumerStats> {
        each!(self, store => store.consumer(name, positions).await)
    }

    async fn consumers(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(ConsumerName, Arc<TopicPatterns>)>> {
        each!(self, store => store.consumers(after, limit).await)
    }

    async fn take(&self, take: &Take) -> Result<Taken> {
        each!(self, store => store.take(take).await)
    }

    async fn acknowledge(&self, name: &ConsumerName, receipt: &str) -> Result<()> {
        each!(self, store => store.acknowledge(name, receipt).await)
    }

    fn release(&self, name: &ConsumerName, lease_id: u64) {
        each!(self, store => store.release(name, lease_id));
    }

    fn health(&self) -> Health {
        each!(self, store => store.health())
    }

    async fn observe(&self) {
        each!(self, store => store.observe().await);
    }

    async fn condition(&self) -> Condition {
        each!(self, store => store.condition().await)
    }

    async fn failed(&self) -> Error {
        each!(self, store => store.failed().await)
    }

    fn close(&self) -> Result<()> {
        each!(self, store => store.close())
    }
}
