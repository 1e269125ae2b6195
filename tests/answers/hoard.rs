//! Answers that nobody reads share one budget; clients that ask beside them are served.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use sekali::limits::ANSWER_BYTES_INFLIGHT_MAX;

use super::{frames, service};
use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::service::event;
use crate::support::until;

/// What a process takes beside what it counts: frames that are read, encoders, what its allocator
/// keeps.
const BESIDE_BYTES: u64 = 96 << 20;

/// A store whose longest answers have many megabytes.
fn full_service() -> Service {
    let service = service();
    let filler = format!("\"{}\"", "x".repeat(900));
    service.publish((0..12_000).map(|n| event("big", &format!("e{n}"), &filler)));
    let name = "n".repeat(240);
    service.publish((0..8_000).map(|n| event(&format!("{name}{n}"), "1", "1")));
    make_consumers(&service, 120, 100);
    service
}

/// Makes consumers with long filters.
fn make_consumers(service: &Service, consumers: usize, patterns: usize) {
    let mut client = Client::new(service.addr);
    let name = "f".repeat(240);
    for consumer in 0..consumers {
        let topics: Vec<_> = (0..patterns).map(|n| format!("{name}-{consumer}-{n}")).collect();
        let plan = serde_json::json!({"topics": topics}).to_string();
        let json = [("Content-Type", "application/json")];
        let answer =
            client.send("PUT", &format!("/consumers/c-{consumer:03}"), &json, plan.as_bytes()).unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    }
}

const PATHS: [&str; 7] = [
    "/events?limit=10000",
    "/events?limit=10000&order=desc",
    "/stats",
    "/topics?limit=10000",
    "/consumers?limit=10000",
    "/openapi.json",
    "/metrics",
];

fn is_served(service: &Service) {
    let mut client = Client::new(service.addr);
    for path in ["/healthz", "/metrics", "/events/big/e7", "/events?limit=10", "/events?topic=big&limit=3"] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
    assert_eq!(client.post("/publish", event("big", "e7", "1").as_bytes()).unwrap().status, 200);
}

/// Waits until all are answered that can be, and looks at what is held meanwhile.
fn settles(service: &Service, before: u64, what: &str) {
    let mut last = (0.0, 0);
    let settled = until(60, || {
        let held = service.figure("sekali_http_answer_bytes");
        assert!(held <= ANSWER_BYTES_INFLIGHT_MAX as f64, "{what}: {held} bytes are held");
        let grown = service.resident_bytes().saturating_sub(before);
        assert!(grown < ANSWER_BYTES_INFLIGHT_MAX as u64 + BESIDE_BYTES, "{what}: {grown} bytes more");
        std::thread::park_timeout(Duration::from_millis(250));
        (std::mem::replace(&mut last, (held, grown)) == (held, grown)).then_some(())
    });
    assert!(settled.is_some(), "{what}: it never comes to rest");
}

#[test]
fn streams_that_nobody_reads_hold_a_bounded_amount_over_http_2() {
    let service = full_service();
    let before = service.resident_bytes();
    let mut hoards = Vec::new();
    for (accept, encoding) in [
        ("application/json", "identity"),
        ("application/json", "gzip"),
        ("application/x-ndjson", "identity"),
        ("application/x-ndjson", "gzip"),
        ("text/event-stream", "identity"),
    ] {
        for path in PATHS {
            let path = if accept.ends_with("event-stream") { "/events" } else { path };
            let fields = [("accept", accept), ("accept-encoding", encoding)];
            hoards.push(frames::ask(service.addr, &[path; 100], &fields));
        }
    }
    settles(&service, before, "35 connections");
    let refused = until(20, || {
        let name = "sekali_http_requests_total{route=\"/events\",status=\"503\"}";
        (service.figure(name) > 0.0).then_some(())
    });
    assert!(refused.is_some(), "all are taken, however many there are");
    is_served(&service);
    drop(hoards);
    let is_free = until(20, || (service.figure("sekali_http_answer_bytes") < 1e6).then_some(()));
    assert!(is_free.is_some(), "what was held for connections that are gone is still held");
}

#[test]
fn one_connection_holds_a_part_of_what_all_may() {
    let service = full_service();
    let before = service.resident_bytes();
    let hoard = frames::ask(service.addr, &[PATHS[0]; 100], &[]);
    settles(&service, before, "one connection");
    let held = service.figure("sekali_http_answer_bytes");
    assert!((1e5..8e6).contains(&held), "one connection holds {held} bytes");
    is_served(&service);
    drop(hoard);
}

