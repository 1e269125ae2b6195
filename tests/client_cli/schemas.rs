//! Databases as public implementations of such a service write them: what moves, what does not, and
//! what is told of each.

mod cases;

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use self::cases::{CASES, IDS, TIME, TWO_TABLES};
use super::text;
use crate::support::service::Service;

fn make(path: &Path, schema: &str, topic: &str) {
    let schema = schema.replace("'T'", &format!("'{topic}'")).replace("'TIME'", &format!("'{TIME}'"));
    Connection::open(path).unwrap().execute_batch(&schema).unwrap();
}

#[test]
fn each_schema_moves_as_far_as_there_is_one_reading_and_else_says_what_to_type() {
    let service = Service::new();
    assert!(CASES.len() >= 20);
    for (number, case) in CASES.iter().enumerate() {
        let (topic, name) = (format!("topic-{number}"), format!("case-{number}.db"));
        // A folder of its own shows what is left beside it.
        let folder = service.path(&format!("folder-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join(&name);
        make(&path, case.schema, &topic);
        let before = std::fs::read(&path).unwrap();
        let arguments = ["publish", "--sqlite", path.to_str().unwrap()];
        let own: Vec<_> = case.arguments.iter().map(|own| if *own == "T" { &topic } else { *own }).collect();
        let dry = service.run(&[&arguments[..], &own, &["--dry-run", "--json"]].concat());
        let output = service.run(&[&arguments[..], &own, &["--json"]].concat());
        let told = text(&output.stderr);
        let (moved, code) = case.moves;
        assert_eq!(output.status.code(), Some(code), "{}: {told}", case.name);
        // Where it is not clear what is meant there are no counts either.
        let counted = serde_json::from_slice::<Value>(&output.stdout);
        let counted = counted.map_or(0, |totals| totals["unique_processed"].as_u64().unwrap());
        assert_eq!(counted, moved, "{}: {told}", case.name);
        for expected in case.told {
            assert!(format!("{told}\n").contains(expected), "{}: {expected}: {told}", case.name);
        }
        if let Some(event) = case.event {
            let stored = service.get(&format!("/events/{topic}/a"));
            for (field, value) in event().as_object().unwrap() {
                assert_eq!(&stored[field], value, "{}: {stored}", case.name);
            }
        }
        // A dry run says the same, and stores nothing.
        assert_eq!(dry.status.code(), Some(code), "{}: {}", case.name, text(&dry.stderr));
        if let Ok(outlook) = serde_json::from_slice::<Value>(&dry.stdout) {
            assert_eq!(outlook["would_move"], moved, "{}: {outlook}", case.name);
        }
        let beside: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, [std::ffi::OsString::from(&name)], "{}: something is left", case.name);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{}: the source changed", case.name);
    }
}

#[test]
fn the_command_that_is_printed_is_the_one_to_type() {
    let service = Service::new();
    let path = service.path("it's a base.db");
    make(&path, TWO_TABLES, "t");
    let output = service.run(&["publish", "--sqlite", path.to_str().unwrap()]);
    let told = text(&output.stderr);
    let commands: Vec<_> =
        told.lines().filter_map(|line| line.trim().strip_prefix("sekali publish")).collect();
    assert_eq!(commands.len(), 2, "{told}");
    for command in commands {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("\"$SEKALI\" publish {command}")]);
        shell.env("SEKALI", env!("CARGO_BIN_EXE_sekali")).env("SEKALI_URL", service.url());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
    assert_eq!(service.stored(), 2);
}

#[test]
fn a_dry_run_counts_by_reason_without_a_service() {
    let service = Service::new();
    let path = service.path("a.db");
    let schema = "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('t', '1', 'TIME', 's', '{}'), ('t', '1', 'TIME', 's', '{\"n\":1}'),
           ('t', '2', 'yesterday', 's', '{}'), ('t', '3', 'soon', 's', '{}'), ('', '4', 'TIME', 's', '{}'),
           ('t', '5', 'TIME', 's', 'plain');";
    make(&path, schema, "t");
    let arguments =
        ["publish", "--url", "http://127.0.0.1:1", "--dry-run", "--sqlite", path.to_str().unwrap()];
    let output = service.run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    for part in [
        "2 of 6 rows would move; there are 5 different ids, and of each the first row is stored",
        "2 rows can't be moved, such as row 3: timestamp: ",
        "1 row can't be moved, row 5: topic: ",
        "1 row can't be moved, row 6: payload: it is no JSON",
        "--payload-as-text",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let output = service.run(&[&arguments[..], &["--json", "--payload-as-text"]].concat());
    let outlook: Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = |at: usize| (&outlook["refused"][at]["rows"], &outlook["refused"][at]["example_row"]);
    assert_eq!(outlook["would_move"], 3, "{outlook}");
    assert_eq!((refused(0), refused(1)), ((&json!(2), &json!(3)), (&json!(1), &json!(5))), "{outlook}");
    assert_eq!(service.stored(), 0);
}

#[test]
fn no_name_of_a_payload_makes_a_table_of_events_one_of_ids() {
    let service = Service::new();
    for name in [
        "raw_event",
        "event_json",
        "raw",
        "raw_data",
        "event",
        "params",
        "attributes",
        "details",
        "metadata",
        "doc",
        "record",
        "blob",
        "dump",
        "contents",
        "envelope",
        "obj",
        "pickled",
        "value",
        "json",
    ] {
        let path = service.path(&format!("{name}.db"));
        let schema = format!(
            "CREATE TABLE log (topic TEXT, event_id TEXT, received TEXT, {name} TEXT);
             INSERT INTO log VALUES ('T', 'a', 'TIME', '{{}}');"
        );
        make(&path, &schema, "t");
        let database = path.to_str().unwrap();
        for more in [&[][..], &["--ids-only"], &["--ids-only", "--table", "log"]] {
            let output = service.run(&[&["publish", "--sqlite", database], more].concat());
            let told = text(&output.stderr);
            assert_eq!((output.status.code(), service.stored()), (Some(1), 0), "{name} {more:?}: {told}");
            assert!(!told.contains("which can be moved with --ids-only"), "{name} {more:?}: {told}");
            assert!(told.contains("--table log --column timestamp="), "{name} {more:?}: {told}");
            assert!(told.contains(name) && told.contains(" --column payload="), "{name} {more:?}: {told}");
        }
    }
    for name in [
        "payload_raw",
        "raw_payload",
        "payload_bytes",
        "payload_blob",
        "payload_str",
        "Payload2",
        "eventPayloadJson",
    ] {
        let path = service.path(&format!("{name}.db"));
        let schema = format!(
            "CREATE TABLE log (topic TEXT, event_id TEXT, ts TEXT, {name});
             INSERT INTO log VALUES ('T', '{name}', 'TIME', '{{}}');"
        );
        make(&path, &schema, "t");
        let output = service.run(&["publish", "--sqlite", path.to_str().unwrap()]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn what_comes_again_under_an_id_that_was_moved_is_dropped() {
    let service = Service::new();
    let path = service.path("ids.db");
    make(&path, IDS, "t");
    let output = service.run(&["publish", "--ids-only", "--sqlite", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let event = service.get("/events/t/a");
    assert_eq!((&event["source"], &event["payload"]), (&json!("sqlite:ids.db"), &json!(null)));
    let output = service.pipe(&["publish", "-", "--json"], super::event("t", "a"));
    let totals = super::totals(&output);
    assert_eq!((&totals["duplicate_dropped"], &totals["conflicts"]), (&json!(1), &json!(1)), "{totals}");
    assert_eq!(service.stored(), 2);
}
