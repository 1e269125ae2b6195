//! Moving over from the Python original's database.

use rusqlite::Connection;
use serde_json::json;

use super::{text, totals};
use crate::support::client::Client;
use crate::support::service::Service;

const EVENTS: &str =
    "CREATE TABLE processed_events (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
    event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT, payload TEXT, processed_at TEXT);
    CREATE TABLE dedup (topic TEXT, event_id TEXT, first_seen TEXT, PRIMARY KEY (topic, event_id));";

fn database(service: &Service, schema: &str) -> (String, Connection) {
    let path = service.path("aggregator.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(schema).unwrap();
    (path.display().to_string(), connection)
}

#[test]
fn all_events_move_over_with_their_ids_and_times() {
    let service = Service::new();
    let (path, connection) = database(&service, EVENTS);
    connection.execute_batch("BEGIN").unwrap();
    for id in 0..3_000 {
        let topic = ["orders", "logs"][id % 2];
        connection
            .execute(
                "INSERT INTO processed_events (topic, event_id, timestamp, source, payload) VALUES (?, ?, ?, ?, ?)",
                (topic, id.to_string(), "2025-10-20T10:00:00+00:00", "svc", format!("{{\"id\":\n {id}}}")),
            )
            .unwrap();
        connection
            .execute("INSERT INTO dedup (topic, event_id) VALUES (?, ?)", (topic, id.to_string()))
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    for (stored, dropped) in [(3_000, 0), (0, 3_000)] {
        let output = service.run(&["publish", "--sqlite", &path, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("verified: all 3000 events with 3000 ids are stored"));
        let totals = totals(&output);
        assert_eq!(
            (&totals["unique_processed"], &totals["duplicate_dropped"]),
            (&json!(stored), &json!(dropped))
        );
    }
    let event = service.get("/events/orders/42");
    assert_eq!((&event["timestamp"], &event["source"]), (&json!("2025-10-20T10:00:00+00:00"), &json!("svc")));
    assert_eq!(event["payload"], json!({"id": 42}));
    let untouched: i64 =
        connection.query_row("SELECT COUNT(*) FROM processed_events", [], |row| row.get(0)).unwrap();
    assert_eq!(untouched, 3_000);
}

#[test]
fn an_event_of_which_the_store_keeps_another_payload_is_not_moved() {
    let service = Service::new();
    let (path, connection) = database(&service, EVENTS);
    let insert = |id: u64, payload: &str| {
        connection
            .execute(
                "INSERT INTO processed_events (topic, event_id, timestamp, payload) VALUES ('t', ?, ?, ?)",
                (id.to_string(), "2025-10-20T10:00:00Z", payload),
            )
            .unwrap();
    };
    (0..1_200).for_each(|id| insert(id, "{}"));
    // The database repeats some ids, with another payload and with the same.
    (0..300).for_each(|id| insert(id, if id % 2 == 0 { "{}" } else { "[]" }));
    let publish = || service.run(&["publish", "--sqlite", &path, "--json"]);
    for _ in 0..2 {
        let output = publish();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("verified: all 1500 events with 1200 ids are stored"), "{told}");
        assert!(told.contains("the first row counts, and 150 others have another payload"), "{told}");
        assert_eq!((&totals(&output)["conflicts"], service.stored()), (&json!(150), 1_200));
    }
    connection.execute("UPDATE processed_events SET payload = '7' WHERE id IN (2, 1100, 1201)", ()).unwrap();
    (2_000..2_200).for_each(|id| insert(id, "1"));
    let other = |id: u64| super::event("t", &id.to_string()) + "\n";
    service.pipe(&["publish", "-"], (2_000..2_150).map(other).collect::<String>());
    let output = publish();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(!told.contains("verified"), "{told}");
    assert!(
        told.contains("not all is moved: 1548 of 1700 events are; under 152 ids the store keeps another")
    );
    for row in ["row 2: Another payload", "row 1100: Another payload", "row 1501: Another payload"] {
        assert!(told.contains(row), "{row}: {told}");
    }
    assert!(!told.contains("row 1201:") && told.matches("Another payload").count() <= 10, "{told}");
    assert_eq!(service.stored(), 1_400);
}

#[test]
fn what_cannot_move_is_told_row_by_row() {
    let service = Service::new();
    let (path, connection) = database(&service, EVENTS);
    connection
        .execute_batch(
            "INSERT INTO processed_events (topic, event_id, timestamp, source, payload) VALUES
               ('t', '1', '2025-10-20 10:00:00', NULL, NULL),
               ('t', '2', 'yesterday', 's', '{}'),
               ('t', '3', '2025-10-20T10:00:00', 's', '{''python'': True}'),
               ('', '4', '2025-10-20T10:00:00', 's', '{}'),
               ('t', 5, '2025-10-20T10:00:00', 's', '[1]');
             INSERT INTO dedup (topic, event_id) VALUES ('t', '1'), ('t', 'lost');",
        )
        .unwrap();
    let output = service.run(&["publish", "--sqlite", &path, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    for place in ["row 2: timestamp: ", "row 3: payload: ", "row 4: topic: ", "1 ids of dedup", "2 of 5"] {
        assert!(told.contains(place), "{place} {told}");
    }
    assert_eq!((&totals(&output)["unique_processed"], service.stored()), (&json!(2), 2));
    assert_eq!(service.get("/events/t/1")["payload"], json!({}));
    assert_eq!(service.get("/events/t/5")["payload"], json!([1]));
}

#[test]
fn other_names_are_given_and_wrong_ones_are_told() {
    let service = Service::new();
    let schema = "CREATE TABLE \"my events\" (Topic TEXT, uid TEXT, ts TEXT, source TEXT, body TEXT);
        INSERT INTO \"my events\" VALUES ('t', 'a', '2025-10-20T10:00:00Z', 's', '{}');";
    let (path, _connection) = database(&service, schema);
    let names = ["--table", "my events", "--column", "event_id=uid", "--column", "timestamp=ts"];
    let arguments = [&["publish", "--sqlite", &path][..], &names].concat();
    let output = service.run(&[&arguments[..], &["--column", "payload=content"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--column payload=COLUMN"), "{}", text(&output.stderr));
    for arguments in [&arguments, &[&arguments[..], &["--column", "payload=body"]].concat()] {
        let output = service.run(arguments);
        assert_eq!((output.status.code(), service.stored()), (Some(0), 1), "{}", text(&output.stderr));
    }
    let no_database = service.file("no.db", "some text, and enough of it to be a head");
    for (path, why) in [
        ("/nowhere/at/all", "No such file"),
        (&no_database, "it is no SQLite database"),
        (&service.file("empty.db", ""), "it is empty"),
        (&service.dir.path().display().to_string(), "it is no file"),
    ] {
        let output = service.run(&["publish", "--sqlite", path]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(told.contains(&format!("cannot read {path}: {why}")), "{told}");
    }
    assert_eq!(service.run(&["publish", "--sqlite", &path, "--column", "id=uid"]).status.code(), Some(2));
}

#[test]
fn ids_without_an_event_are_only_told_whatever_the_columns_of_the_events_are_called() {
    let service = Service::new();
    let schema = "CREATE TABLE ev (t TEXT, uid TEXT, ts TEXT, s TEXT, p TEXT);
        INSERT INTO ev VALUES ('t', 'a', '2025-10-20T10:00:00Z', 's', '{}');
        CREATE TABLE dedup (topic TEXT, event_id TEXT);
        INSERT INTO dedup VALUES ('t', 'a'), ('t', 'lost');
        CREATE TABLE seen (t TEXT, uid TEXT);
        INSERT INTO seen SELECT * FROM dedup;";
    let (path, _connection) = database(&service, schema);
    let columns = ["topic=t", "event_id=uid", "timestamp=ts", "source=s", "payload=p"];
    let mut arguments = vec!["publish", "--sqlite", &path, "--table", "ev"];
    arguments.extend(columns.iter().flat_map(|column| ["--column", column]));
    for table in ["dedup", "seen"] {
        let output = service.run(&[&arguments[..], &["--dedup-table", table]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{table}: {told}");
        assert!(told.contains(&format!("1 ids of {table} have no event in ev")), "{told}");
        assert!(told.contains("verified: all 1 events with 1 ids are stored"), "{told}");
    }
    let file = service.file("events.ndjson", super::event("t", "1"));
    for option in [
        &["--table", "x"][..],
        &["--dedup-table", "x"],
        &["--column", "topic=x"],
        &["--topic", "x"],
        &["--dry-run"],
        &["--payload-as-text"],
        &["--ids-only"],
    ] {
        let output = service.run(&[&["publish"], option, &[&file]].concat());
        assert_eq!(output.status.code(), Some(2), "{option:?} means nothing for a file");
    }
}

#[test]
fn ids_are_compared_byte_for_byte_and_numbers_as_sqlite_writes_them_whatever_a_column_says() {
    let service = Service::new();
    let schema = "CREATE TABLE events (topic TEXT COLLATE NOCASE, event_id COLLATE RTRIM, timestamp TEXT, source TEXT, payload);
        CREATE TABLE processed_events (topic TEXT, event_id TEXT COLLATE NOCASE);
        INSERT INTO events VALUES ('t', 'a', '2025-10-20T10:00:00Z', 's', 1.0), ('T', 'a ', '2025-10-20T10:00:00Z', 's', 1),
            ('t', 7.0, '2025-10-20T10:00:00Z', 's', 1e22), ('t', 7, '2025-10-20T10:00:00Z', 's', 7);
        INSERT INTO processed_events VALUES ('t', 'A'), ('t', 'b'), ('t', 'B'), ('t', 'a');";
    let (path, _connection) = database(&service, schema);
    for (more, said) in [(&[][..], "all 4 events with 4 ids"), (&["--ids-only"], "all 3 events with 3 ids")] {
        let output = service.run(&[&["publish", "--sqlite", &path][..], more].concat());
        let told = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains(said), "{told}");
    }
    for (event, payload) in [
        ("t/a", "1.0"),
        ("T/a%20", "1"),
        ("t/7.0", "1.0e+22"),
        ("t/7", "7"),
        ("t/A", "null"),
        ("t/b", "null"),
        ("t/B", "null"),
    ] {
        let answer = Client::new(service.addr).get(&format!("/events/{event}")).unwrap();
        let body = text(&answer.body);
        assert!(body.contains(&format!("\"payload\":{payload}")), "{event}: {body}");
    }
}
