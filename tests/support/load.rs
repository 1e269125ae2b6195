//! Clients at work: seeded, with repeats of what was answered and, above all, of what was not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;

use super::checker::{Listing, Reader};
use super::client::Client;
use super::consuming::Consuming;
use super::history::{Answer, History, Key, Kind, Position};
use super::now;
use super::reader::{HttpReader, digest};

/// Topics; without a separator in its key, the store would take an event of the second to fourth
/// for one of another.
const TOPICS: [&str; 10] =
    ["hot", "a", "ab", "abb", "orders.paid", "λ topic/50%?&", "users", "mail", "clicks", "quiet"];
/// Percent of events that repeat an earlier id.
const DUPLICATES_PERCENT: u8 = 30;
/// Most events in one request.
const BATCH_EVENTS: usize = 50;
/// Ids that most repeats are drawn from: the most recent ones.
const RECENT_IDS: usize = 2_000;

/// An event by the choices that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    topic: usize,
    id: u64,
    /// 0; another number is another payload with the same id.
    variant: u8,
}

impl Spec {
    fn key(self) -> Key {
        let prefix = ["", "bb", "b"].get(self.topic).unwrap_or(&"");
        Key { topic: TOPICS[self.topic].into(), event_id: format!("{prefix}{:x}", self.id) }
    }

    /// Its JSON, and the digest of its content.
    fn json(self) -> (String, u64) {
        let key = self.key();
        let timestamp = format!("2026-11-22T10:00:{:02}Z", self.id % 60);
        let source = format!("source-{}", self.id % 7);
        let text = "x".repeat((self.id % 200) as usize);
        let payload = format!(r#"{{"n":{},"variant":{},"text":"{text}"}}"#, self.id, self.variant);
        let json = format!(
            r#"{{"topic":"{}","event_id":"{}","timestamp":"{timestamp}","source":"{source}","payload":{payload}}}"#,
            key.topic, key.event_id
        );
        (json, digest(&timestamp, &source, &payload))
    }
}

#[derive(Debug, Default)]
struct Pool {
    sent: Vec<Spec>,
    unsure: Vec<Spec>,
}

#[derive(Debug, Default)]
struct Shared {
    history: Mutex<History>,
    pool: Mutex<Pool>,
    /// Requests answered in the present run.
    acknowledged: Mutex<u64>,
    progress: Condvar,
    stop: AtomicBool,
    /// From here on an answer counts as none.
    deaf: AtomicBool,
    consuming: Consuming,
}

impl Shared {
    fn expect_in_order(&self, seed: u64) {
        let violations = self.consuming.violations();
        assert!(violations.is_empty(), "seed {seed}: a consumer: {violations:#?}");
    }
}

/// A workload that goes on over restarts.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    seed: u64,
    runs: u64,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        Self { shared: Arc::default(), seed, runs: 0 }
    }

    /// What the clients were told. Not while clients run.
    pub fn history<T>(&self, f: impl FnOnce(&mut History) -> T) -> T {
        f(&mut self.shared.history.lock().unwrap())
    }

    /// Holds what the consumer was given against what it has acknowledged.
    ///
    /// # Panics
    /// If something was skipped, or came out of order, or is given again after it was acknowledged.
    pub fn expect_in_order(&self) {
        self.shared.expect_in_order(self.seed);
    }

    /// How often a consumer's acknowledgement was answered with 200.
    pub fn consumed(&self) -> u64 {
        self.shared.consuming.acknowledged()
    }

    /// Starts clients that send until they are stopped, and a worker of a consumer.
    pub fn start(&mut self, addr: SocketAddr, clients: u64) -> Run {
        *self.shared.acknowledged.lock().unwrap() = 0;
        self.shared.stop.store(false, Ordering::SeqCst);
        self.shared.deaf.store(false, Ordering::SeqCst);
        self.runs += 1;
        self.expect_in_order();
        let consumer = {
            let (shared, seed) = (Arc::clone(&self.shared), self.seed ^ self.runs);
            std::thread::spawn(move || shared.consuming.work(addr, seed, &shared.stop, &shared.deaf))
        };
        let threads = (0..clients)
            .map(|n| {
                let shared = Arc::clone(&self.shared);
                let rng = fastrand::Rng::with_seed(
                    self.seed ^ (self.runs << 8 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                );
                std::thread::spawn(move || Sender { shared, rng, reads: n == 0 }.run(addr))
            })
            .chain([consumer])
            .collect();
        Run { shared: Arc::clone(&self.shared), seed: self.seed, threads }
    }
}

