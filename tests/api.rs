//! The HTTP contract from outside: a real process, answers as bytes. Each test has a store of its
//! own.

mod reading;
mod serving;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::process::{Server, Start};
use serde_json::{Value, json};

/// A server on a new store.
struct Service {
    _dir: tempfile::TempDir,
    start: Start,
    server: Server,
    addr: SocketAddr,
    client: Client,
}

impl Service {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut start = Start::tiny_generations(&dir.path().join("data"));
        start.env = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let (server, addr) = start.ready().unwrap();
        Self { _dir: dir, start, server, addr, client: Client::new(addr) }
    }

    fn restart(&mut self, kill: bool) {
        if kill {
            self.server.kill();
        } else {
            assert_eq!(self.server.terminate(), Some(0), "{}", self.server.log());
        }
        (self.server, self.addr) = self.start.ready().unwrap();
        self.client = Client::new(self.addr);
    }

    fn publish(&mut self, body: impl AsRef<[u8]>) -> (u16, Value) {
        let answer = self.client.post("/publish", body.as_ref()).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        let answer = self.client.get(path).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    fn counts(&mut self) -> [u64; 4] {
        let (_, stats) = self.get("/stats");
        ["received", "unique_processed", "duplicate_dropped", "rejected"]
            .map(|name| stats[name].as_u64().unwrap())
    }

    /// What the server sends back for these bytes, until it closes or falls silent.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let mut piece = [0; 4_096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            answer.extend_from_slice(&piece[..read]);
        }
        String::from_utf8(answer).unwrap()
    }
}

fn event(topic: &str, id: &str) -> Value {
    json!({"topic": topic, "event_id": id, "timestamp": "2026-11-22T10:00:00Z", "source": "test", "payload": {"n": 1}})
}

#[test]
fn a_duplicate_is_dropped_counted_and_answered_with_the_place_of_the_original() {
    let mut service = Service::new();
    let (status, first) = service.publish(event("orders", "1").to_string());
    assert_eq!(status, 200);
    assert_eq!(first["results"][0]["status"], "stored");
    let (status, second) = service.publish(event("orders", "1").to_string());
    assert_eq!(status, 200);
    assert_eq!(
        second,
        json!({"received": 1, "unique_processed": 0, "duplicate_dropped": 1, "conflicts": 0, "results": [{
            "index": 0, "topic": "orders", "event_id": "1", "status": "duplicate", "offset": 0,
            "first_seen": first["results"][0]["first_seen"]}]})
    );
    assert_eq!(service.counts(), [2, 1, 1, 0]);
}

