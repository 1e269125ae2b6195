//! What a consumer is given: each event of its topics, in each topic's order, until it is
//! acknowledged.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

use crate::support::client::Response;

use super::*;

fn in_order(given: &[(String, u64)]) -> BTreeMap<String, Vec<u64>> {
    let mut topics: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (topic, offset) in given {
        topics.entry(topic.clone()).or_default().push(*offset);
    }
    topics
}

#[test]
fn a_consumer_is_given_each_event_once_it_acknowledges_and_each_topic_in_order() {
    let service = Service::new();
    for topic in ["orders.eu", "orders.us", "users"] {
        publish(&service, topic, 0, 250);
    }
    put(&service, "billing", &["orders.*"], "start");
    let given = drain(&service, "billing", "limit=30");
    let expected: Vec<u64> = (0..250).collect();
    let topics = in_order(&given);
    assert_eq!(topics.keys().collect::<Vec<_>>(), ["orders.eu", "orders.us"]);
    assert!(topics.values().all(|offsets| *offsets == expected));
    publish(&service, "orders.eu", 250, 1);
    publish(&service, "orders.new", 0, 2);
    publish(&service, "users", 250, 1);
    let expected = [("orders.eu", 250), ("orders.new", 0), ("orders.new", 1)];
    let mut given = drain(&service, "billing", "");
    given.sort();
    assert_eq!(given, expected.map(|(topic, offset)| (topic.to_owned(), offset)));
}

#[test]
fn what_is_not_acknowledged_is_given_again() {
    let service = Service::new();
    publish(&service, "t", 0, 10);
    put(&service, "c", &["t"], "start");
    let first = take(&service, "c", "limit=4&holder=w");
    assert_eq!(first["lag"], 10);
    assert_eq!(offsets(&take(&service, "c", "limit=4&holder=w")), offsets(&first));
    assert_eq!(acknowledge(&service, "c", &first), 200);
    assert_eq!(acknowledge(&service, "c", &first), 200, "once more");
    let next = take(&service, "c", "limit=4&holder=w");
    assert_eq!(offsets(&next), (4..8).map(|offset| ("t".to_owned(), offset)).collect::<Vec<_>>());
    assert_eq!(next["lag"], 6);
}

#[test]
fn a_topic_with_little_is_not_kept_waiting_by_one_with_much() {
    let service = Service::new();
    publish(&service, "hot", 0, 2_000);
    put(&service, "c", &["*"], "start");
    let given = take(&service, "c", "limit=100");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    publish(&service, "quiet", 0, 1);
    let given = take(&service, "c", "limit=100");
    assert!(offsets(&given).contains(&("quiet".to_owned(), 0)), "{given}");
}

/// Somebody who waits for an event of the consumer.
fn waiting(service: &Service) -> JoinHandle<Response> {
    let addr = service.addr;
    let waiting = thread::spawn(move || Client::new(addr).get("/consumers/c/events?wait=60s").unwrap());
    let has_lease = || (!service.get("/consumers/c")["leases"][0].is_null()).then_some(());
    assert!(crate::support::until(10, has_lease).is_some(), "nobody waits");
    waiting
}

#[test]
fn whoever_waits_is_given_what_comes() {
    let service = Service::new();
    put(&service, "c", &["t"], "end");
    let waiting = waiting(&service);
    publish(&service, "t", 0, 1);
    let given: Value = serde_json::from_slice(&waiting.join().unwrap().body).unwrap();
    assert_eq!(offsets(&given), [("t".to_owned(), 0)]);
}

#[test]
fn whoever_waits_is_given_nothing_of_another_consumer_that_gets_the_name() {
    let service = Service::new();
    put(&service, "c", &["t"], "end");
    let waiting = waiting(&service);
    assert_eq!(ask(&service, "DELETE", "/consumers/c", &Value::Null).0, 204);
    put(&service, "c", &["secret"], "start");
    publish(&service, "secret", 0, 1);
    publish(&service, "t", 0, 1);
    let answer = waiting.join().unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!((answer.status, text.contains("secret")), (404, false), "{text}");
    assert_eq!(service.get("/consumers/c")["leases"], json!([]), "it has no lease of the other one");
}

