//! Overload: one topic gets ten times what the service can take, and others go on as if nothing
//! were.
//!
//! The senders of the hot topic have 640 connections and always a request in flight on each. Eight
//! other topics ask for 2 % each of what the service could do alone. `SEKALI_OVERLOAD_SECONDS`
//! is how long.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::{Client, receive};
use crate::support::process::Start;
use crate::support::{now, rounds};
use serde_json::Value;

const HOT_CONNECTIONS: usize = 640;
const OTHER_TOPICS: usize = 8;
/// Connections of each other topic: so many that one, with a request in flight, keeps up with what
/// is due even if an answer takes three times what it takes the hot senders' requests to have their
/// turn.
const OTHER_CONNECTIONS: usize = 32;
/// What each of the other topics asks for, of what the service could do alone.
const OTHER_SHARE: f64 = 0.02;

fn body(topic: &str, events: usize, number: &mut u64) -> String {
    let mut body = String::new();
    for _ in 0..events {
        *number += 1;
        let payload = format!("{:0100}", *number);
        body += &format!(
            r#",{{"topic":"{topic}","event_id":"{number}","timestamp":"2026-11-23T10:00:00Z","source":"","payload":"{payload}"}}"#
        );
    }
    format!("[{}]", &body[1..])
}

/// The number of answers of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    stored: u64,
    refused: u64,
}

/// Connections with a request in flight on each, always.
struct Crowd {
    connections: Vec<BufReader<TcpStream>>,
    topic: &'static str,
    events: usize,
    number: u64,
}

impl Crowd {
    fn new(addr: SocketAddr, connections: usize, topic: &'static str, events: usize) -> Self {
        let connect = || {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            BufReader::with_capacity(1 << 10, stream)
        };
        Self { connections: (0..connections).map(|_| connect()).collect(), topic, events, number: 0 }
    }

    /// Goes on until told to stop; every request gets an answer.
    fn run(&mut self, stop: &AtomicBool) -> Answers {
        let mut answers = Answers::default();
        for at in 0..self.connections.len() {
            self.ask(at);
        }
        while !stop.load(Ordering::Relaxed) {
            for at in 0..self.connections.len() {
                self.take(at, &mut answers);
                self.ask(at);
            }
        }
        for at in 0..self.connections.len() {
            self.take(at, &mut answers);
        }
        answers
    }

    fn ask(&mut self, at: usize) {
        let body = body(self.topic, self.events, &mut self.number);
        let head =
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
        let request = format!("{head}{}\r\n\r\n{body}", body.len());
        self.connections[at].get_mut().write_all(request.as_bytes()).unwrap();
    }

    fn take(&mut self, at: usize, answers: &mut Answers) {
        let (response, keep) = receive(&mut self.connections[at]).unwrap();
        assert!(keep, "a refusal for want of room keeps the connection");
        match response.status {
            200 => answers.stored += 1,
            503 => answers.refused += 1,
            status => panic!("{status}: {}", String::from_utf8_lossy(&response.body)),
        }
    }
}

/// Sends at `rate` requests a second over some connections of one topic; of those that were due,
/// how many were stored in time.
fn others(addr: SocketAddr, topic: usize, events: usize, rate: f64, seconds: f64) -> (u64, u64) {
    let due = (rate * seconds / OTHER_CONNECTIONS as f64) as u64;
    let begin = now();
    let send = |connection: usize| {
        let (mut client, mut number) = (Client::new(addr), connection as u64 * 1_000_000_000);
        let mut stored = 0;
        for turn in 0..due {
            let at = (turn as f64 + connection as f64 / OTHER_CONNECTIONS as f64) / due as f64 * seconds;
            thread::sleep(Duration::from_secs_f64(at).saturating_sub(begin.elapsed()));
            let body = body(&format!("other-{topic}"), events, &mut number);
            if client.post("/publish", body.as_bytes()).unwrap().status == 200
                && begin.elapsed().as_secs_f64() <= seconds
            {
                stored += 1;
            }
        }
        stored
    };
    thread::scope(|scope| {
        let senders: Vec<_> =
            (0..OTHER_CONNECTIONS).map(|connection| scope.spawn(move || send(connection))).collect();
        let stored = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        (stored, due * OTHER_CONNECTIONS as u64)
    })
}

/// Runs `crowd` beside `beside`.
fn with_crowd<T>(crowd: &mut Crowd, beside: impl FnOnce() -> T) -> (Answers, T) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(|| crowd.run(&stop));
        let done = beside();
        stop.store(true, Ordering::Relaxed);
        (running.join().unwrap(), done)
    })
}

#[test]
fn a_hot_topic_at_ten_times_the_load_leaves_the_others_their_share() {
    let seconds = rounds("SEKALI_OVERLOAD_SECONDS") as f64;
    for events in [1, 100] {
        let dir = tempfile::tempdir().unwrap();
        let mut start = Start::tiny_generations(&dir.path().join("data"));
        (start.generation_events, start.generation_bytes) = (100_000, 64 << 20);
        let (mut server, addr) = start.ready().unwrap();
        let rest = || thread::sleep(Duration::from_secs_f64(seconds / 15.0));
        let begin = now();
        let mut calm = Crowd::new(addr, 64, "calm", events);
        let (alone, ()) = with_crowd(&mut calm, rest);
        let capacity = alone.stored as f64 / begin.elapsed().as_secs_f64();
        let mut hot = Crowd::new(addr, HOT_CONNECTIONS, "hot", events);
        let (crowd, shares) = with_crowd(&mut hot, || {
            rest();
            thread::scope(|scope| {
                let ask = |topic| others(addr, topic, events, OTHER_SHARE * capacity, seconds / 2.0);
                let topics: Vec<_> = (0..OTHER_TOPICS).map(|topic| scope.spawn(move || ask(topic))).collect();
                topics.into_iter().map(|topic| topic.join().unwrap()).collect::<Vec<_>>()
            })
        });
        let memory = server.status("VmHWM:") >> 10;
        eprintln!(
            "{events} a request: alone {capacity:.0} requests/s; hot {crowd:?}; others (stored in time, due) {shares:?}; {memory} MB at most"
        );
        for (topic, (stored, due)) in shares.iter().enumerate() {
            assert!(stored * 10 >= due * 9, "topic {topic} got {stored} of {due}");
        }
        assert!(memory < 400, "{memory} MB");
        let stats: Value = serde_json::from_slice(&Client::new(addr).get("/stats").unwrap().body).unwrap();
        assert!(
            stats["unique_processed"].as_u64().unwrap() >= (alone.stored + crowd.stored) * events as u64,
            "{stats}"
        );
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
    }
}
