//! Readers that go while they wait for an event: nobody else waits for them, and nothing is given
//! to them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::until;

use super::*;

/// Seconds within which the service notices; those who wait would do so for longer.
const SOON: u64 = 25;

/// A reader that waits, after what it has asked before and not read the answer of.
fn waiting(service: &Service, before: &str, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.addr).unwrap();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", service.addr);
    let mut requests = if before.is_empty() { String::new() } else { ask(before) };
    requests += &ask(&format!("/consumers/c/events?{query}"));
    stream.write_all(requests.as_bytes()).unwrap();
    let leases = || service.get("/consumers/c")["leases"].as_array().unwrap().len();
    assert!(until(SOON, || (leases() == 1).then_some(())).is_some(), "it waits");
    stream
}

/// Whether nobody has a lease soon.
fn is_free(service: &Service) -> bool {
    let is_free = || (service.get("/consumers/c")["leases"] == json!([])).then_some(());
    until(SOON, is_free).is_some()
}

#[test]
fn whoever_goes_while_it_waits_leaves_its_lease_and_its_place_to_others() {
    // There are four places for those who wait.
    let service = Service::started(|mut start| {
        start.env.push(("SEKALI_CONNECTIONS_MAX".into(), "8".into()));
        start
    });
    put(&service, "c", &["*"], "start");
    for round in 0..4 {
        drop(waiting(&service, "", "wait=30s&lease=30s"));
        assert!(is_free(&service), "{round}: it has closed the connection");
        // What it has not read has the system reset the connection.
        drop(waiting(&service, "/healthz", "wait=30s&lease=30s"));
        assert!(is_free(&service), "{round}: it has reset the connection");
    }
    publish(&service, "t", 0, 1);
    assert_eq!(offsets(&take(&service, "c", "wait=30s")), [("t".to_owned(), 0)]);
    assert_eq!(service.get("/consumers/c")["last_error"], Value::Null);
}

#[test]
fn whoever_closes_its_side_is_answered_at_once_and_can_read_that() {
    let service = Service::new();
    put(&service, "c", &["*"], "start");
    let mut stream = waiting(&service, "", "wait=50s&lease=30s");
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(SOON))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"receipt\":null"), "{answer}");
    assert!(is_free(&service));
    // What is there already is given to it.
    publish(&service, "t", 0, 1);
    let mut stream = TcpStream::connect(service.addr).unwrap();
    let host = service.addr;
    write!(stream, "GET /consumers/c/events?wait=50s HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(SOON))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"event_id\":\"e-0\""), "{answer}");
}

#[test]
fn the_lease_of_a_holder_that_has_gone_is_not_renewed() {
    let service = Service::new();
    put(&service, "c", &["*"], "start");
    drop(waiting(&service, "", "wait=50s&lease=2s&holder=w"));
    assert!(is_free(&service));
    assert_eq!(service.get("/consumers/c")["last_error"], Value::Null);
}

#[test]
fn what_is_sent_while_a_request_waits_is_answered_after_it() {
    let service = Service::new();
    put(&service, "c", &["*"], "start");
    let mut stream = waiting(&service, "", "wait=50s");
    let host = service.addr;
    let body = json!({"topics": ["*"]});
    let length = body.to_string().len();
    write!(
        stream,
        "PUT /consumers/d HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}\
         GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    publish(&service, "t", 0, 1);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let at = |part: &str| answers.find(part).unwrap_or_else(|| panic!("{part}: {answers}"));
    assert!(at("\"event_id\":\"e-0\"") < at("HTTP/1.1 201 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 3, "{answers}");
}