/// Clients under way; stopped when dropped. Whenever they end, the consumer must have been given
/// what is in order.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
    seed: u64,
    threads: Vec<JoinHandle<()>>,
}

impl Run {
    /// Waits until `requests` were answered; `false` if they were not within a minute.
    pub fn acknowledged(&self, requests: u64) -> bool {
        self.acknowledged_within(requests, Duration::from_secs(60))
    }

    /// Waits until `requests` were answered; `false` if time is over, or the server gone, before
    /// that.
    pub fn acknowledged_within(&self, requests: u64, time: Duration) -> bool {
        let deadline = now() + time;
        let mut answered = self.shared.acknowledged.lock().unwrap();
        while *answered < requests {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() || self.threads.iter().all(JoinHandle::is_finished) {
                return false;
            }
            let tick = left.min(Duration::from_millis(200));
            answered = self.shared.progress.wait_timeout(answered, tick).unwrap().0;
        }
        true
    }

    /// Waits until `requests` more were answered than now.
    pub fn acknowledged_more_within(&self, requests: u64, time: Duration) -> bool {
        let so_far = *self.shared.acknowledged.lock().unwrap();
        self.acknowledged_within(so_far + requests, time)
    }

    /// From here on answers count as unknown. Called right before a power cut that leaves the
    /// process running: no answer would leave a machine that is off, and a sync that meets the
    /// shutdown of its file system may return without an error and without effect.
    pub fn ignore_answers(&self) {
        self.shared.deaf.store(true, Ordering::SeqCst);
    }

    /// Lets requests under way end, and waits for the clients.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("a client failed");
            }
        }
        if !std::thread::panicking() {
            self.shared.expect_in_order(self.seed);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Deserialize)]
struct ResultJson {
    index: usize,
    topic: String,
    event_id: String,
    status: String,
    offset: u64,
    first_seen: String,
}

#[derive(Deserialize)]
struct AnswerJson {
    received: usize,
    unique_processed: usize,
    duplicate_dropped: usize,
    conflicts: usize,
    results: Vec<ResultJson>,
}

impl ResultJson {
    fn answer(&self) -> Option<Answer> {
        let position = Position { offset: self.offset, first_seen: self.first_seen.clone() };
        match self.status.as_str() {
            "stored" => Some(Answer::Stored(position)),
            "duplicate" => Some(Answer::Duplicate(position)),
            "conflict" => Some(Answer::Conflict(position)),
            _ => None,
        }
    }
}

/// One client of a run.
struct Sender {
    shared: Arc<Shared>,
    rng: fastrand::Rng,
    /// Reads events and totals now and then. Only one client does, so that totals are recorded in
    /// the order of reading.
    reads: bool,
}

impl Sender {
    /// Sends until it is told to stop, or the server is gone.
    fn run(mut self, addr: SocketAddr) {
        let (mut client, mut reader) = (Client::new(addr), HttpReader::new(addr));
        while !self.shared.stop.load(Ordering::SeqCst) && client.connect().is_ok() {
            if self.reads && self.rng.u8(..100) < 10 {
                self.read(&mut reader);
            }
            if !self.publish(&mut client) {
                return;
            }
        }
    }

