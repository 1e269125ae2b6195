//! A store that is moved into a database, and back.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sekali::clock::{ManualClock, Timestamp};
use sekali::event::BatchBuilder;
use sekali::store::EventStore;
use sekali::store::local::{Local, Options, Seams};
use serde_json::Value;

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::golden;
use crate::support::process::Start;
use crate::support::service::{Service, event};
use crate::support::until;

fn moving(from: &str, to: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    command.args(["move", "--from", from, "--to", to, "--store-durability", "local", "--json"]);
    command.env("SEKALI_GENERATION_EVENTS", "300").stdin(Stdio::null());
    command
}

fn done(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All that a service shows of its store.
#[derive(Debug, PartialEq)]
struct Shown {
    /// Each topic's page, byte for byte, but for the cursors.
    events: Vec<(String, Vec<u8>)>,
    topics: Value,
    totals: Vec<Value>,
}

fn shown(addr: std::net::SocketAddr) -> Shown {
    let mut client = Client::new(addr);
    let mut get = |path: &str| {
        let accept = [(
            "Accept",
            if path.starts_with("/events") { "application/x-ndjson" } else { "application/json" },
        )];
        let answer = client.send("GET", path, &accept, &[]).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        answer.body.to_vec()
    };
    let json = |body: &[u8]| -> Value { serde_json::from_slice(body).unwrap() };
    let topics = json(&get("/topics?limit=1000"))["topics"].clone();
    let stats = json(&get("/stats"));
    let totals = ["received", "unique_processed", "duplicate_dropped", "conflicts", "rejected"];
    let events = topics.as_array().unwrap().iter().map(|topic| {
        let topic = topic["topic"].as_str().unwrap();
        let name = topic.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        (topic.to_owned(), get(&format!("/events?topic={name}")))
    });
    Shown { events: events.collect(), topics, totals: totals.map(|name| stats[name].clone()).to_vec() }
}

/// A store with what stores have: many topics, duplicates, conflicts, refusals, odd payloads, restarts.
fn filled() -> Service {
    let mut service = Service::new();
    for round in 0..3 {
        service.publish((0..700).map(|n| {
            let topic = ["orders", "with \u{1f9ff} and \\\"quotes\\\"", "a.b", "z"][n % 4];
            event(topic, &format!("{round}-{n}"), format!("{{\"n\": {n}.50e3,\"text\":\"\u{fc}\\u0000\"}}"))
        }));
        // A third is sent again, and some of it with another payload.
        service.publish((0..200).map(|n| event("orders", &format!("{round}-{}", n * 4), "1")));
        service.publish((0..40).map(|n| event(&format!("few-{n}"), "only", "null")));
        assert_eq!(service.post(r#"[{"topic":""}]"#), 422);
        assert_eq!(service.server.terminate(), Some(0));
        service.start_again();
    }
    service
}

#[test]
fn a_store_that_is_moved_into_a_database_and_back_shows_the_same() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let mut service = filled();
    let (before, data) = (shown(service.addr), service.start.data_dir.clone());
    let url = cluster.url("events");
    let locked = moving(data.to_str().unwrap(), &url).output().unwrap();
    assert_eq!(locked.status.code(), Some(4), "{}", String::from_utf8_lossy(&locked.stderr));
    assert_eq!(service.server.terminate(), Some(0));
    let report = done(&moving(data.to_str().unwrap(), &url).output().unwrap());
    assert_eq!(report["events"], before.totals[1]);
    assert_eq!(report["rejected"], before.totals[4]);

    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    assert_eq!(shown(addr), before);
    let again =
        Client::new(addr).post("/publish?results=all", event("orders", "0-0", "1").as_bytes()).unwrap();
    let again: Value = serde_json::from_slice(&again.body).unwrap();
    assert_eq!(again["results"][0]["status"], "conflict", "{again}");
    let fresh = Client::new(addr).post("/publish", event("orders", "fresh", "1").as_bytes()).unwrap();
    assert_eq!(fresh.status, 200);
    let (after, url_back) = (shown(addr), dir.path().join("back"));
    assert_eq!(server.terminate(), Some(0));

    done(&moving(&url, url_back.to_str().unwrap()).output().unwrap());
    let start = Start::tiny_generations(&url_back);
    let (mut server, addr) = start.ready().unwrap();
    assert_eq!(shown(addr), after);
    assert_eq!(server.terminate(), Some(0));
    let verify =
        Command::new(env!("CARGO_BIN_EXE_sekali")).arg("verify").arg("--data-dir").arg(&url_back).output();
    let verify = verify.unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
}

/// Starts a move again and again, and kills it each time a little later, until one gets to its end.
fn killed_until_done(from: &str, to: &str, mut between: impl FnMut()) {
    for tried in 1.. {
        let mut child = moving(from, to).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 * tried));
        if child.try_wait().unwrap().is_none() && tried < 20 {
            child.kill().unwrap();
            child.wait().unwrap();
            between();
            continue;
        }
        assert!(tried > 1, "none was killed");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // The last one that was killed may have come to its end without telling.
        if !said.contains("it holds events already") && !said.contains("is not empty") {
            done(&output);
        }
        return;
    }
}

