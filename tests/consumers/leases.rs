//! One reader at a time: a lease keeps others out, and what was given under one that is over can't
//! be acknowledged.

use super::*;

/// Waits until the lease that was given is over.
fn until_free(service: &Service, name: &str) {
    let is_free =
        || service.get(&format!("/consumers/{name}"))["leases"].as_array().unwrap().is_empty().then_some(());
    assert!(crate::support::until(30, is_free).is_some(), "the lease does not end");
}

fn refused(service: &Service, query: &str) -> Value {
    let (status, answer) = ask(service, "GET", &format!("/consumers/c/events?{query}"), &Value::Null);
    assert_eq!(status, 409, "{answer}");
    answer
}

#[test]
fn a_second_reader_is_told_who_reads_and_until_when() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "start");
    let given = take(&service, "c", "holder=worker-1&limit=1");
    let answer = refused(&service, "holder=worker-2");
    assert_eq!(answer["lease"]["holder"], "worker-1");
    assert_eq!(answer["lease"]["until"], given["lease_until"]);
    assert!(answer["detail"].as_str().unwrap().contains("worker-1"), "{answer}");
    refused(&service, "");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    refused(&service, "holder=worker-2");
    assert_eq!(offsets(&take(&service, "c", "holder=worker-1")).len(), 2);
}

#[test]
fn a_lease_without_a_name_is_for_one_answer() {
    let service = Service::new();
    publish(&service, "t", 0, 2);
    put(&service, "c", &["t"], "start");
    let given = take(&service, "c", "limit=1");
    refused(&service, "");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    let given = take(&service, "c", "");
    assert_eq!(offsets(&given), [("t".to_owned(), 1)]);
    assert_eq!(acknowledge(&service, "c", &given), 200);
    assert!(take(&service, "c", "")["receipt"].is_null());
    assert!(take(&service, "c", "")["receipt"].is_null(), "nothing was given, so nothing is held");
}

#[test]
fn a_late_acknowledgement_is_refused_and_the_events_are_given_again() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "start");
    let late = take(&service, "c", "lease=1s");
    until_free(&service, "c");
    assert_eq!(acknowledge(&service, "c", &late), 409);
    let given = take(&service, "c", "");
    assert_eq!(offsets(&given), offsets(&late));
    assert_eq!(acknowledge(&service, "c", &late), 409, "another has the lease now");
    assert_eq!(service.get("/consumers/c")["lag"], 3);
    assert_eq!(acknowledge(&service, "c", &given), 200);
    assert_eq!(service.get("/consumers/c")["lag"], 0);
}

/// What a consumer's list entry says of its last error: the reason, and who held the lease.
fn last_error(service: &Service) -> (Value, Value) {
    let listed = service.get("/consumers")["consumers"][0]["last_error"].clone();
    assert_eq!(listed, service.get("/consumers/c")["last_error"]);
    assert!(listed.is_null() || listed["at"].as_str().unwrap().ends_with('Z'), "{listed}");
    (listed["reason"].clone(), listed["holder"].clone())
}

#[test]
fn what_was_given_and_not_acknowledged_is_told_as_the_last_error() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "start");
    let none = (Value::Null, Value::Null);
    let given = take(&service, "c", "holder=worker-1&limit=1&lease=1s");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    until_free(&service, "c");
    assert_eq!(last_error(&service), none, "all was acknowledged that was given");
    let late = take(&service, "c", "holder=worker-1&limit=1&lease=1s");
    assert_eq!(last_error(&service), none, "it may still be acknowledged");
    until_free(&service, "c");
    assert_eq!(last_error(&service), (json!("lease_expired"), json!("worker-1")));
    assert_eq!(acknowledge(&service, "c", &late), 409);
    assert_eq!(last_error(&service), (json!("ack_refused"), Value::Null));
    let given = take(&service, "c", "");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    assert_eq!(last_error(&service).0, json!("ack_refused"), "the last one stays");
}

#[test]
fn a_lease_that_is_given_back_is_no_error() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "start");
    let given = take(&service, "c", "holder=worker-1&limit=1&lease=60s");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    take(&service, "c", "holder=worker-1&limit=1&lease=1s");
    until_free(&service, "c");
    assert_eq!(last_error(&service), (Value::Null, Value::Null));
    // Nor is it with events that its holder has and does not work on.
    take(&service, "c", "holder=worker-1&limit=1&lease=60s");
    take(&service, "c", "holder=worker-1&limit=1&lease=1s");
    until_free(&service, "c");
    assert_eq!(last_error(&service), (Value::Null, Value::Null));
}

