//! Consumers from outside: what they are given and when, whose lease counts, and that what is
//! acknowledged stays so through whatever ends the service. A real process.

mod cli;
mod delivery;
mod examples;
mod gone;
mod leases;
mod positions;
mod stopped;

use std::net::SocketAddr;

use crate::support::client::{Client, escape};
use crate::support::service::{Service, event};
use serde_json::{Value, json};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// The status and the JSON of an answer; null if it has no body.
fn ask(service: &Service, method: &str, path: &str, body: &Value) -> (u16, Value) {
    ask_at(service.addr, method, path, body)
}

fn ask_at(addr: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = Client::new(addr).send(method, path, JSON, &bytes).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

/// Makes a consumer.
fn put(service: &Service, name: &str, topics: &[&str], start: &str) {
    let (status, answer) =
        ask(service, "PUT", &format!("/consumers/{name}"), &json!({"topics": topics, "start": start}));
    assert_eq!(status, 201, "{answer}");
}

/// What a consumer is given.
fn take(service: &Service, name: &str, query: &str) -> Value {
    let (status, answer) = ask(service, "GET", &format!("/consumers/{name}/events?{query}"), &Value::Null);
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The status of an acknowledgement.
fn acknowledge(service: &Service, name: &str, given: &Value) -> u16 {
    ask(service, "POST", &format!("/consumers/{name}/ack"), &json!({"receipt": given["receipt"]})).0
}

/// Topics and offsets of what was given, in its order.
fn offsets(given: &Value) -> Vec<(String, u64)> {
    let events = given["events"].as_array().unwrap().iter();
    let place =
        |event: &Value| (event["topic"].as_str().unwrap().to_owned(), event["offset"].as_u64().unwrap());
    events.map(place).collect()
}

/// Takes and acknowledges until there is nothing; all that was given.
fn drain(service: &Service, name: &str, query: &str) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    loop {
        let given = take(service, name, query);
        if given["receipt"].is_null() {
            return all;
        }
        all.extend(offsets(&given));
        assert_eq!(acknowledge(service, name, &given), 200);
    }
}

/// Publishes `count` events to a topic, from number `first` on.
fn publish(service: &Service, topic: &str, first: u64, count: u64) {
    service.publish((first..first + count).map(|number| event(topic, &format!("e-{number}"), number)));
}