#[test]
fn answers_that_nobody_reads_hold_a_bounded_amount_over_http_1() {
    let service = full_service();
    let before = service.resident_bytes();
    let mut hoards = Vec::new();
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        for encoding in ["identity", "gzip"] {
            for path in PATHS {
                for _ in 0..8 {
                    let mut stream = TcpStream::connect(service.addr).unwrap();
                    let head = format!(
                        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nAccept-Encoding: {encoding}\r\n\r\n"
                    );
                    // Again and again, as long as the service takes it.
                    stream.write_all(head.repeat(4).as_bytes()).unwrap();
                    hoards.push(stream);
                }
            }
        }
    }
    settles(&service, before, "336 connections");
    is_served(&service);
    drop(hoards);
}

#[test]
fn results_that_nobody_reads_are_refused_before_anything_is_stored() {
    let service = service();
    let batch = |number: usize| {
        let events: Vec<_> = (0..1_000).map(|n| event("t", &format!("{number}-{n}"), "1")).collect();
        format!("[{}]", events.join(","))
    };
    let before = service.resident_bytes();
    let mut hoards = Vec::new();
    for number in 0..60 {
        let body = batch(number);
        let head = format!(
            "POST /publish?results=all HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(service.addr).unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        hoards.push(stream);
    }
    settles(&service, before, "results");
    is_served_without_events(&service);
}

fn is_served_without_events(service: &Service) {
    assert_eq!(service.post(&event("u", "1", "1")), 200);
    assert_eq!(service.stored() % 1_000, 1, "each batch is stored as a whole, or not at all");
}

#[test]
fn a_page_made_in_many_pieces_is_the_page() {
    let service = service();
    let filler = format!("\"{}\"", "x".repeat(300));
    service.publish((0..3_000).map(|n| event(["a", "b"][n % 2], &format!("e{n}"), &filler)));
    // Larger than a piece, and than all others together.
    let large = format!("\"{}\"", "y".repeat(1 << 19));
    service.publish((0..4).map(|n| event("large", &format!("l{n}"), &large)));
    for (query, count) in [
        ("limit=10000", 3_004),
        ("limit=10000&order=desc", 3_004),
        ("limit=2500", 2_500),
        ("limit=10000&topic=a", 1_500),
        ("limit=10000&topic=large", 4),
        ("limit=3&topic=a", 3),
        ("limit=10000&source=nobody", 0),
    ] {
        let page = service.get(&format!("/events?{query}"));
        let events = page["events"].as_array().unwrap();
        assert_eq!((events.len(), page["count"].as_u64().unwrap()), (count, count as u64), "{query}");
        let is_all = !query.contains("limit=2500") && !query.contains("limit=3&");
        assert_eq!(page["next_cursor"].is_null(), is_all, "{query}");
        assert!(page.as_object().unwrap().contains_key("topic"), "{query}");
        let mut offsets: Vec<_> =
            events.iter().map(|e| (e["topic"].as_str(), e["offset"].as_u64())).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), count, "{query}: none comes twice");
    }
    let stats = service.get("/stats");
    assert_eq!(stats["topics"], serde_json::json!(["a", "b", "large"]));
}

#[test]
fn long_lists_of_topics_are_whole() {
    let service = service();
    let name = "n".repeat(200);
    service.publish((0..3_000).map(|n| event(&format!("{name}{n:04}"), "1", "1")));
    let expected: Vec<_> = (0..3_000).map(|n| format!("{name}{n:04}")).collect();
    assert_eq!(service.get("/stats")["topics"], serde_json::json!(expected));
    let page = service.get("/topics?limit=2000");
    let names: Vec<_> =
        page["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone()).collect();
    assert_eq!(
        (serde_json::json!(names), &page["count"]),
        (serde_json::json!(expected[..2_000]), &2_000.into())
    );
    let rest = service.get(&format!("/topics?limit=2000&cursor={}", page["next_cursor"].as_str().unwrap()));
    assert_eq!((&rest["count"], &rest["next_cursor"]), (&1_000.into(), &serde_json::Value::Null));
}

#[test]
fn long_lists_of_consumers_are_whole() {
    let service = service();
    make_consumers(&service, 60, 20);
    let names = |page: &serde_json::Value| -> Vec<String> {
        let consumers = page["consumers"].as_array().unwrap().iter();
        consumers.map(|consumer| consumer["name"].as_str().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = (0..60).map(|consumer| format!("c-{consumer:03}")).collect();
    let whole = service.get("/consumers?limit=10000");
    assert_eq!((names(&whole), &whole["next_cursor"]), (expected.clone(), &serde_json::Value::Null));
    for limit in [1, 15, 16, 17, 59, 60] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = service.get(&format!("/consumers?limit={limit}{cursor}"));
            all.extend(names(&page));
            assert!(names(&page).len() <= limit);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(all, expected, "{limit}");
    }
}