#[test]
fn nobody_keeps_a_stop_waiting() {
    let mut service = Service::new();
    put(&service, "c", &["t"], "end");
    let waiting = waiting(&service);
    assert_eq!(service.server.terminate(), Some(0));
    assert_eq!(waiting.join().unwrap().status, 200);
}

#[test]
fn parts_share_out_the_topics_and_each_event_has_one() {
    let service = Service::new();
    for topic in 0..20 {
        publish(&service, &format!("t-{topic}"), 0, 3);
    }
    put(&service, "c", &["t-*"], "start");
    let mut all = Vec::new();
    for part in 1..=4 {
        all.extend(drain(&service, "c", &format!("partition={part}/4&limit=7")));
    }
    all.sort();
    let mut expected: Vec<_> =
        (0..20).flat_map(|topic| (0..3).map(move |offset| (format!("t-{topic}"), offset))).collect();
    expected.sort();
    assert_eq!(all, expected);
    publish(&service, "t-0", 3, 1);
    assert_eq!(drain(&service, "c", "").len(), 1, "another number of parts goes on where the first was");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_body_and_a_large_body_is_refused_while_it_comes() {
    let service = Service::new();
    let marked = b"\xef\xbb\xbf{\"topics\":[\"t\"]}";
    let answer = Client::new(service.addr).send("PUT", "/consumers/c", JSON, marked).unwrap();
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    // It says nothing of its length, and does not end.
    let mut stream = std::net::TcpStream::connect(service.addr).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let head = "PUT /consumers/d HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    std::io::Write::write_all(&mut stream, format!("{head}{chunk}1\r\n \r\n").as_bytes()).unwrap();
    let (answer, _) = crate::support::client::receive(&mut std::io::BufReader::new(stream)).unwrap();
    assert_eq!(answer.status, 413, "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let service = Service::new();
    put(&service, "c", &["t"], "start");
    publish(&service, "t", 0, 1);
    for (method, path, body, expected) in [
        ("GET", "/consumers/none/events", Value::Null, 404),
        ("GET", "/consumers/none", Value::Null, 404),
        ("DELETE", "/consumers/none", Value::Null, 404),
        ("POST", "/consumers/none/ack", json!({"receipt": "x"}), 404),
        ("PUT", "/consumers/-x", json!({"topics": ["t"]}), 422),
        ("PUT", "/consumers/x", json!({"topics": []}), 422),
        ("PUT", "/consumers/x", json!({"topics": ["a*b"]}), 422),
        ("PUT", "/consumers/x", json!({"topics": ["t"], "more": 1}), 422),
        ("PUT", "/consumers/x", json!({"topics": ["t"], "start": "nowhere"}), 400),
        ("PUT", "/consumers/c", json!({"topics": ["u"]}), 409),
        ("PUT", "/consumers/c", json!({"topics": ["t"]}), 200),
        ("GET", "/consumers/c/events?partition=5/4", Value::Null, 422),
        ("GET", "/consumers/c/events?lease=0", Value::Null, 422),
        ("GET", "/consumers/c/events?wait=1h", Value::Null, 422),
        ("GET", "/consumers/c/events?limit=1001", Value::Null, 422),
        ("POST", "/consumers/c/ack", json!({"receipt": "x"}), 400),
        ("POST", "/consumers/c/ack", json!({}), 422),
        ("POST", "/consumers/c/seek", json!({"to": "nowhere"}), 400),
        ("POST", "/consumers/c", Value::Null, 405),
    ] {
        let (status, answer) = ask(&service, method, path, &body);
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
    }
}

#[test]
fn topics_are_those_of_the_consumer_and_not_of_a_request() {
    let service = Service::new();
    publish(&service, "t", 0, 1);
    put(&service, "c", &["*"], "start");
    let (status, answer) = ask(&service, "GET", "/consumers/c/events?topic=t", &Value::Null);
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["query", "topic"])), "{answer}");
    assert!(answer["detail"][0]["msg"].as_str().unwrap().contains("PUT /consumers/{name}"), "{answer}");
    assert_eq!(service.get("/consumers/c")["leases"], json!([]));
}
