//! Tails that are at the same place share one read of the store, and all who watch share its figures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sekali::consumer::{ConsumerKey, ConsumerName, ConsumerStats, Look, Start, Take};
use sekali::error::{Error, Result};
use sekali::event::Batch;
use sekali::event::pattern::TopicPatterns;
use sekali::store::local::Local;
use sekali::store::{
    Condition, EventStore, Health, Outcome, Page, Query, Stats, StoredEvent, Taken, TopicCount, TopicPage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::in_process;
use crate::support::service::event;

/// A store that counts what is asked of it.
struct Counting {
    store: Local,
    reads: AtomicUsize,
    /// How it was: for figures of each second.
    conditions: AtomicUsize,
    /// How far consumers are.
    observations: AtomicUsize,
}

impl Counting {
    fn open(dir: &Path) -> Arc<Self> {
        let [reads, conditions, observations] = Default::default();
        Arc::new(Self { store: in_process::open(dir), reads, conditions, observations })
    }
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

#[tokio::test]
async fn tails_at_the_same_place_share_one_read() {
    const TAILS: usize = 200;
    const EVENTS: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let store = Counting::open(dir.path());
    let addr = in_process::serve(Arc::clone(&store)).await;
    let work = async {
        let mut tails = Vec::new();
        for number in 0..TAILS {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let query = ["", "?topic=t"][number % 2];
            let head = format!(
                "GET /events{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut text = Vec::new();
            while memchr::memmem::find(&text, b"retry: ").is_none() {
                assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "a tail ended");
            }
            tails.push((stream, Vec::new()));
        }
        let mut publisher = TcpStream::connect(addr).await.unwrap();
        for number in 0..EVENTS {
            let body = event("t", &format!("e{number}"), "1");
            let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
            let request = format!("{head}{}\r\n\r\n{body}", body.len());
            publisher.write_all(request.as_bytes()).await.unwrap();
            // All have it before the next one comes.
            for (stream, text) in &mut tails {
                while memchr::memmem::find_iter(text, b"\ndata: {").count() <= number {
                    assert_ne!(stream.read_buf(text).await.unwrap(), 0, "a tail ended");
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the tails did not get all events");
    let reads = store.reads.load(Ordering::Relaxed);
    // Two kinds of tails; each event is looked at when it comes, and what follows it is.
    assert!(reads <= 8 * EVENTS + 20, "{TAILS} tails read {reads} times for {EVENTS} events");
}

/// In time that is paused: it jumps to the next deadline when nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn figures_are_made_once_a_second_for_all_who_watch_and_never_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Counting::open(dir.path());
    let addr = in_process::serve(Arc::clone(&store)).await;
    let asked = || [&store.conditions, &store.observations].map(|count| count.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(asked(), [0, 0], "nobody watches");
    let mut viewers = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        viewers.push((stream, Vec::new()));
    }
    let begun = tokio::time::sleep(Duration::ZERO).deadline();
    for (stream, text) in &mut viewers {
        while memchr::memmem::find_iter(text, b"event: figures").count() <= 30 {
            assert_ne!(stream.read_buf(text).await.unwrap(), 0, "a stream ended");
        }
    }
    let ([conditions, observations], seconds) = (asked(), begun.elapsed().as_secs() as usize);
    // One for each second, and one for the first who came.
    assert!((30..=seconds + 3).contains(&conditions), "{conditions} in {seconds} seconds");
    assert!((3..=seconds / 10 + 2).contains(&observations), "{observations} in {seconds} seconds");
    drop(viewers);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let before = asked();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(asked(), before, "nobody watches any more");
}