#[test]
fn a_move_that_is_killed_goes_on_and_nothing_is_served_before_its_end() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let mut service = filled();
    let (before, data) = (shown(service.addr), service.start.data_dir.clone());
    assert_eq!(service.server.terminate(), Some(0));
    let (data, url) = (data.to_str().unwrap(), cluster.url("events"));
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &url, "local");
    let mut admin = cluster.client("events");
    killed_until_done(data, &url, || {
        // Mostly the next one begins while the database still works for the one that was killed.
        if fastrand::u8(0..4) > 0 {
            return;
        }
        let query =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'events' AND pid <> pg_backend_pid()";
        let has_ended = || (admin.query_one(query, &[]).unwrap().get::<_, i64>(0) == 0).then_some(());
        until(20, has_ended).expect("the killed command's sessions remain");
        let schema: Option<String> =
            admin.query_one("SELECT to_regclass('sekali_store')::text", &[]).unwrap().get(0);
        let query = "SELECT count(*) FROM sekali_store WHERE is_filling";
        if schema.is_some() && admin.query_one(query, &[]).unwrap().get::<_, i64>(0) == 1 {
            let mut server = start.spawn();
            assert_eq!(server.wait().and_then(|status| status.code()), Some(5), "{}", server.log());
        }
    });
    let (mut server, addr) = start.ready().unwrap();
    assert_eq!(shown(addr), before);
    assert_eq!(server.terminate(), Some(0));

    let back = dir.path().join("back");
    // What has its name when the command is killed is refused by the next one, and must be all of it.
    killed_until_done(&url, back.to_str().unwrap(), || ());
    let (mut server, addr) = Start::tiny_generations(&back).ready().unwrap();
    assert_eq!(shown(addr), before);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_store_with_events_of_its_own_is_never_filled() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.url("events");
    let (mut server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    Client::new(addr).post("/publish", event("t", "1", "1").as_bytes()).unwrap();
    assert_eq!(server.terminate(), Some(0));
    let mut service = Service::new();
    service.publish([event("t", "2", "1")]);
    let data = service.start.data_dir.clone();
    assert_eq!(service.server.terminate(), Some(0));
    let refused = |from: &str, to: &str, why: &str| {
        let output = moving(from, to).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(5) && said.contains(why), "{said}");
    };
    refused(data.to_str().unwrap(), &url, "it holds events already");
    refused(&url, data.to_str().unwrap(), "is not empty");
    refused(dir.path().join("none").to_str().unwrap(), &url, "holds no store");
    assert!(!dir.path().join("none").exists());
}

