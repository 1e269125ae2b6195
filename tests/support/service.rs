//! A server on a store of its own.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::client::Client;
use super::process::{Server, Start};
use super::until;

#[derive(Debug)]
pub struct Service {
    pub dir: tempfile::TempDir,
    pub start: Start,
    pub server: Server,
    pub addr: SocketAddr,
}

impl Service {
    /// One that rotates generations all the time.
    pub fn new() -> Self {
        Self::started(|start| start)
    }

    /// One that is started otherwise.
    pub fn started(change: impl FnOnce(Start) -> Start) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start = change(Start::tiny_generations(&dir.path().join("data")));
        let (server, addr) = start.ready().unwrap();
        Self { dir, start, server, addr }
    }

    /// Starts another server on the same store, whose server has ended.
    pub fn start_again(&mut self) {
        (self.server, self.addr) = self.start.ready().unwrap();
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A place beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Publishes JSON; the status.
    pub fn post(&self, body: &str) -> u16 {
        Client::new(self.addr).post("/publish", body.as_bytes()).unwrap().status
    }

    /// Makes a consumer of all topics.
    pub fn make_consumer(&self, name: &str) {
        let (path, json) = (format!("/consumers/{name}"), [("Content-Type", "application/json")]);
        let made = Client::new(self.addr).send("PUT", &path, &json, br#"{"topics":["*"]}"#).unwrap();
        assert_eq!(made.status, 201);
    }

    /// The JSON of an answer.
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&Client::new(self.addr).get(path).unwrap().body).unwrap()
    }

    pub fn stored(&self) -> u64 {
        self.get("/stats")["unique_processed"].as_u64().unwrap()
    }

    /// Publishes events, some hundreds in a request, each again while the service is busy.
    pub fn publish(&self, events: impl IntoIterator<Item = String>) {
        let events: Vec<String> = events.into_iter().collect();
        for batch in events.chunks(500) {
            let body = format!("[{}]", batch.join(","));
            let taken = until(60, || match self.post(&body) {
                200 => Some(()),
                503 => None,
                status => panic!("{status}"),
            });
            assert!(taken.is_some(), "the service stays busy");
        }
    }

    /// Bytes of memory that the process has.
    pub fn resident_bytes(&self) -> u64 {
        self.server.status("VmRSS:") << 10
    }

    /// The most bytes of memory that the process has had.
    pub fn peak_bytes(&self) -> u64 {
        self.server.status("VmHWM:") << 10
    }
}

/// The JSON of an event with this JSON as its payload.
pub fn event(topic: &str, id: &str, payload: impl Display) -> String {
    let fields = r#""timestamp":"2026-11-22T10:00:00Z","source":"test""#;
    format!(r#"{{"topic":"{topic}","event_id":"{id}",{fields},"payload":{payload}}}"#)
}