#[test]
fn a_service_behind_a_locked_door_asks_for_tls_and_a_token_and_another_one_for_neither() {
    let service = Service::new();
    let is_locked = std::env::var_os("SEKALI_TEST_DOOR").is_some();
    let wrong = service.raw(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n");
    assert_eq!(&wrong[9..12], if is_locked { "401" } else { "200" }, "{wrong}");
    let behind = service.server.variables().find(|(name, _)| *name == "SEKALI_URL");
    assert_eq!(behind.is_some(), is_locked);
    if let Some((_, url)) = behind {
        let addr = url.to_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        let plain = Client::new(addr).get("/stats").unwrap();
        assert_eq!(String::from_utf8(plain.body).unwrap(), sekali::server::SPEAKS_TLS);
    }
}

#[test]
fn a_restart_keeps_what_was_stored_and_counted() {
    let mut service = Service::new();
    service.publish(json!([event("a", "1"), event("a", "2"), event("a", "1")]).to_string());
    for kill in [false, true, false] {
        let before = service.counts();
        service.restart(kill);
        assert_eq!(service.counts(), before);
        let (_, again) = service.publish(event("a", "1").to_string());
        assert_eq!(again["results"][0]["status"], "duplicate");
        assert_eq!(service.get("/events?topic=a").1["count"], 2);
    }
}

#[test]
fn all_four_json_shapes_are_taken() {
    let mut service = Service::new();
    let shapes = [
        event("t", "1"),
        json!([event("t", "2"), event("t", "3")]),
        json!({"events": [event("t", "4"), event("t", "1")]}),
        json!({"events": event("t", "5")}),
    ];
    for (shape, (received, unique, has_results)) in
        shapes.iter().zip([(1, 1, true), (2, 2, false), (2, 1, false), (1, 1, true)])
    {
        let (status, answer) = service.publish(format!(" {shape}\n"));
        assert_eq!(
            (status, &answer["received"], &answer["unique_processed"]),
            (200, &json!(received), &json!(unique))
        );
        assert_eq!(answer.get("results").is_some(), has_results, "{shape}");
    }
    let answer = service.client.post("/publish?results=all", shapes[1].to_string().as_bytes()).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["results"][1]["event_id"], "3");
    assert_eq!(
        service.publish("[]").1,
        json!({"received": 0, "unique_processed": 0, "duplicate_dropped": 0, "conflicts": 0})
    );
    assert_eq!(service.publish(r#"{"events":[]}"#).0, 200);
}

#[test]
fn invalid_events_are_refused_with_their_places_and_nothing_is_stored() {
    let mut service = Service::new();
    let fault = |answer: &Value| {
        let fault = &answer["detail"][0];
        (fault["loc"].clone(), fault["type"].as_str().unwrap().to_owned())
    };
    let with = |field: &str, value: Value| {
        let mut event = event("t", "1");
        event[field] = value;
        event.to_string()
    };
    let without = |field: &str| {
        let mut event = event("t", "1");
        event.as_object_mut().unwrap().remove(field);
        event.to_string()
    };
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let good = event("t", "1").to_string();
    let cases: Vec<(String, Value, &str)> = vec![
        (without("topic"), json!(["body", "topic"]), "missing"),
        (without("event_id"), json!(["body", "event_id"]), "missing"),
        (without("timestamp"), json!(["body", "timestamp"]), "missing"),
        (without("source"), json!(["body", "source"]), "missing"),
        (with("topic", json!("")), json!(["body", "topic"]), "string_too_short"),
        (with("topic", json!("x".repeat(256))), json!(["body", "topic"]), "string_too_long"),
        (with("topic", json!("a\u{0}b")), json!(["body", "topic"]), "string_control_character"),
        (with("event_id", json!("a\nb")), json!(["body", "event_id"]), "string_control_character"),
        (with("event_id", json!("x".repeat(257))), json!(["body", "event_id"]), "string_too_long"),
        (with("event_id", json!(7)), json!(["body", "event_id"]), "string_type"),
        (with("source", json!(null)), json!(["body", "source"]), "string_type"),
        (with("timestamp", json!("yesterday")), json!(["body", "timestamp"]), "datetime_parsing"),
        (with("timestamp", json!(true)), json!(["body", "timestamp"]), "datetime_type"),
        (with("timestamp", json!(1e18)), json!(["body", "timestamp"]), "datetime_parsing"),
        (good.replace(r#"{"n":1}"#, &nested), json!(["body", "payload"]), "recursion_limit"),
        (good.replace(r#""test""#, r#""\udc00""#), json!(["body", "source"]), "string_unicode"),
        (good.replace(r#"{"n":1}"#, r#"1,"topic":"u""#), json!(["body", "topic"]), "duplicate_field"),
        (json!([event("t", "2"), {"topic": "t"}]).to_string(), json!(["body", 1, "event_id"]), "missing"),
        (
            json!({"events": [event("t", "2"), 7]}).to_string(),
            json!(["body", "events", 1]),
            "model_attributes_type",
        ),
        (json!({"events": 7}).to_string(), json!(["body", "events"]), "model_attributes_type"),
        ("{\"topic\":".to_owned(), json!(["body", 8]), "json_invalid"),
        (format!("{good}x"), json!(["body", good.len()]), "json_invalid"),
        (nested.clone(), json!(["body", 0]), "model_attributes_type"),
        ("7".to_owned(), json!(["body"]), "model_attributes_type"),
        (String::new(), json!(["body"]), "missing"),
    ];
    for (number, (body, loc, kind)) in cases.iter().enumerate() {
        let (status, answer) = service.publish(body);
        let shown: String = body.chars().take(80).collect();
        assert_eq!(status, 422, "{shown}: {answer}");
        assert_eq!(fault(&answer), (loc.clone(), (*kind).to_owned()), "{shown}");
        assert_eq!(service.counts(), [0, 0, 0, number as u64 + 1], "{shown}");
    }
    // Also in what is left out.
    let stray = [good.strip_suffix('}').unwrap().as_bytes(), b",\"note\":\"\xff\"}"].concat();
    for (body, at) in [(&b"{\"topic\":\"\xff\"}"[..], 10), (&stray, stray.len() - 3)] {
        let (status, answer) = service.publish(body);
        assert_eq!(
            (status, fault(&answer)),
            (422, (json!(["body", at]), "json_invalid".to_owned())),
            "{answer}"
        );
    }
    let many = Value::Array(vec![json!({}); 60]);
    assert_eq!(
        service.publish(many.to_string()).1["detail"].as_array().unwrap().len(),
        100,
        "the list is bounded"
    );
}

#[test]
fn another_payload_under_a_known_id_is_a_conflict_and_the_first_write_stays() {
    let mut service = Service::new();
    let first = event("t", "1");
    service.publish(first.to_string());
    let spaced = first.to_string().replace(r#"{"n":1}"#, "{ \"n\" : 1 }");
    assert_eq!(service.publish(spaced).1["results"][0]["status"], "duplicate");
    let mut other = first.clone();
    other["payload"] = json!({"n": 2});
    let (status, answer) = service.publish(other.to_string());
    assert_eq!((status, &answer["conflicts"], &answer["duplicate_dropped"]), (200, &json!(1), &json!(1)));
    assert_eq!(answer["results"][0]["status"], "conflict");
    assert_eq!(service.get("/events/t/1").1["payload"], json!({"n": 1}));
    assert_eq!(service.get("/stats").1["conflicts"], 1);
}

/// Five thousand, at least a fifth of them repeated, by eight clients; then 500 with 60 %.
#[test]
fn a_stress_of_repeats_from_many_clients_is_stored_once() {
    let mut service = Service::new();
    for (total, unique) in [(5_000usize, 4_000usize), (500, 200)] {
        let before = service.counts();
        let addr = service.addr;
        std::thread::scope(|scope| {
            for client in 0..8 {
                scope.spawn(move || {
                    let mut http = Client::new(addr);
                    let mine: Vec<_> = (0..total).filter(|number| number % 8 == client).collect();
                    for numbers in mine.chunks(25) {
                        let events: Vec<_> = numbers
                            .iter()
                            .map(|number| {
                                event(
                                    &format!("t{}", number % unique % 5),
                                    &format!("{total}-{}", number % unique),
                                )
                            })
                            .collect();
                        assert_eq!(
                            http.post("/publish", json!(events).to_string().as_bytes()).unwrap().status,
                            200
                        );
                    }
                });
            }
        });
        let after = service.counts();
        let grown = [0, 1, 2].map(|at| (after[at] - before[at]) as usize);
        assert_eq!(grown, [total, unique, total - unique]);
    }
    let (_, stats) = service.get("/stats");
    assert_eq!(stats["topics"], json!(["t0", "t1", "t2", "t3", "t4"]));
}
