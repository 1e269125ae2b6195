//! Whether `sekali verify` finds what does not agree in a database.

use std::process::Command;

use serde_json::Value;

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::service::event;

fn verify(url: &str) -> (Option<i32>, Value) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sekali")).args(["verify", "--json", "--store", url]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| Value::from(said.into_owned()));
    (output.status.code(), report)
}

/// Each breaks something, which the report must then name in these words.
const BREAKS: [(&str, &str); 16] = [
    ("DELETE FROM sekali_ids WHERE event_id = 'e7'", "its id is not known"),
    ("DELETE FROM sekali_events WHERE event_id = 'e7'", "has no event with the number"),
    ("DELETE FROM sekali_events WHERE event_id = 'e29'", "counts 30 events, and its events and topics make"),
    ("UPDATE sekali_events SET payload = '8' WHERE event_id = 'e7'", "its payload is not the one"),
    ("UPDATE sekali_events SET payload = '{' WHERE event_id = 'e7'", "its payload is not the one"),
    ("UPDATE sekali_events SET event_id = E'\\n' WHERE event_id = 'e7'", "its id is not known"),
    ("UPDATE sekali_events SET topic_offset = 99 WHERE event_id = 'e7'", "its offset is 99"),
    ("UPDATE sekali_ids SET received_at = 1 WHERE event_id = 'e7'", "belongs to another event"),
    ("UPDATE sekali_ids SET seq = 99 WHERE event_id = 'e7'", "belongs to another event"),
    ("UPDATE sekali_topic_counts SET next_offset = 31", "counts 31 events and has 30"),
    ("UPDATE sekali_topic_counts SET duplicates = 9", "duplicates, and its events and topics make 9"),
    ("UPDATE sekali_topic_counts SET last_received_at = 9", "other times of arrival"),
    ("UPDATE sekali_slots SET last_received_at = 9", "another time of its last event"),
    (
        "UPDATE sekali_events SET received_at = 1 WHERE event_id = 'e7'; UPDATE sekali_ids SET received_at = 1 WHERE event_id = 'e7'",
        "arrived before one with a lower number",
    ),
    ("UPDATE sekali_store SET is_filling = true", "has not come to its end"),
    // Eight, as the slot of one could be the right one by chance.
    (
        "INSERT INTO sekali_topics SELECT n, slot, 'sent elsewhere ' || n FROM sekali_topics, generate_series(100, 107) n",
        "belongs to another",
    ),
];

#[test]
fn whatever_does_not_agree_in_a_database_is_found() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.url("events");
    let (code, said) = verify(&url);
    assert!(code == Some(5) && said.as_str().unwrap().contains("holds no store"), "{said}");
    let (mut server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    for n in (0..30).chain(3..5) {
        let sent = Client::new(addr).post("/publish", event("t", &format!("e{n}"), n).as_bytes()).unwrap();
        assert_eq!(sent.status, 200);
    }
    // Beside a node that serves.
    let (code, report) = verify(&url);
    assert_eq!(
        (code, &report["sound"], &report["events"]),
        (Some(0), &Value::from(true), &Value::from(30)),
        "{report}"
    );
    assert_eq!(server.terminate(), Some(0));
    for (number, (statement, words)) in BREAKS.iter().enumerate() {
        let copy = format!("broken{number}");
        let mut admin = cluster.client("postgres");
        admin.batch_execute(&format!("CREATE DATABASE {copy} TEMPLATE events")).unwrap();
        cluster.client(&copy).batch_execute(statement).unwrap();
        let (code, report) = verify(&cluster.url(&copy));
        assert!(code == Some(1) && report["faults"].to_string().contains(words), "{statement}: {report}");
    }
}