#[test]
fn a_request_that_waits_does_not_renew_what_its_holder_gives_back() {
    let service = Service::new();
    put(&service, "c", &["t"], "start");
    let (addr, path) = (service.addr, "/consumers/c/events?holder=w&wait=20s&lease=60s");
    let waiting = std::thread::spawn(move || Client::new(addr).get(path).unwrap());
    let leases = || service.get("/consumers/c")["leases"].as_array().unwrap().len();
    assert!(crate::support::until(10, || (leases() == 1).then_some(())).is_some(), "it waits");
    take(&service, "c", "holder=w&lease=1s");
    // Each event wakes those who wait, also for other topics.
    publish(&service, "other", 0, 1);
    assert!(crate::support::until(10, || (leases() == 0).then_some(())).is_some(), "it is renewed");
    publish(&service, "t", 0, 1);
    let given: Value = serde_json::from_slice(&waiting.join().unwrap().body).unwrap();
    assert_eq!(offsets(&given), [("t".to_owned(), 0)], "who still waits gets another");
}

#[test]
fn parts_are_leased_apart_unless_they_overlap() {
    let service = Service::new();
    for topic in 0..20 {
        publish(&service, &format!("t-{topic}"), 0, 1);
    }
    put(&service, "c", &["t-*"], "start");
    let first = take(&service, "c", "partition=1/2&holder=a");
    let second = take(&service, "c", "partition=2/2&holder=b");
    assert_eq!(offsets(&first).len() + offsets(&second).len(), 20);
    for overlapping in ["", "partition=1/4&holder=c", "partition=3/4&holder=a", "partition=1/3&holder=c"] {
        refused(&service, overlapping);
    }
    assert_eq!(acknowledge(&service, "c", &first), 200);
    assert_eq!(service.get("/consumers/c")["lag"].as_u64().unwrap(), offsets(&second).len() as u64);
}

#[test]
fn a_move_ends_what_was_given_before() {
    let service = Service::new();
    publish(&service, "t", 0, 5);
    put(&service, "c", &["t"], "start");
    let given = take(&service, "c", "holder=w");
    let (status, answer) = ask(&service, "POST", "/consumers/c/seek", &json!({"to": "start"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(acknowledge(&service, "c", &given), 409);
    let (status, _) = ask(&service, "DELETE", "/consumers/c", &Value::Null);
    assert_eq!(status, 204);
    put(&service, "c", &["t"], "start");
    assert_eq!(acknowledge(&service, "c", &given), 409, "it is another consumer");
}

#[test]
fn a_receipt_for_topics_of_another_part_is_refused() {
    let service = Service::new();
    for topic in 0..20 {
        publish(&service, &format!("t-{topic}"), 0, 1);
    }
    put(&service, "c", &["t-*"], "start");
    let receipt = |part: u64| {
        let given = take(&service, "c", &format!("partition={part}/2&holder=w{part}"));
        sekali::consumer::receipt::Receipt::parse(given["receipt"].as_str().unwrap()).unwrap()
    };
    let (first, second) = (receipt(1), receipt(2));
    let mixed = sekali::consumer::receipt::Receipt { lease: first.lease, ..second.clone() };
    let acknowledged = |receipt: &sekali::consumer::receipt::Receipt| {
        acknowledge(&service, "c", &json!({"receipt": receipt.to_text()}))
    };
    assert_eq!(acknowledged(&mixed), 400);
    assert_eq!(service.get("/consumers/c")["lag"], 20);
    assert_eq!((acknowledged(&first), acknowledged(&second)), (200, 200));
    assert_eq!(service.get("/consumers/c")["lag"], 0);
}

#[test]
fn a_later_receipt_covers_those_before_it() {
    let service = Service::new();
    publish(&service, "t", 0, 10);
    put(&service, "c", &["t"], "start");
    // The same events, and more: the first receipt is never sent.
    let first = take(&service, "c", "limit=3&holder=w");
    let second = take(&service, "c", "limit=7&holder=w");
    assert_eq!(acknowledge(&service, "c", &second), 200);
    assert_eq!(service.get("/consumers/c")["lag"], 3);
    assert_eq!(acknowledge(&service, "c", &first), 200, "it is acknowledged already");
    assert_eq!(service.get("/consumers/c")["positions"], json!([{"topic": "t", "next_offset": 7}]));
    assert_eq!(offsets(&take(&service, "c", "holder=w"))[0], ("t".to_owned(), 7));
}

#[test]
fn a_receipt_of_another_consumer_is_refused() {
    let service = Service::new();
    publish(&service, "t", 0, 1);
    put(&service, "c", &["t"], "start");
    put(&service, "d", &["t"], "start");
    let given = take(&service, "c", "");
    take(&service, "d", "");
    assert_eq!(acknowledge(&service, "d", &given), 409);
    assert_eq!(service.get("/consumers/d")["lag"], 1);
    assert_eq!(service.get("/consumers/d")["last_error"], Value::Null, "nothing of its own went wrong");
}