#[test]
fn a_move_that_broke_off_is_gone_on_with_from_the_same_store_alone() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let url = cluster.url("events");
    let data = [1, 2].map(|number| {
        let mut service = Service::new();
        service.publish([event("t", &number.to_string(), "1")]);
        assert_eq!(service.server.terminate(), Some(0));
        service
    });
    let path = |number: usize| data[number].start.data_dir.to_str().unwrap();
    done(&moving(path(0), &url).output().unwrap());
    // As if it had been killed just before its end.
    cluster.client("events").batch_execute("UPDATE sekali_store SET is_filling = true").unwrap();
    let output = moving(path(1), &url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains("from another store has begun"), "{said}");
    assert_eq!(done(&moving(path(0), &url).output().unwrap())["events"], 1);
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    assert_eq!(listed(addr, ""), ["1"]);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_database_that_a_node_serves_is_not_filled_and_the_node_goes_on() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let mut service = Service::new();
    service.publish([event("t", "1", "1")]);
    let data = service.start.data_dir.clone();
    assert_eq!(service.server.terminate(), Some(0));
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.url("events");
    let start = node(dir.path(), &url, "local");
    let (mut server, addr) = start.ready().unwrap();
    let output = moving(data.to_str().unwrap(), &url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains("another program uses it"), "{said}");
    let stored = Client::new(addr).post("/publish", event("t", "2", "1").as_bytes()).unwrap();
    assert_eq!(stored.status, 200);
    assert_eq!(server.terminate(), Some(0));
    let (mut server, addr) = start.ready().unwrap();
    assert_eq!(Client::new(addr).get("/events/t/2").unwrap().status, 200);
    assert_eq!(server.terminate(), Some(0));
}

/// Appends an event that arrives at `at`.
fn arrive(store: &Local, clock: &ManualClock, runtime: &tokio::runtime::Runtime, at: i64, number: usize) {
    clock.set(Timestamp(at));
    let mut batch = BatchBuilder::new(Bytes::new());
    let topic = ["a", "b", "c"][number % 3];
    batch.push(topic, &number.to_string(), "2026-11-22T10:00:00Z", "", "1").unwrap();
    runtime.block_on(store.append(Arc::new(batch.finish()))).unwrap();
}

/// The ids that a listing shows, in order of their bytes.
fn listed(addr: std::net::SocketAddr, query: &str) -> Vec<String> {
    let answer = Client::new(addr).get(&format!("/events?limit=1000&{query}")).unwrap();
    let page: Value = serde_json::from_slice(&answer.body).unwrap();
    let ids =
        page["events"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

#[test]
fn events_that_arrived_while_the_clock_went_back_are_found_by_their_time() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (clock, runtime) = (Arc::new(ManualClock::default()), tokio::runtime::Runtime::new().unwrap());
    let options = Options { must_exist: false, ..golden::options(&data, &mut fastrand::Rng::new()) };
    let store =
        Local::open(&options, Seams { clock: Arc::clone(&clock) as Arc<_>, ..golden::seams() }).unwrap();
    // Seconds, which jump back and forth.
    let times: Vec<i64> = (0..120).map(|_| 1_795_000_000 + fastrand::i64(0..60)).collect();
    for (number, at) in times.iter().enumerate() {
        arrive(&store, &clock, &runtime, at * 1_000_000, number);
    }
    store.close().unwrap();
    drop(store);
    let url = cluster.url("events");
    done(&moving(data.to_str().unwrap(), &url).output().unwrap());
    let (mut server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    for _ in 0..40 {
        let (since, until) = (1_795_000_000 + fastrand::i64(0..60), 1_795_000_000 + fastrand::i64(0..60));
        for topic in [None, Some(fastrand::usize(0..3))] {
            let is_meant = |(number, at): &(usize, &i64)| {
                (since..until).contains(*at) && topic.is_none_or(|topic| number % 3 == topic)
            };
            let mut expected: Vec<String> =
                times.iter().enumerate().filter(is_meant).map(|(number, _)| number.to_string()).collect();
            expected.sort();
            let time = |at: i64| Timestamp(at * 1_000_000).to_string();
            let mut query = format!("since={}&until={}", time(since), time(until));
            if let Some(topic) = topic {
                query.push_str(&format!("&topic={}", ["a", "b", "c"][topic]));
            }
            assert_eq!(listed(addr, &query), expected, "{query}");
            assert_eq!(listed(addr, &format!("{query}&order=desc")), expected, "{query}");
        }
    }
    assert_eq!(server.terminate(), Some(0));
}
