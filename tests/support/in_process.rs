//! A store and a service of this process, for tests that look at what no client sees.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sekali::clock::SystemClock;
use sekali::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use sekali::error::{Error, Result};
use sekali::event::Batch;
use sekali::event::pattern::TopicPatterns;
use sekali::http::Limits;
use sekali::metrics::Metrics;
use sekali::store::local::{Local, Options};
use sekali::store::{
    Condition, EventStore, Health, Outcome, Page, Query, Stats, StoredEvent, Taken, TopicCount, TopicPage,
};
use tokio::net::TcpListener;

use super::golden::seams;

/// Opens a store with one worker, and creates it if it is not there.
pub fn open(data_dir: &Path) -> Counting {
    let options = Options {
        data_dir: data_dir.to_path_buf(),
        must_exist: false,
        workers: 1,
        generation_events: 1_000,
        generation_bytes: 1 << 20,
        topics_max: 10,
    };
    let store = Local::open(&options, seams()).unwrap();
    let [reads, conditions, observations] = Default::default();
    Counting { store, reads, conditions, observations }
}

/// Serves a store on a free port until the runtime ends.
pub async fn serve(store: Arc<Counting>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (limits, metrics) = (Limits::default(), Metrics::default());
    let forever = std::future::pending();
    tokio::spawn(sekali::server::run(store, limits, Arc::new(SystemClock), metrics, listener, forever));
    addr
}

/// A store that counts what is asked of it. All services of this process have this kind, as each kind
/// has the compiler make the whole service once more.
#[derive(Debug)]
pub struct Counting {
    store: Local,
    pub reads: AtomicUsize,
    /// How it was: for figures of each second.
    pub conditions: AtomicUsize,
    /// How far consumers are.
    pub observations: AtomicUsize,
}

impl EventStore for Counting {
    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<Outcome>> {
        self.store.append(batch).await
    }

    fn count_rejected(&self, events: u64) {
        self.store.count_rejected(events);
    }

    async fn find(
        &self,
        topic: &str,
        event_id: &str,
        check: impl FnOnce(usize) -> Result<()> + Send + 'static,
    ) -> Result<Option<StoredEvent>> {
        self.store.find(topic, event_id, check).await
    }

    async fn read_as<T: Send + 'static>(
        &self,
        query: Query,
        write: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<(Page, T)> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.read_as(query, write).await
    }

    async fn end(&self, topic: Option<&str>) -> Result<String> {
        self.store.end(topic).await
    }

    async fn topics(
        &self,
        cursor: Option<&str>,
        limit: usize,
        only: Option<&TopicPatterns>,
    ) -> Result<TopicPage> {
        self.store.topics(cursor, limit, only).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.store.stats().await
    }

    fn topic_count(&self) -> TopicCount {
        self.store.topic_count()
    }

    async fn count_new_topics(&self, topics: &[&[u8]]) -> Result<usize> {
        self.store.count_new_topics(topics).await
    }

    async fn put_consumer(&self, consumer: &ConsumerKey, start: &Start) -> Result<bool> {
        self.store.put_consumer(consumer, start).await
    }

    async fn delete_consumer(&self, consumer: &ConsumerKey) -> Result<bool> {
        self.store.delete_consumer(consumer).await
    }

    async fn seek_consumer(&self, consumer: &ConsumerKey, to: &Start) -> Result<()> {
        self.store.seek_consumer(consumer, to).await
    }

    async fn consumer_topics(&self, name: &ConsumerName) -> Result<Option<Arc<TopicPatterns>>> {
        self.store.consumer_topics(name).await
    }

    async fn consumer(&self, consumer: &ConsumerKey, look: Look) -> Result<ConsumerStats> {
        self.store.consumer(consumer, look).await
    }

    async fn consumers(&self, after: Option<&str>, limit: usize) -> Result<Vec<ConsumerKey>> {
        self.store.consumers(after, limit).await
    }

    async fn take<T: Send + 'static>(
        &self,
        take: &Take,
        write: fn(Vec<StoredEvent>) -> T,
    ) -> Result<Taken<T>> {
        self.store.take(take, write).await
    }

    async fn acknowledge(&self, consumer: &ConsumerKey, receipt: &str) -> Result<()> {
        self.store.acknowledge(consumer, receipt).await
    }

    async fn release(&self, name: &ConsumerName, lease_id: u64) {
        self.store.release(name, lease_id).await;
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    async fn observe(&self) {
        self.observations.fetch_add(1, Ordering::Relaxed);
        self.store.observe().await;
    }

    async fn condition(&self) -> Condition {
        self.conditions.fetch_add(1, Ordering::Relaxed);
        self.store.condition().await
    }

    async fn failed(&self) -> Error {
        self.store.failed().await
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}
