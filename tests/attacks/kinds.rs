//! The attacks, each as bytes on connections that are kept.

use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::client::{Client, Response, receive};
use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame};

/// Something that clients hold, and what honest ones do with the same.
pub struct Attack {
    pub name: &'static str,
    /// Variables that the service is started with.
    pub settings: &'static [(&'static str, &'static str)],
    /// The same requests from clients that read what they are answered.
    pub honest: fn(SocketAddr),
    /// Begins it; what is given back holds it.
    pub begin: fn(SocketAddr) -> Vec<TcpStream>,
}

/// Few places, so that an attack can take them all.
const FEW_PLACES: &[(&str, &str)] = &[("SEKALI_CONNECTIONS_MAX", "100")];

const PAGE: &str = "/events?limit=10000";
const CONSUMERS: &str = "/consumers?limit=10000";
const LARGE_EVENT: &str = "/events/large/1";
const EXPORT: &str = "application/x-ndjson";
const TAIL: &str = "text/event-stream";
/// Requests on one HTTP/2 connection.
const STREAMS: u32 = 100;

pub fn attacks() -> Vec<Attack> {
    let attack = |name, honest, begin| Attack { name, settings: &[], honest, begin };
    let places = |name, begin| Attack { settings: FEW_PLACES, ..attack(name, |_| (), begin) };
    vec![
        attack("unread pages", read_pages, |addr| unread(addr, 100, PAGE, "*/*")),
        attack("unread pages, HTTP/2", read_pages, |addr| unread_streams(addr, 4, PAGE, "*/*")),
        attack("unread pages, packed", read_pages, |addr| unread_streams(addr, 2, PAGE, "*/*\r\n")),
        attack("unread totals", read_stats, |addr| unread(addr, 200, "/stats", "*/*")),
        attack("unread totals, HTTP/2", read_stats, |addr| unread_streams(addr, 4, "/stats", "*/*")),
        attack("unread topics, HTTP/2", read_stats, |addr| {
            unread_streams(addr, 4, "/topics?limit=1000", "*/*")
        }),
        attack("unread consumers, HTTP/2", read_consumers, |addr| unread_streams(addr, 4, CONSUMERS, "*/*")),
        attack(
            "abandoned lists of consumers",
            |_| (),
            |addr| {
                for _ in 0..200 {
                    drop(unread(addr, 1, CONSUMERS, "*/*"));
                }
                Vec::new()
            },
        ),
        attack("unread descriptions, HTTP/2", read_stats, |addr| {
            unread_streams(addr, 4, "/openapi.json", "*/*")
        }),
        attack("unread large events, HTTP/2", read_large_events, |addr| unread_large(addr, LARGE_EVENT)),
        attack("unread pages of one large event, HTTP/2", read_large_events, |addr| {
            unread_large(addr, "/events?topic=large&event_id=1")
        }),
        attack("unread exports", read_exports, |addr| unread(addr, 100, "/events", EXPORT)),
        attack("unread exports, HTTP/2", read_exports, |addr| unread_streams(addr, 2, "/events", EXPORT)),
        attack("unread tails", read_exports, |addr| unread(addr, 200, "/events", TAIL)),
        attack("declared bodies", send_bodies, |addr| {
            held(addr, 16, &format!("{}Content-Length: 16777216\r\n\r\n", post("application/json")))
        }),
        attack("declared bodies, HTTP/2", send_bodies, declared_streams),
        attack("begun bodies", send_bodies, |addr| {
            held(
                addr,
                64,
                &format!("{}Content-Length: 16777216\r\n\r\n[{{\"topic\":\"", post("application/json")),
            )
        }),
        attack("declared windows", send_bodies, windows),
        attack("idle connections", keep_connections, |addr| held(addr, 500, "")),
        places("all places idle", |addr| held(addr, 120, "")),
        places("all places with half a head", |addr| held(addr, 120, "GET /healthz HTTP/1.1\r\nHost: ")),
        places("all places with half a preface", |addr| held(addr, 120, "PRI * HTTP/2.")),
        places("all places idle, HTTP/2", |addr| {
            (0..120).filter_map(|_| keep(addr, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())).collect()
        }),
        places("all places with tails", |addr| unread(addr, 120, "/events", TAIL)),
        attack(
            "abandoned scans",
            |_| (),
            |addr| {
                for _ in 0..40 {
                    drop(unread(addr, 1, "/events?source=nobody&order=desc", EXPORT));
                }
                Vec::new()
            },
        ),
    ]
}

/// A connection on which these bytes were sent. None if the service does not take it.
fn keep(addr: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5)).ok()?;
    // What is not taken is not taken: the attack is then smaller.
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let _ = stream.write_all(bytes);
    Some(stream)
}

