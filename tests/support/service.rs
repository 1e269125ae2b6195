//! A server on a store of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::client::Client;
use super::process::{Server, Start};

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

    /// A JSON answer.
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&Client::new(self.addr).get(path).unwrap().body).unwrap()
    }

    pub fn stored(&self) -> u64 {
        self.get("/stats")["unique_processed"].as_u64().unwrap()
    }
}
