//! Answers and reads that cost a client little and the service much: unread answers, abandoned
//! scans, crowds of tails, topics without end. Each is bounded, over HTTP/1.1 and HTTP/2, and
//! others are served beside it.

mod crowd;
mod frames;
mod hoard;
mod scans;
mod topics;

use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::service::Service;

/// Generations that hold many pages.
pub fn service() -> Service {
    Service::started(|start| Start { generation_events: 100_000, generation_bytes: 64 << 20, ..start })
}

impl Service {
    /// A figure, or 0 if there is none of that name.
    pub fn figure(&self, name: &str) -> f64 {
        let text = String::from_utf8(Client::new(self.addr).get("/metrics").unwrap().body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Ticks of processor time that the process has had.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}