fn held(addr: SocketAddr, connections: usize, text: &str) -> Vec<TcpStream> {
    (0..connections).filter_map(|_| keep(addr, text.as_bytes())).collect()
}

fn get(addr: SocketAddr, path: &str, accept: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: {accept}\r\n\r\n")
}

fn unread(addr: SocketAddr, connections: usize, path: &str, accept: &str) -> Vec<TcpStream> {
    held(addr, connections, &get(addr, path, accept))
}

/// As many requests as a connection takes, on each of some connections whose windows are closed.
/// `accept` ends with a line end if a packed answer is wanted.
fn unread_streams(addr: SocketAddr, connections: usize, path: &str, accept: &str) -> Vec<TcpStream> {
    let host = addr.to_string();
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let coding = if accept.ends_with('\n') { "gzip" } else { "identity" };
    for number in 0..STREAMS {
        let fields = block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", &host),
            ("accept", accept.trim_end()),
            ("accept-encoding", coding),
        ]);
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &fields));
    }
    (0..connections).filter_map(|_| keep(addr, &bytes)).collect()
}

/// The same for an event that is nearly as large as one can be.
fn unread_large(addr: SocketAddr, path: &str) -> Vec<TcpStream> {
    publish_large(addr);
    unread_streams(addr, 20, path, "*/*")
}

fn publish_large(addr: SocketAddr) {
    let payload = "x".repeat(900_000);
    let event = format!(
        r#"{{"topic":"large","event_id":"1","timestamp":"2026-01-01T00:00:00Z","source":"s","payload":"{payload}"}}"#
    );
    assert_eq!(Client::new(addr).post("/publish", event.as_bytes()).unwrap().status, 200);
}

fn post(kind: &str) -> String {
    format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n")
}

fn declared_streams(addr: SocketAddr) -> Vec<TcpStream> {
    let host = addr.to_string();
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for number in 0..STREAMS {
        let fields = block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/publish"),
            (":authority", &host),
            ("content-type", "application/json"),
            ("content-length", "16777216"),
        ]);
        bytes.extend(frame(HEADERS, END_HEADERS, 1 + 2 * number, &fields));
    }
    keep(addr, &bytes).into_iter().collect()
}

/// Packed streams of lines that declare the largest window and send nothing for it.
fn windows(addr: SocketAddr) -> Vec<TcpStream> {
    let head =
        post("application/x-ndjson") + "Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n";
    // A frame's magic number, its descriptor, a window of 8 MiB.
    let bytes = [head.as_bytes(), b"\x28\xb5\x2f\xfd\x00\x68\r\n"].concat();
    (0..200).filter_map(|_| keep(addr, &bytes)).collect()
}

/// About as many at once as an attack has.
fn all_at_once(ask: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| (0..2).for_each(|_| ask()));
        }
    });
}

/// Requests that come all at once may find no room, and are told to come back later.
fn assert_served(answer: io::Result<Response>) {
    match answer {
        Ok(answer) => assert!([200, 503].contains(&answer.status), "{}", answer.status),
        Err(e) => assert_ne!(e.kind(), ErrorKind::ConnectionRefused),
    }
}

fn read_pages(addr: SocketAddr) {
    all_at_once(|| assert_served(Client::new(addr).get(PAGE)));
}

fn read_stats(addr: SocketAddr) {
    all_at_once(|| assert_served(Client::new(addr).get("/stats")));
}

fn read_large_events(addr: SocketAddr) {
    publish_large(addr);
    all_at_once(|| assert_served(Client::new(addr).get(LARGE_EVENT)));
}

fn read_consumers(addr: SocketAddr) {
    all_at_once(|| assert_served(Client::new(addr).get(CONSUMERS)));
}

/// Exports, whose last piece ends them.
fn read_exports(addr: SocketAddr) {
    all_at_once(|| {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(get(addr, "/events", EXPORT).as_bytes()).unwrap();
        assert_served(receive(&mut BufReader::new(stream)).map(|(answer, _)| answer));
    });
}

/// Connections that are kept after an answer.
fn keep_connections(addr: SocketAddr) {
    let mut clients: Vec<_> = (0..500).map(|_| Client::new(addr)).collect();
    clients.iter_mut().for_each(|client| assert_served(client.get("/healthz")));
}

/// Bodies of 4 MiB, which come as fast as they are taken.
fn send_bodies(addr: SocketAddr) {
    let payload = "x".repeat(1 << 19);
    all_at_once(|| {
        let events: Vec<String> = (0..8)
            .map(|number| {
                format!(
                    r#"{{"topic":"large","event_id":"{number}","timestamp":"2026-01-01T00:00:00Z","source":"s","payload":"{payload}"}}"#
                )
            })
            .collect();
        let answer = Client::new(addr).post("/publish", format!("[{}]", events.join(",")).as_bytes());
        assert_served(answer);
    });
}
