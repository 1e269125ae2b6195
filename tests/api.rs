//! The HTTP contract from outside: a real process, answers as bytes. Each test has a store of its
//! own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::client::{Client, escape};
use crate::support::process::{Server, Start};
use crate::support::until;
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
fn payloads_come_back_byte_for_byte() {
    let mut service = Service::new();
    let payloads = [
        "123456789012345678901234567890.123456789012345678901234567890",
        "1e999999",
        r#"{"b":1,"a":[ 1, 2 ],"b":2}"#,
        r#""\u00e9\/\ud83d\ude00""#,
        "null",
        &format!("\"{}\"", "x".repeat(300_000)),
    ];
    for (number, payload) in payloads.iter().enumerate() {
        let body = event("p", &number.to_string()).to_string().replace(r#"{"n":1}"#, payload);
        assert_eq!(service.publish(body).0, 200);
        let answer = service.client.get(&format!("/events/p/{number}")).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.contains(&format!("\"payload\":{payload},")),
            "{}",
            text.chars().take(200).collect::<String>()
        );
    }
    let mut absent = event("p", "absent");
    absent.as_object_mut().unwrap().remove("payload");
    service.publish(absent.to_string());
    assert_eq!(service.get("/events/p/absent").1["payload"], json!({}));
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

#[test]
fn listings_filter_order_and_page_without_gap_or_repeat() {
    let mut service = Service::new();
    for batch in 0..12 {
        let events: Vec<_> =
            (0..50).map(|i| event(if i % 3 == 0 { "a" } else { "b/ä" }, &format!("{batch}-{i}"))).collect();
        assert_eq!(service.publish(json!(events).to_string()).0, 200);
    }
    let mut pages = |query: &str| {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = service.get(&format!("/events?limit=37{query}{cursor}"));
            assert_eq!(status, 200, "{page}");
            let events = page["events"].as_array().unwrap();
            assert_eq!(page["count"], events.len());
            ids.extend(events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    };
    let topic = format!("&topic={}", escape("b/ä"));
    for filter in ["", "&topic=a", &topic] {
        let forwards = pages(filter);
        let mut backwards = pages(&format!("{filter}&order=desc"));
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let mut distinct = forwards.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(
            (distinct.len(), forwards.len()),
            match filter {
                "" => (600, 600),
                "&topic=a" => (204, 204),
                _ => (396, 396),
            }
        );
    }
    assert_eq!(pages("&source=test").len(), 600);
    assert_eq!(pages("&source=other").len(), 0);
    assert_eq!(pages("&since=2020-01-01T00:00:00Z").len(), 600);
    assert_eq!(pages("&until=2020-01-01T00:00:00%2B01:00").len(), 0);
    let (status, _) = service.get(&format!("/events/{}/{}", escape("b/ä"), "3-1"));
    assert_eq!(status, 200);
    assert_eq!(service.get("/events/a/none").0, 404);
    assert_eq!(service.get("/topics").1["topics"][1]["unique_processed"], 396);
    let first = service.get("/topics?limit=1").1;
    assert_eq!(first["topics"][0]["topic"], "a");
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(service.get(&format!("/topics?cursor={cursor}")).1["topics"][0]["topic"], "b/ä");
    assert_eq!(Service::new().get(&format!("/topics?cursor={cursor}")).0, 400, "of another store");
    for (query, place) in [
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("order=up", "order"),
        ("since=yesterday", "since"),
        ("until=1e18", "until"),
        ("limit=0", "limit"),
        ("limit=0&topic=a&event_id=1", "limit"),
        ("event_id=1", "event_id"),
    ] {
        let (status, answer) = service.get(&format!("/events?{query}"));
        assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["query", place])));
    }
    assert_eq!(service.get("/events?cursor=nonsense").0, 400);
    assert_eq!(service.get("/topics?limit=0").0, 422, "an empty page would say that there is no more");
}

