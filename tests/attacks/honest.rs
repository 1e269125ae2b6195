//! Honest clients: what they are answered, and how soon.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::now;
use crate::support::process::{Server, status};

/// What a service holds before it is attacked: some pages of the largest size, many topics, and consumers
/// that lag in all of them.
const EVENTS: u64 = 20_000;
const TOPICS: u64 = 5_000;
const CONSUMERS: u64 = 200;
/// Events in a request of those.
const BATCH: u64 = 1_000;

/// Makes ids that no other event has.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn event(topic: &str, payload: &str) -> String {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        r#"{{"topic":"{topic}","event_id":"{id}","timestamp":"2026-01-01T00:00:00Z","source":"s","payload":"{payload}"}}"#
    )
}

/// Publishes what a service holds before it is attacked.
pub fn fill(addr: SocketAddr) {
    let mut client = Client::new(addr);
    let payload = "x".repeat(900);
    for batch in 0..EVENTS / BATCH {
        let events: Vec<String> = (0..BATCH)
            .map(|number| {
                event(&format!("a-topic-of-its-own-{}", (batch * BATCH + number) % TOPICS), &payload)
            })
            .collect();
        let answer = client.post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    for consumer in 0..CONSUMERS {
        let json = [("Content-Type", "application/json")];
        let path = format!("/consumers/consumer-{consumer}");
        let answer = client.send("PUT", &path, &json, br#"{"topics":["*"]}"#).unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    }
}

/// Whether a newcomer may publish.
pub fn is_served(addr: SocketAddr) -> bool {
    Client::new(addr)
        .post("/publish", event("honest", "1").as_bytes())
        .is_ok_and(|answer| answer.status == 200)
}

/// What honest clients met.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub served: u64,
    /// Answered otherwise than with 200, or not at all.
    pub refused: u64,
    /// How they were, by status; 0 is no answer.
    statuses: Vec<u16>,
    latencies: Vec<Duration>,
}

impl Seen {
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} served", self.served)?;
        if self.refused > 0 {
            write!(f, ", {} not: {:?}", self.refused, &self.statuses[..self.statuses.len().min(8)])?;
        }
        write!(f, ", p50 {:.1} p99 {:.1} ms", self.percentile(50), self.percentile(99))
    }
}

/// Clients that publish an event, or ask for health, over and over.
#[derive(Debug)]
pub struct Honest;

impl Honest {
    /// What they meet while `time` passes. One publishes on a connection that it keeps, one on a
    /// new connection each time, one asks for health on a new connection each time.
    pub fn run(addr: SocketAddr, time: Duration) -> Seen {
        let end = now() + time;
        let ask = |is_kept: bool, is_publish: bool| {
            let (mut seen, mut client) = (Seen::default(), Client::new(addr));
            while now() < end {
                let begin = now();
                if !is_kept {
                    client = Client::new(addr);
                }
                let answer = match is_publish {
                    true => client.post("/publish", event("honest", "1").as_bytes()),
                    false => client.get("/healthz"),
                };
                match answer.map_or(0, |answer| answer.status) {
                    200 => seen.served += 1,
                    status => {
                        seen.refused += 1;
                        seen.statuses.push(status);
                        client = Client::new(addr);
                    }
                }
                seen.latencies.push(begin.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            seen
        };
        let ask = Arc::new(ask);
        thread::scope(|scope| {
            let asking: Vec<_> = [(true, true), (false, true), (false, false)]
                .map(|(is_kept, is_publish)| {
                    let ask = Arc::clone(&ask);
                    scope.spawn(move || ask(is_kept, is_publish))
                })
                .into_iter()
                .collect();
            let mut all = Seen::default();
            for asking in asking {
                let seen = asking.join().unwrap();
                all.served += seen.served;
                all.refused += seen.refused;
                all.statuses.extend(seen.statuses);
                all.latencies.extend(seen.latencies);
            }
            all
        })
    }
}

/// The most memory that a service had resident.
pub fn peak_mib(server: &Server) -> u64 {
    status(server.pid(), "VmHWM:").unwrap_or(0) >> 10
}