    /// One request; `false` if there was no answer.
    fn publish(&mut self, client: &mut Client) -> bool {
        let specs = self.choose();
        let (events, digests): (Vec<_>, Vec<_>) = specs.iter().map(|spec| spec.json()).unzip();
        let (path, body) = match events.as_slice() {
            [event] => ("/publish", event.clone()),
            _ => ("/publish?results=all", format!("[{}]", events.join(","))),
        };
        let answer = client.post(path, body.as_bytes());
        let deaf = self.shared.deaf.load(Ordering::SeqCst);
        let (answers, fault) = match &answer {
            _ if deaf => (vec![Answer::Unknown; specs.len()], None),
            Ok(answer) if answer.status == 200 => match parse(&specs, &answer.body) {
                Ok(answers) => (answers, None),
                Err(fault) => (vec![Answer::Unknown; specs.len()], Some(fault)),
            },
            // Overload and full disk are 503 and 507 too, but one cannot tell them from an outcome
            // that is unknown.
            Ok(answer) if answer.status >= 500 => (vec![Answer::Unknown; specs.len()], None),
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                (vec![Answer::Refused; specs.len()], Some(format!("{}: {said}", answer.status)))
            }
            Err(_) => (vec![Answer::Unknown; specs.len()], None),
        };
        let mut pool = self.shared.pool.lock().unwrap();
        let mut history = self.shared.history.lock().unwrap();
        if let Some(fault) = fault {
            history.violate(Kind::Answer, format!("a valid request was answered with {fault}"));
        }
        for ((spec, digest), answer) in specs.iter().zip(digests).zip(answers) {
            if answer == Answer::Unknown {
                pool.unsure.push(*spec);
            }
            history.record(&spec.key(), digest, answer);
        }
        drop((history, pool));
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            *self.shared.acknowledged.lock().unwrap() += 1;
            self.shared.progress.notify_all();
        }
        answer.is_ok()
    }

    /// The events of a request: new ones, repeats, repeats within the request, and repeats with
    /// another payload.
    fn choose(&mut self) -> Vec<Spec> {
        let size = if self.rng.bool() { 1 } else { self.rng.usize(1..=BATCH_EVENTS) };
        let mut pool = self.shared.pool.lock().unwrap();
        let mut specs: Vec<Spec> = Vec::with_capacity(size + 2);
        while specs.len() < size {
            if self.rng.u8(..100) >= DUPLICATES_PERCENT || pool.sent.is_empty() {
                let id = self.rng.u64(..1 << 44);
                let topic = if self.rng.bool() { 0 } else { self.rng.usize(1..TOPICS.len()) };
                if topic == 1 && size > 3 {
                    specs.extend([1, 2, 3].map(|topic| Spec { topic, id, variant: 0 }));
                } else {
                    specs.push(Spec { topic, id, variant: 0 });
                }
                continue;
            }
            let mut spec = if !pool.unsure.is_empty() && self.rng.bool() {
                let i = self.rng.usize(..pool.unsure.len());
                pool.unsure.swap_remove(i)
            } else if !specs.is_empty() && self.rng.u8(..4) == 0 {
                specs[self.rng.usize(..specs.len())]
            } else {
                let oldest = pool.sent.len().saturating_sub(RECENT_IDS);
                let from = if self.rng.u8(..5) == 0 { 0 } else { oldest };
                pool.sent[self.rng.usize(from..pool.sent.len())]
            };
            if self.rng.u8(..10) == 0 {
                spec.variant ^= 1;
            }
            specs.push(spec);
        }
        // Shared before they are answered: other clients repeat them while they are under way.
        pool.sent.extend(&specs);
        specs
    }

    /// What a read shows must stay, also if nobody was told that it is stored. A server that is
    /// gone shows nothing.
    fn read(&mut self, reader: &mut HttpReader) {
        let topic = Some(TOPICS[self.rng.usize(..TOPICS.len())].to_owned());
        let listing = Listing { topic, descending: true, cursor: None, limit: self.rng.usize(1..60) };
        let (page, totals) = (reader.list(&listing), reader.totals());
        if self.shared.deaf.load(Ordering::SeqCst) {
            return;
        }
        let mut history = self.shared.history.lock().unwrap();
        for seen in page.iter().flat_map(|page| &page.items) {
            history.show(seen);
        }
        if let Ok(totals) = totals {
            history.show_totals(totals);
        }
    }
}

/// The answer to each event, if the body says one of each and its counts agree.
fn parse(specs: &[Spec], body: &[u8]) -> Result<Vec<Answer>, String> {
    let wrong = || format!("an answer that does not fit: {}", String::from_utf8_lossy(body));
    let answer: AnswerJson = serde_json::from_slice(body).map_err(|e| format!("{e}: {}", wrong()))?;
    let fits = answer.results.len() == specs.len()
        && answer.received == specs.len()
        && answer.results.iter().zip(specs).enumerate().all(|(i, (result, spec))| {
            let key = spec.key();
            result.index == i && result.topic == key.topic && result.event_id == key.event_id
        });
    if !fits {
        return Err(wrong());
    }
    let answers: Vec<_> =
        answer.results.iter().map(ResultJson::answer).collect::<Option<_>>().ok_or_else(wrong)?;
    let stored = answers.iter().filter(|a| matches!(a, Answer::Stored(_))).count();
    let conflicts = answers.iter().filter(|a| matches!(a, Answer::Conflict(_))).count();
    let counts = (answer.unique_processed, answer.duplicate_dropped, answer.conflicts);
    if counts == (stored, specs.len() - stored, conflicts) { Ok(answers) } else { Err(wrong()) }
}
