//! Readers that go on over the loss of nodes and of the primary: a tail, and one that pages.

use std::collections::HashMap;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::support::client::{Client, escape};
use crate::support::reader::message;
use crate::support::until;

/// What one reader has seen: of each topic all events up to an offset, each once and in order.
#[derive(Debug, Default)]
struct Seen {
    next_offsets: HashMap<String, u64>,
    events: u64,
}

impl Seen {
    fn take(&mut self, event: &Value, reader: &str) {
        let (topic, offset) = (event["topic"].as_str().unwrap(), event["offset"].as_u64().unwrap());
        let next = self.next_offsets.entry(topic.to_owned()).or_default();
        assert_eq!(offset, *next, "{reader} was shown another event of {topic} than the next one: {event}");
        *next += 1;
        self.events += 1;
    }
}

/// Reads until it has seen as many events as there are in the end.
#[derive(Clone, Debug)]
struct Goal(Arc<AtomicU64>);

impl Goal {
    fn is_known(&self) -> bool {
        self.0.load(Ordering::SeqCst) < u64::MAX
    }

    fn is_reached(&self, seen: &Seen) -> bool {
        seen.events >= self.0.load(Ordering::SeqCst)
    }
}

/// A tail and a paging reader of these nodes, each of which turns to the next node whenever one does not
/// answer, and now and then without a reason.
#[derive(Debug)]
pub struct Watchers {
    goal: Goal,
    addrs: Vec<SocketAddr>,
    readers: Vec<JoinHandle<Seen>>,
}

impl Watchers {
    pub fn start(addrs: &[SocketAddr]) -> Self {
        let goal = Goal(Arc::new(AtomicU64::new(u64::MAX)));
        let readers = [tail, pages].map(|reader| {
            let (goal, addrs) = (goal.clone(), addrs.to_vec());
            std::thread::spawn(move || reader(&goal, &addrs))
        });
        Self { goal, addrs: addrs.to_vec(), readers: readers.into() }
    }

    /// Waits until both have seen all that is stored. Nobody may store any more.
    ///
    /// # Panics
    /// If one was shown an event twice, or out of order, or is not shown all.
    pub fn finish(self) {
        let stored = until(30, || {
            let stats = Client::new(self.addrs[0]).get("/stats").ok()?;
            serde_json::from_slice::<Value>(&stats.body).ok()?["unique_processed"].as_u64()
        });
        let stored = stored.expect("a node says how much is stored");
        self.goal.0.store(stored, Ordering::SeqCst);
        let are_done = until(60, || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        assert!(are_done.is_some(), "a reader is not shown all of {stored} events");
        for reader in self.readers {
            assert_eq!(reader.join().expect("a reader has seen all").events, stored);
        }
    }
}

fn tail(goal: &Goal, addrs: &[SocketAddr]) -> Seen {
    let (mut seen, mut last_id) = (Seen::default(), None);
    // Each stream is ended after some seconds, so that it is resumed without an accident too.
    let config =
        Agent::config_builder().timeout_global(Some(Duration::from_secs(3))).http_status_as_error(false);
    let agent = Agent::from(config.build());
    for addr in addrs.iter().cycle() {
        if goal.is_reached(&seen) {
            break;
        }
        let mut request = agent.get(format!("http://{addr}/events")).header("accept", "text/event-stream");
        if let Some(id) = &last_id {
            request = request.header("last-event-id", id);
        }
        if let Ok(answer) = request.call()
            && answer.status() == 200
        {
            let mut stream = BufReader::new(answer.into_body().into_reader());
            while let Some((id, event)) = message(&mut stream) {
                seen.take(&event, "the tail");
                last_id = Some(id);
            }
        }
        sekali::sync::park_timeout(Duration::from_millis(50));
    }
    seen
}

fn pages(goal: &Goal, addrs: &[SocketAddr]) -> Seen {
    let (mut seen, mut cursor) = (Seen::default(), String::new());
    for addr in addrs.iter().cycle() {
        if goal.is_reached(&seen) {
            break;
        }
        sekali::sync::park_timeout(Duration::from_millis(10));
        let Ok(answer) = Client::new(*addr).get(&format!("/events?limit=40{cursor}")) else { continue };
        if answer.status != 200 {
            continue;
        }
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        let next = page["next_cursor"].as_str();
        // The last page may still grow, in its middle too.
        if next.is_some() || goal.is_known() {
            page["events"].as_array().unwrap().iter().for_each(|event| seen.take(event, "the pages"));
            cursor = next.map(|next| format!("&cursor={}", escape(next))).unwrap_or_default();
        }
    }
    seen
}
