//! A worker of a consumer that goes on over kills and power cuts, and what it holds the service to:
//! what was acknowledged is not given again, nothing is skipped, and each topic comes in order.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;

/// Before the next try where there was nothing to do.
const PAUSE: Duration = Duration::from_millis(5);
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// A position in a topic, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// Acknowledged, and answered with 200.
    least: u64,
    /// Sent to be acknowledged: it may be there.
    most: u64,
}

/// What one consumer was told so far.
#[derive(Debug, Default)]
pub struct Consuming {
    positions: Mutex<BTreeMap<String, Position>>,
    violations: Mutex<Vec<String>>,
    acknowledged: AtomicU64,
    /// Whether an acknowledgement to this process was not answered with 200: it may still be carried
    /// out, after events were given from where the consumer was.
    unsure: AtomicBool,
}

impl Consuming {
    /// Works until it is stopped or the service is gone.
    pub fn work(&self, addr: SocketAddr, seed: u64, stop: &AtomicBool, deaf: &AtomicBool) {
        let (mut clients, mut rng) = ([Client::new(addr)], fastrand::Rng::with_seed(seed));
        let plan = json!({"topics": ["*"]}).to_string();
        self.unsure.store(false, Ordering::SeqCst);
        while !stop.load(Ordering::SeqCst) {
            let Ok(made) = clients[0].send("PUT", "/consumers/checked", JSON, plan.as_bytes()) else {
                return;
            };
            if matches!(made.status, 200 | 201) {
                break;
            }
            sekali::sync::park_timeout(PAUSE);
        }
        while !stop.load(Ordering::SeqCst) {
            // A lease that outlives its service does not keep the same worker out.
            let query = format!("limit={}&holder=worker", rng.u64(1..200));
            let acker = (rng.u8(..4) > 0).then_some(0);
            match self.step(&mut clients, (0, acker), &query, deaf) {
                Ok(0) => sekali::sync::park_timeout(PAUSE),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes what is next through one of some connections, and acknowledges it through another; how
    /// many events were acknowledged.
    ///
    /// # Errors
    /// There was no answer.
    pub fn step(
        &self,
        clients: &mut [Client],
        (reader, acker): (usize, Option<usize>),
        query: &str,
        deaf: &AtomicBool,
    ) -> io::Result<usize> {
        let answer = clients[reader].get(&format!("/consumers/checked/events?{query}"))?;
        if answer.status != 200 {
            return Ok(0);
        }
        let given: Value = serde_json::from_slice(&answer.body)?;
        // What is given after the cut is not held: it may be of what never was stored.
        let reached = if deaf.load(Ordering::SeqCst) { return Ok(0) } else { self.hold(&given) };
        let Some(acker) = acker.filter(|_| given["receipt"].is_string()) else { return Ok(0) };
        self.note(&reached, |position, next| position.most = position.most.max(next));
        let receipt = json!({"receipt": given["receipt"]}).to_string();
        let answer = clients[acker].post("/consumers/checked/ack", receipt.as_bytes());
        if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            self.unsure.store(true, Ordering::SeqCst);
        }
        if answer?.status != 200 || deaf.load(Ordering::SeqCst) {
            return Ok(0);
        }
        self.note(&reached, |position, next| position.least = next);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        Ok(given["events"].as_array().map_or(0, Vec::len))
    }

    /// Whether a topic may be at this offset.
    pub fn may_be_at(&self, topic: &str, next_offset: u64) -> bool {
        let position = self.positions.lock().unwrap().get(topic).copied().unwrap_or_default();
        (position.least..=position.most).contains(&next_offset)
    }

    fn note(&self, reached: &BTreeMap<String, u64>, change: impl Fn(&mut Position, u64)) {
        let mut positions = self.positions.lock().unwrap();
        for (topic, next) in reached {
            change(positions.entry(topic.clone()).or_default(), *next);
        }
    }

    /// Holds what is given against what is known; the offset after the last event of each topic.
    fn hold(&self, given: &Value) -> BTreeMap<String, u64> {
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        let mut positions = self.positions.lock().unwrap();
        for event in given["events"].as_array().into_iter().flatten() {
            let topic = event["topic"].as_str().unwrap_or_default();
            let offset = event["offset"].as_u64().unwrap_or_default();
            let position = positions.entry(topic.to_owned()).or_default();
            match reached.insert(topic.to_owned(), offset + 1) {
                None if (position.least..=position.most).contains(&offset) => {
                    position.least = offset;
                    if !self.unsure.load(Ordering::SeqCst) {
                        position.most = offset;
                    }
                }
                None => self.complain(format!("{topic} begins at {offset}, and it was at {position:?}")),
                Some(next) if next == offset => {}
                Some(next) => self.complain(format!("{topic} goes on at {offset}, not at {next}")),
            }
        }
        reached
    }

    fn complain(&self, why: String) {
        self.violations.lock().unwrap().push(why);
    }

    /// How often an acknowledgement was answered with 200.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// What went wrong.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }
}
