//! Any valid list of events, in any dialect and encoding, is stored the same; sent again in any
//! other it is known.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::service::{GZIP, LINES, Service, ZSTD, gzip, zstd};
use crate::support::client::escape;
use crate::support::number;

#[derive(Clone, Debug)]
struct Event {
    topic: String,
    id: String,
    timestamp: &'static str,
    source: String,
    payload: Value,
}

impl Event {
    fn plain(&self) -> Value {
        json!({"topic": self.topic, "event_id": self.id, "timestamp": self.timestamp, "source": self.source,
            "payload": self.payload, "unknown": [1]})
    }

    fn cloud(&self) -> Value {
        json!({"specversion": "1.0", "type": self.topic, "id": self.id, "time": self.timestamp,
            "source": self.source, "data": self.payload, "subject": null})
    }
}

fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}|[\"\\\\\\n\\t/]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn event() -> impl Strategy<Value = Event> {
    let timestamp = select(vec![
        "2026-11-22T10:00:00Z",
        "2026-11-22t10:00:00.123456+07:00",
        "1985-04-12T23:20:50.52Z",
        "2016-12-31T23:59:60Z",
    ]);
    let text = || "[a-z]{1,8}|\\PC{1,20}|[%\"\\\\ /?#&=]{1,6}x";
    (text(), "\\PC{0,20}", timestamp, text(), payload())
        .prop_map(|(topic, id, timestamp, source, payload)| Event { topic, id, timestamp, source, payload })
}

/// A request: its headers and its body.
type Request = (Vec<(&'static str, String)>, Vec<u8>);

const DIALECTS: usize = 8;
/// The one whose payloads have whitespace.
const INDENTED: usize = 2;

/// The requests that carry `events` in a dialect.
fn requests(dialect: usize, events: &[Event]) -> Vec<Request> {
    let kind = |kind: &str| vec![("Content-Type", kind.to_owned())];
    let plain: Vec<_> = events.iter().map(Event::plain).collect();
    let cloud: Vec<_> = events.iter().map(Event::cloud).collect();
    let joined = |end: &str| plain.iter().map(Value::to_string).collect::<Vec<_>>().join(end).into_bytes();
    match dialect {
        0 => plain.iter().map(|event| (kind("application/json"), event.to_string().into_bytes())).collect(),
        1 => vec![(Vec::new(), json!(plain).to_string().into_bytes())],
        2 => vec![(
            kind("application/json; charset=utf-8"),
            format!("{:#}", json!({"events": plain})).into_bytes(),
        )],
        3 => vec![(kind(LINES.1), joined("\n"))],
        4 => vec![(kind("application/jsonl"), [&joined("\r\n\r\n")[..], b"\r\n"].concat())],
        5 => {
            cloud.iter().map(|e| (kind("application/cloudevents+json"), e.to_string().into_bytes())).collect()
        }
        6 => vec![(kind("application/cloudevents-batch+json"), json!(cloud).to_string().into_bytes())],
        _ => events.iter().map(binary).collect(),
    }
}

fn binary(event: &Event) -> Request {
    let headers = vec![
        ("ce-specversion", "1.0".to_owned()),
        ("ce-type", escape(&event.topic)),
        ("ce-id", escape(&event.id)),
        ("ce-source", escape(&event.source)),
        ("ce-time", event.timestamp.to_owned()),
        ("Content-Type", "application/json".to_owned()),
    ];
    (headers, event.payload.to_string().into_bytes())
}

/// Sends `events`, and gives back how many were stored and dropped.
fn publish(service: &mut Service, events: &[Event], dialect: usize, encoding: usize) -> (u64, u64) {
    let (mut stored, mut dropped) = (0, 0);
    for (mut headers, body) in requests(dialect, events) {
        let body = match encoding {
            0 => body,
            1 => gzip(body),
            _ => zstd(body),
        };
        let encoding = [None, Some(GZIP), Some(ZSTD)][encoding];
        headers.extend(encoding.map(|(name, value)| (name, value.to_owned())));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, answer) = service.post("", &headers, body);
        assert_eq!((status, &answer["conflicts"]), (200, &json!(0)), "dialect {dialect}: {answer}");
        stored += answer["unique_processed"].as_u64().unwrap();
        dropped += answer["duplicate_dropped"].as_u64().unwrap();
    }
    (stored, dropped)
}

/// Publishes a list in each dialect first, and then in all of them again.
fn check(service: &mut Service, lists: &mut usize, list: &[Event]) {
    for first in 0..DIALECTS {
        *lists += 1;
        let mut events = list.to_vec();
        for (number, event) in events.iter_mut().enumerate() {
            // Ids that no list before had.
            event.id = format!("{lists}-{number} {}", event.id);
        }
        let total = events.len() as u64;
        assert_eq!(publish(service, &events, first, *lists % 3), (total, 0), "dialect {first}");
        for event in &events {
            let stored = service.text(&format!("/events/{}/{}", escape(&event.topic), escape(&event.id)));
            let value: Value = serde_json::from_str(&stored).unwrap();
            assert_eq!((&value["topic"], &value["event_id"]), (&json!(event.topic), &json!(event.id)));
            assert_eq!(
                (&value["timestamp"], &value["source"]),
                (&json!(event.timestamp), &json!(event.source))
            );
            assert_eq!(value["payload"], event.payload);
            let is_indented = first == INDENTED;
            assert!(is_indented || stored.contains(&format!("\"payload\":{},", event.payload)), "{stored}");
        }
        for again in 0..DIALECTS {
            let sent = publish(service, &events, again, (*lists + again) % 3);
            assert_eq!(sent, (0, total), "dialect {first}, then {again}");
        }
    }
}

#[test]
fn any_valid_list_is_stored_the_same_in_every_dialect_and_known_in_every_other() {
    let cases = u32::try_from(number("SEKALI_DIALECT_CASES", 12)).unwrap();
    let state = RefCell::new((Service::new(), 0));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let lists = prop::collection::vec(event(), 1..6);
    let played = runner.run(&lists, |list| {
        let (service, lists) = &mut *state.borrow_mut();
        check(service, lists, &list);
        Ok(())
    });
    played.unwrap();
}
