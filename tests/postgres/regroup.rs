//! Slots that move from one database to another, also while the command is killed again and again.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::groups::{listed, starts_file};
use super::{cluster, node, node_of};
use crate::support::client::{Client, escape};
use crate::support::postgres::Postgres;
use crate::support::process::Start;
use crate::support::service::event;

fn get(addr: SocketAddr, path: &str) -> Value {
    let answer = Client::new(addr).get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

fn command(name: &str, start: &Start) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    command.args([name, "--config", &starts_file(start)]).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// All that a service shows of its store, times of arrival too.
fn shown(addr: SocketAddr) -> [Value; 5] {
    let page = get(addr, "/events?limit=1000");
    let stats = get(addr, "/stats");
    let totals = ["received", "unique_processed", "duplicate_dropped", "conflicts", "rejected", "topics"];
    [
        page["events"].clone(),
        json!(listed(addr, "order=desc")),
        get(addr, "/topics?limit=1000")["topics"].clone(),
        json!(totals.map(|name| stats[name].clone())),
        get(addr, "/consumers/c")["positions"].clone(),
    ]
}

fn fill(addr: SocketAddr) {
    let events: Vec<String> = (0..600)
        .map(|n| event(&format!("topic-{}", n % 60), &format!("e{n}"), format!("\"\u{fc}{n}\"")))
        .collect();
    for part in events.chunks(150).chain(events.chunks(150).take(1)) {
        let answer = Client::new(addr).post("/publish", format!("[{}]", part.join(",")).as_bytes()).unwrap();
        assert_eq!(answer.status, 200);
    }
    let conflict = Client::new(addr).post("/publish", event("topic-1", "e1", 7).as_bytes()).unwrap();
    assert_eq!(conflict.status, 200);
    let json = [("Content-Type", "application/json")];
    assert_eq!(
        Client::new(addr).send("PUT", "/consumers/c", &json, br#"{"topics":["*"]}"#).unwrap().status,
        201
    );
}

/// Takes events for the consumer.
fn taken(addr: SocketAddr) -> Value {
    get(addr, "/consumers/c/events?limit=120&holder=w&lease=3600")
}

fn acknowledge(addr: SocketAddr, given: &Value) {
    let receipt = json!({"receipt": given["receipt"]}).to_string();
    assert_eq!(Client::new(addr).post("/consumers/c/ack", receipt.as_bytes()).unwrap().status, 200);
}

/// Each slot is owned once, or is on its way from one database.
fn check_owners(cluster: &Postgres, databases: &[&str]) {
    let (mut owners, mut leaving) = ([0; 64], [0; 64]);
    for database in databases {
        let mut client = cluster.client(database);
        let is_made: bool =
            client.query_one("SELECT to_regclass('sekali_slots') IS NOT NULL", &[]).unwrap().get(0);
        if !is_made {
            continue;
        }
        for (query, counts) in [
            ("SELECT slot FROM sekali_slots", &mut owners),
            ("SELECT slot FROM sekali_leaving", &mut leaving),
        ] {
            for row in client.query(query, &[]).unwrap() {
                counts[usize::try_from(row.get::<_, i16>(0)).unwrap()] += 1;
            }
        }
    }
    for slot in 0..64 {
        assert!(
            owners[slot] == 1 || (owners[slot] == 0 && leaving[slot] == 1),
            "slot {slot}: {owners:?} {leaving:?}"
        );
        assert!(leaving[slot] <= 1, "slot {slot}: {leaving:?}");
    }
}

/// Begins the move again and again, killed a little later each time, until it gets to its end; how often
/// it was killed.
fn killed_until_done(start: &Start, between: impl Fn()) -> u64 {
    for tried in 1.. {
        let mut child =
            command("regroup", start).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + 17 * tried));
        if tried < 40 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            between();
            continue;
        }
        let output = child.wait_with_output().unwrap();
        // A server may still be busy with what one has begun that was killed.
        if output.status.code() == Some(8) && tried < 60 {
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        return tried - 1;
    }
    0
}

