//! Data directories that earlier versions left: every later version opens them, reads all that is
//! in them, knows every id, and goes on. They are never made again. A new format gets directories
//! beside them.
//!
//! Each holds events `id-0` to `id-719`, event n in `topic-{n % 3}`; the first hundred were sent
//! twice, and `id-5` once more with another payload. `stopped` was stopped cleanly; `killed` was
//! not, with claims that had not reached the index.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::client::Client;
use crate::support::golden::{EVENTS, RENEWED_SECONDS, copy, directories};
use crate::support::process::Start;
use serde_json::{Value, json};

/// As it was sent: another escape would be another payload.
fn event(number: u64) -> String {
    format!(
        r#"{{"topic": "topic-{}", "event_id": "id-{number}", "timestamp": "2026-01-01T00:00:00Z", "source": "golden", "payload": {{"n": {number}, "text": "\u00e9\n\""}}}}"#,
        number % 3
    )
}

fn get(client: &mut Client, path: &str) -> Value {
    serde_json::from_slice(&client.get(path).unwrap().body).unwrap()
}

fn publish(client: &mut Client, events: &[String]) -> Value {
    let answer = client.post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

fn sekali(command: &str, data_dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sekali")).arg(command).arg("--data-dir").arg(data_dir).output().unwrap()
}

fn verify(data_dir: &Path) {
    let output = sekali("verify", data_dir);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_earlier_data_directory_is_read_known_and_gone_on_with() {
    for golden in directories() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        copy(&golden, &data_dir);
        let (mut server, addr) = Start::tiny_generations(&data_dir).ready().unwrap();
        let mut client = Client::new(addr);
        let stats = get(&mut client, "/stats");
        assert_eq!(stats["unique_processed"], EVENTS, "{golden:?}");
        for topic in 0..3 {
            let page = get(&mut client, &format!("/events?topic=topic-{topic}&limit=1000"));
            let events = page["events"].as_array().unwrap();
            assert_eq!(events.len() as u64, EVENTS / 3, "{golden:?}");
            for (offset, stored) in events.iter().enumerate() {
                let expected: Value = serde_json::from_str(&event(offset as u64 * 3 + topic)).unwrap();
                for field in ["topic", "event_id", "timestamp", "source", "payload"] {
                    assert_eq!(stored[field], expected[field], "{golden:?}");
                }
                assert_eq!(stored["offset"], offset, "{golden:?}");
            }
        }
        let all: Vec<String> = (0..EVENTS + 1).map(event).collect();
        let answer = publish(&mut client, &all);
        assert_eq!(
            (&answer["unique_processed"], &answer["duplicate_dropped"], &answer["conflicts"]),
            (&json!(1), &json!(EVENTS), &json!(0)),
            "{golden:?}"
        );
        assert_eq!(server.terminate(), Some(0), "{golden:?}: {}", server.log());
        verify(&data_dir);
    }
}

/// Killed in its first start with a newer version: MANIFEST is of the new format, filters are not.
#[test]
fn a_store_that_was_killed_while_it_was_upgraded_is_sound() {
    let golden = directories().into_iter().find(|golden| golden.ends_with("format-1-stopped")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(&golden, &data_dir);
    let (mut server, _) = Start::tiny_generations(&data_dir).ready().unwrap();
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    let older = "gen-000001/filter";
    fs::copy(golden.join(older), data_dir.join(older)).unwrap();
    verify(&data_dir);
    let (mut server, addr) = Start::tiny_generations(&data_dir).ready().unwrap();
    let all: Vec<String> = (0..EVENTS).map(event).collect();
    let answer = publish(&mut Client::new(addr), &all);
    assert_eq!(answer["duplicate_dropped"], json!(EVENTS));
    let renewed = || fs::read(data_dir.join(older)).unwrap().starts_with(b"sKlF").then_some(());
    assert!(crate::support::until(RENEWED_SECONDS, renewed).is_some(), "{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    verify(&data_dir);
}

#[test]
fn a_rebuild_makes_every_filter_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(directories().iter().find(|golden| golden.ends_with("format-3-stopped")).unwrap(), &data_dir);
    let mut before = Vec::new();
    crate::support::golden::files(&data_dir, &mut before);
    before.retain(|file| file.file_name().unwrap().to_string_lossy().starts_with("filter"));
    assert!(before.iter().any(|file| file.ends_with("filter-4")));
    for filter in &before {
        fs::write(filter, b"not a filter").unwrap();
    }
    let output = sekali("rebuild", &data_dir);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        before.iter().all(|file| file.exists() == file.ends_with("filter")),
        "one of many has to wait for a start"
    );
    let (mut server, _) = Start::tiny_generations(&data_dir).ready().unwrap();
    let made =
        crate::support::until(RENEWED_SECONDS, || before.iter().all(|file| file.exists()).then_some(()));
    assert!(made.is_some(), "{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    verify(&data_dir);
}

#[test]
fn each_kind_of_file_is_in_one_of_them() {
    let mut files = Vec::new();
    directories().iter().for_each(|golden| crate::support::golden::files(golden, &mut files));
    for name in ["MANIFEST", "journal", "claims", "processed", "frames", "filter", "filter-4", "db"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name}");
    }
}

#[test]
fn counts_of_what_was_dropped_are_kept() {
    for golden in directories().into_iter().filter(|golden| golden.ends_with("format-1-stopped")) {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        copy(&golden, &data_dir);
        let (_server, addr) = Start::tiny_generations(&data_dir).ready().unwrap();
        let stats = get(&mut Client::new(addr), "/stats");
        assert_eq!((&stats["duplicate_dropped"], &stats["conflicts"]), (&json!(101), &json!(1)));
    }
}

#[test]
fn a_format_that_is_not_known_is_refused_with_a_sentence_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(&directories()[0], &data_dir);
    let manifest = fs::read_to_string(data_dir.join("MANIFEST")).unwrap();
    let newer = manifest.replacen("\"format\": 1", "\"format\": 5", 1);
    assert_ne!(newer, manifest);
    fs::write(data_dir.join("MANIFEST"), &newer).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sekali"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("format 5") && said.contains("newer"), "{said}");
    assert_eq!(fs::read_to_string(data_dir.join("MANIFEST")).unwrap(), newer);
}

#[test]
fn consumers_go_on_where_they_were() {
    for golden in directories().into_iter().filter(|golden| golden.to_string_lossy().contains("format-4")) {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        copy(&golden, &data_dir);
        let (_server, addr) = Start::tiny_generations(&data_dir).ready().unwrap();
        let mut client = Client::new(addr);
        let listed = get(&mut client, "/consumers");
        assert_eq!(listed["consumers"].as_array().unwrap().len(), 1, "{golden:?}: {listed}");
        let told = get(&mut client, "/consumers/golden");
        assert_eq!(told["topics"], json!(["topic-0", "topic-1*"]), "{golden:?}");
        let position = |topic: &str| json!({"topic": topic, "next_offset": 30});
        assert_eq!(told["positions"], json!([position("topic-0"), position("topic-1")]), "{golden:?}");
        let given = get(&mut client, "/consumers/golden/events?limit=2");
        assert!(given["events"].as_array().unwrap().iter().all(|event| event["offset"] == 30), "{given}");
    }
}