#[test]
fn what_is_no_request_of_this_api_is_refused_with_a_reason() {
    let mut service =
        Service::with(&[("SEKALI_BODY_BYTES_MAX", "1048576"), ("SEKALI_BATCH_EVENTS_MAX", "100")]);
    assert_eq!(service.get("/nothing").0, 404);
    let many: Vec<_> = (0..101).map(|i| event("t", &i.to_string())).collect();
    assert_eq!(service.publish(json!(many).to_string()).0, 413);
    let cases = [
        ("GET /publish HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405", "allow: POST"),
        ("DELETE /events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405", "allow: GET, HEAD"),
        ("GET /stats HTTP/1.1\r\n\r\n".to_owned(), "400", "Host"),
        ("GET /stats HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n".to_owned(), "400", "Host"),
        ("HEAD /stats HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "200", "content-length"),
        (format!("GET /stats HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(100_000)), "431", ""),
        ("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n".to_owned(), "413", "fewer"),
        (
            format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n{}",
                " ".repeat(0x20_0000)
            ),
            "413",
            "fewer",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1\r\n\r\n1"
                .to_owned(),
            "415",
            "application/json",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\n1".to_owned(),
            "415",
            "accept-encoding: gzip, zstd",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nAccept: application/problem+json\r\nContent-Length: 2\r\n\r\n{}"
                .to_owned(),
            "422",
            "application/problem+json",
        ),
    ];
    for (request, status, part) in cases {
        let answer = service.raw(request.as_bytes());
        let shown: String = request.chars().take(90).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(answer.contains(part), "{shown}: {answer}");
    }
    assert_eq!(service.counts()[..3], [0, 0, 0]);
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let mut service = Service::new();
    assert_eq!(service.client.post("/publish/", event("t", "1").to_string().as_bytes()).unwrap().status, 200);
    for path in
        ["/events", "/events/t/1", "/stats", "/topics", "/healthz", "/readyz", "/metrics", "/openapi.json"]
    {
        let answers = [path, &format!("{path}/"), &format!("{path}/?x=1")]
            .map(|path| service.client.get(path).unwrap());
        assert_eq!(answers.map(|answer| answer.status), [200; 3], "{path}");
    }
    for path in ["/publish//", "/events//", "/events/t/", "/events/t/1//", "//"] {
        assert_eq!(service.get(path).0, 404, "{path}");
    }
}

#[test]
fn programs_that_look_for_a_service_find_it_at_its_root_and_its_health() {
    let mut service = Service::new();
    assert_eq!(service.get("/health"), service.get("/readyz"));
    let (status, root) = service.get("/");
    assert_eq!((status, &root["service"], &root["status"]), (200, &json!("sekali"), &json!("ready")));
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    for (name, path) in root["links"].as_object().unwrap() {
        let expected = if name == "publish" { 405 } else { 200 };
        assert_eq!(service.client.get(path.as_str().unwrap()).unwrap().status, expected, "{name}");
    }
}

#[test]
fn any_name_can_be_looked_up_by_a_query() {
    let mut service = Service::new();
    for (topic, id) in [("..", "stats"), ("dots", "."), (".", ".."), ("a/b", "c?d&e+f%2F")] {
        assert_eq!(service.publish(event(topic, id).to_string()).0, 200);
        let query =
            |topic: &str, id: &str| format!("/events?topic={}&event_id={}", escape(topic), escape(id));
        let (status, page) = service.get(&query(topic, id));
        assert_eq!((status, &page["count"], &page["topic"]), (200, &json!(1), &json!(topic)), "{page}");
        assert_eq!(page["events"][0]["event_id"], id);
        assert_eq!(page["next_cursor"], json!(null));
        let none = json!({"topic": topic, "count": 0, "events": [], "next_cursor": null});
        assert_eq!(service.get(&query(topic, "none")), (200, none));
    }
}

#[test]
fn booleans_of_the_query_are_taken_as_pydantic_takes_them() {
    let mut service = Service::new();
    for (word, status) in [
        ("true", 207),
        ("True", 207),
        ("1", 207),
        ("yes", 207),
        ("on", 207),
        ("False", 422),
        ("0", 422),
        ("2", 422),
    ] {
        let answer = service.client.post(&format!("/publish?partial={word}"), b"[{}]").unwrap();
        assert_eq!(answer.status, status, "{word}");
    }
}

#[test]
fn timestamps_come_back_as_they_came() {
    let mut service = Service::new();
    let forms = [
        json!("2026-11-22T10:00:00,123"),
        json!("2026-11-22 10:00:00.123456+00"),
        json!("2026-11-22_10:00"),
        json!("2026-11-22t10:00:00+0530"),
        json!("2026-11-22"),
        json!("1763800000"),
        json!(1_763_800_000),
        json!(-1),
    ];
    for (number, form) in forms.iter().enumerate() {
        let mut event = event("t", &number.to_string());
        event["timestamp"] = form.clone();
        assert_eq!(service.publish(event.to_string()).0, 200, "{form}");
    }
    let raw = event("t", "raw").to_string().replace(r#""2026-11-22T10:00:00Z""#, "1763800000.1200");
    assert_eq!(service.publish(&raw).0, 200);
    for restarted in [false, true] {
        if restarted {
            service.restart(true);
        }
        let page = service.get("/events?topic=t").1;
        let back: Vec<_> =
            page["events"].as_array().unwrap().iter().map(|event| &event["timestamp"]).collect();
        assert_eq!(back[..forms.len()], forms.iter().collect::<Vec<_>>());
        let text = String::from_utf8(service.client.get("/events/t/raw").unwrap().body).unwrap();
        assert!(text.contains(r#""timestamp":1763800000.1200,"#), "{text}");
    }
    // The same for the range of a listing.
    for (since, count) in [
        ("2020-01-01", 9),
        ("2020-01-01T00:00:00.000000%2B0000", 9),
        ("2020-01-01T00:00Z", 9),
        ("2020-01-01+00:00:00,5+00", 9),
        ("1577836800", 9),
        ("1577836800000", 9),
        ("2100-01-01", 0),
        ("4102444800", 0),
    ] {
        let (status, page) = service.get(&format!("/events?since={since}"));
        assert_eq!((status, &page["count"]), (200, &json!(count)), "{since}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Service::new();
    let mut requests = String::new();
    for id in ["1", "2", "1"] {
        let body = event("t", id).to_string();
        requests += &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let answer = service.raw(requests.as_bytes());
    let statuses: Vec<_> =
        answer.match_indices("\"status\":\"").map(|(at, _)| &answer[at + 10..at + 13]).collect();
    assert_eq!(statuses, ["sto", "sto", "dup"]);
}

#[test]
fn health_readiness_and_metrics_tell_how_it_is() {
    let mut service = Service::new();
    service.publish(json!([event("t", "1"), event("t", "1")]).to_string());
    service.publish("{}");
    assert_eq!(service.get("/healthz").0, 200);
    assert_eq!(service.get("/readyz").0, 200);
    let metrics = String::from_utf8(service.client.get("/metrics").unwrap().body).unwrap();
    for line in [
        r#"sekali_events_total{outcome="stored"} 1"#,
        r#"sekali_events_total{outcome="duplicate"} 1"#,
        r#"sekali_events_total{outcome="rejected"} 1"#,
        r#"sekali_http_requests_total{route="/publish",status="422"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn connections_beyond_the_limit_of_open_files_leave_the_store_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    start.under = ["sh", "-c", r#"ulimit -n 200; exec "$@""#, "sh"].map(Into::into).into();
    let (mut server, addr) = start.ready().unwrap();
    let mut client = Client::new(addr);
    assert_eq!(client.get("/readyz").unwrap().status, 200);
    // Those that find no place wait in the kernel's queue, as far as it goes; whoever sends nothing
    // makes room for the others.
    let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(20)).ok();
    let idle: Vec<_> = (0..180).filter_map(connect).collect();
    // Generations begin and are sealed meanwhile, which takes files.
    for batch in 0..20 {
        let events: Vec<_> = (0..100).map(|n| event("t", &format!("{batch}-{n}"))).collect();
        let body = json!(events).to_string();
        let stored = until(60, || {
            let answer = Client::new(addr).post("/publish", body.as_bytes());
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        assert!(stored.is_some(), "{}", server.log());
    }
    drop(idle);
    assert_eq!(Client::new(addr).get("/readyz").unwrap().status, 200);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
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