fn terminated(mut server: crate::support::process::Server) {
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn slots_that_are_moved_show_the_same_and_all_that_was_given_out_stays_valid() {
    let Some(cluster) = cluster("") else { return };
    ["a", "b"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (cluster.url("a"), cluster.url("b"));
    let (server, addr) = node(dir.path(), &a, "local").ready().unwrap();
    fill(addr);
    let mut given = taken(addr);
    let (all, page) = (listed(addr, ""), get(addr, "/events?limit=250"));
    let cursor = escape(page["next_cursor"].as_str().unwrap());
    let mut before = shown(addr);
    terminated(server);

    // A growing store: half of its slots go into an empty database; then some go back and others come; then
    // all go.
    let halves = node_of(dir.path(), &[("0-31", a.clone()), ("32-63", b.clone())]);
    let mixed = node_of(dir.path(), &[("0-15,40-50", a.clone()), ("16-39,51-63", b.clone())]);
    let refused = halves.spawn().listening().unwrap_err();
    assert!(refused.contains("sekali regroup"), "{refused}");
    let mut kills = 0;
    let emptied = node_of(dir.path(), &[("", a.clone()), ("0-63", b.clone())]);
    for start in [&halves, &mixed, &emptied] {
        kills += killed_until_done(start, || check_owners(&cluster, &["a", "b"]));
        let again = command("regroup", start).output().unwrap();
        assert!(again.status.success() && !said(&again).contains("moved from"), "{}", said(&again));
        let verified = command("verify", start).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
        let (server, addr) = start.ready().unwrap();
        assert_eq!(shown(addr), before);
        assert_eq!(json!(listed(addr, &format!("cursor={cursor}"))), json!(all[250..]));
        // What was given out before counts.
        acknowledge(addr, &given);
        given = taken(addr);
        before = shown(addr);
        terminated(server);
    }
    // The first database has the consumers, also without slots.
    let refused = node_of(dir.path(), &[("0-63", b)]).spawn().listening().unwrap_err();
    assert!(refused.contains("which has the consumers"), "{refused}");
    eprintln!("{kills} kills of the command");
    assert!(kills > 5, "too few kills: {kills}");
}

#[test]
fn a_slot_with_rows_that_are_missing_stays_where_it_is() {
    let Some(cluster) = cluster("") else { return };
    ["a", "b"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = node(dir.path(), &cluster.url("a"), "local").ready().unwrap();
    fill(addr);
    terminated(server);
    let halves = node_of(dir.path(), &[("0-31", cluster.url("b")), ("32-63", cluster.url("a"))]);
    let mut admin = cluster.client("a");
    let gone =
        "CREATE TABLE kept AS SELECT * FROM sekali_events WHERE slot < 32 ORDER BY slot DESC, seq LIMIT 1";
    admin.batch_execute(gone).unwrap();
    let remove = "DELETE FROM sekali_events e USING kept k WHERE e.slot = k.slot AND e.seq = k.seq";
    admin.batch_execute(remove).unwrap();
    let stopped = command("regroup", &halves).output().unwrap();
    assert_eq!(stopped.status.code(), Some(7), "{}", said(&stopped));
    check_owners(&cluster, &["a", "b"]);
    let row = admin.query_one("SELECT slot FROM sekali_leaving", &[]).unwrap();
    let slot: i16 = row.get(0);
    for table in ["sekali_topics", "sekali_events", "sekali_ids", "sekali_slots"] {
        let query = format!("SELECT count(*) FROM {table} WHERE slot = {slot}");
        assert_eq!(cluster.client("b").query_one(&query, &[]).unwrap().get::<_, i64>(0), 0, "{table}");
    }
    let refused = halves.spawn().listening().unwrap_err();
    assert!(refused.contains("is on its way"), "{refused}");
    // Nor does another database get it meanwhile.
    cluster.create("c");
    let other = node_of(dir.path(), &[("0-31", cluster.url("c")), ("32-63", cluster.url("a"))]);
    let refused = command("regroup", &other).output().unwrap();
    assert!(refused.status.code() == Some(5), "{}", said(&refused));
    admin.batch_execute("INSERT INTO sekali_events SELECT * FROM kept").unwrap();
    let done = command("regroup", &halves).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    check_owners(&cluster, &["a", "b"]);
    let (server, _) = halves.ready().unwrap();
    terminated(server);
}

#[test]
fn a_node_that_still_runs_stores_nothing_in_a_slot_that_is_moved() {
    let Some(cluster) = cluster("") else { return };
    ["a", "b"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = node(dir.path(), &cluster.url("a"), "local").ready().unwrap();
    fill(addr);
    let halves = node_of(dir.path(), &[("0-31", cluster.url("a")), ("32-63", cluster.url("b"))]);
    let done = command("regroup", &halves).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let query = "SELECT min(name) FROM sekali_topics";
    let topic: String = cluster.client("b").query_one(query, &[]).unwrap().get(0);
    if let Ok(answer) = Client::new(addr).post("/publish", event(&topic, "late", 1).as_bytes()) {
        assert_ne!(answer.status, 200);
    }
    assert_eq!(server.wait().and_then(|status| status.code()), Some(8), "{}", server.log());
    let (server, addr) = halves.ready().unwrap();
    assert_eq!(Client::new(addr).get(&format!("/events/{topic}/late")).unwrap().status, 404);
    assert_eq!(get(addr, "/stats")["unique_processed"], 600);
    terminated(server);
}
