//! A store for tests of what is above it.

use std::sync::Arc;

use sekali::clock::Timestamp;
use sekali::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use sekali::error::{Error, ErrorKind, Result};
use sekali::event::Batch;
use sekali::event::pattern::TopicPatterns;
use sekali::store::{
    Condition, EventStore, Health, Outcome, Page, Query, Stats, Status, StoredEvent, Taken, TopicCount,
    TopicPage,
};

/// Says of all that it stored it, and keeps nothing. What it is given is looked at first.
#[derive(Debug)]
pub struct Sink(pub fn(&Batch));

impl EventStore for Sink {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        (self.0)(&batch);
        Ok(vec![Outcome { status: Status::Stored, offset: 0, first_seen: Timestamp(0) }; batch.len()])
    }

    fn count_rejected(&self, _: u64) {}

    async fn find(
        &self,
        _: &str,
        _: &str,
        _: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> Result<Option<StoredEvent>> {
        Ok(None)
    }

    async fn read_as<T: Send + 'static>(
        &self,
        _: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<(Page, T)> {
        let page = Page::default();
        let written = write(&page);
        Ok((page, written))
    }

    async fn end(&self, _: Option<&str>) -> Result<String> {
        Ok(String::new())
    }

    async fn topics(&self, _: Option<&str>, _: usize, _: Option<&TopicPatterns>) -> Result<TopicPage> {
        Ok(TopicPage::default())
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(Stats::default())
    }

    fn topic_count(&self) -> TopicCount {
        TopicCount { made: 0, max: usize::MAX }
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        Ok(topics.len())
    }

    async fn put_consumer(&self, _: &ConsumerKey, _: &Start) -> Result<bool> {
        Ok(true)
    }

    async fn delete_consumer(&self, _: &ConsumerKey) -> Result<bool> {
        Ok(false)
    }

    async fn seek_consumer(&self, _: &ConsumerKey, _: &Start) -> Result<()> {
        Ok(())
    }

    async fn consumer_topics(&self, _: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        Ok(None)
    }

    async fn consumer(&self, _: &ConsumerKey, _: Look) -> Result<ConsumerStats> {
        Err(no_consumer())
    }

    async fn consumers(&self, _: Option<&str>, _: usize) -> Result<Vec<ConsumerKey>> {
        Ok(Vec::new())
    }

    async fn take<T: Send + 'static>(&self, _: &Take, _: fn(Vec<StoredEvent>) -> T) -> Result<Taken<T>> {
        Err(no_consumer())
    }

    async fn acknowledge(&self, _: &ConsumerKey, _: &str) -> Result<()> {
        Err(no_consumer())
    }

    async fn release(&self, _: &ConsumerName, _: u64) {}

    fn health(&self) -> Health {
        Health::Ready
    }

    async fn observe(&self) {}

    async fn condition(&self) -> Condition {
        Condition::default()
    }

    async fn failed(&self) -> Error {
        std::future::pending().await
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn no_consumer() -> Error {
    Error::new(ErrorKind::NoConsumer, "none is kept")
}
