//! A store whose slots are in several databases, beside one that has a single database.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{cluster, node, node_of};
use crate::support::client::{Client, escape};
use crate::support::process::Start;
use crate::support::service::event;

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

fn ask(addr: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = Client::new(addr).send(method, path, JSON, &bytes).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn get(addr: SocketAddr, path: &str) -> Value {
    let (status, told) = ask(addr, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {told}");
    told
}

/// The JSON of events without what differs between two stores.
fn timeless(value: &Value, fields: &[&str]) -> Vec<Value> {
    let mut entries = value.as_array().unwrap().clone();
    for entry in &mut entries {
        fields.iter().for_each(|field| drop(entry.as_object_mut().unwrap().remove(*field)));
    }
    entries
}

/// All events of a listing, page by page.
pub fn listed(addr: SocketAddr, query: &str) -> Vec<Value> {
    let (mut events, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(addr, &format!("/events?limit=17&{query}{cursor}"));
        events.extend(timeless(&page["events"], &["received_at"]));
        let Some(next) = page["next_cursor"].as_str() else { return events };
        cursor = format!("&cursor={}", escape(next));
    }
}

fn topic(n: usize) -> String {
    format!("{}.{}", ["orders", "users", "clicks"][n % 3], n % 29)
}

/// Sends the same to a store: single events in one order, then batches over many topics.
fn fill(addr: SocketAddr) {
    let mut client = Client::new(addr);
    for n in 0..240 {
        // Some ids come again, a few of them with another payload.
        let (id, payload) = if n % 10 == 9 { (n - 9, n % 20 / 10) } else { (n, 0) };
        let answer =
            client.post("/publish", event(&topic(id), &format!("e{id}"), payload).as_bytes()).unwrap();
        assert_eq!(answer.status, 200);
    }
    for batch in 0..5 {
        let numbers = batch * 100..batch * 100 + 120;
        let events: Vec<String> = numbers.map(|n| event(&topic(n), &format!("b{n}"), n)).collect();
        let answer =
            client.post("/publish?results=all", format!("[{}]", events.join(",")).as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &told["received"]), (200, &json!(120)), "{told}");
        assert_eq!(told["duplicate_dropped"], if batch == 0 { 0 } else { 20 }, "{told}");
    }
    assert_eq!(client.post("/publish", b"[{}]").unwrap().status, 422);
}

/// By topic, so that topics of one batch may come in another order.
fn by_topic(events: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut topics: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in events {
        topics.entry(event["topic"].as_str().unwrap().to_owned()).or_default().push(event);
    }
    topics
}

/// All that a consumer is given until there is nothing left.
fn consumed(addr: SocketAddr, name: &str) -> BTreeMap<String, Vec<Value>> {
    let mut events = Vec::new();
    loop {
        let given = get(addr, &format!("/consumers/{name}/events?limit=23&holder=w"));
        if given["receipt"].is_null() {
            return by_topic(events);
        }
        events.extend(timeless(&given["events"], &["received_at"]));
        let receipt = json!({"receipt": given["receipt"]});
        assert_eq!(ask(addr, "POST", &format!("/consumers/{name}/ack"), &receipt).0, 200);
    }
}

/// Everything that must be the same, whatever databases hold it.
fn shown(addr: SocketAddr) -> Vec<(String, Value)> {
    let mut shown = Vec::new();
    // The first 216 came one by one, so their order over all topics is that in which they came.
    shown.push(("in order".to_owned(), json!(listed(addr, "")[..216])));
    for query in
        ["", "order=desc", "topic=orders.0", "topic=orders.0&order=desc", "topic=none", "source=test"]
    {
        shown.push((query.to_owned(), json!(by_topic(listed(addr, query)))));
    }
    let middle = get(addr, "/events/orders.21/e108")["received_at"].as_str().unwrap().to_owned();
    for query in
        [format!("since={middle}"), format!("until={middle}"), format!("since={middle}&topic=orders.21")]
    {
        shown.push((query.replace(&middle, "middle"), json!(by_topic(listed(addr, &query)))));
    }
    let exported =
        Client::new(addr).send("GET", "/events", &[("Accept", "application/x-ndjson")], &[]).unwrap();
    shown.push(("lines".to_owned(), json!(exported.body.iter().filter(|byte| **byte == b'\n').count())));
    let (mut topics, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(addr, &format!("/topics?limit=7{cursor}"));
        topics.extend(timeless(&page["topics"], &["first_received_at", "last_received_at"]));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={}", escape(next));
    }
    shown.push(("topics".to_owned(), json!(topics)));
    let stats = get(addr, "/stats");
    for name in ["received", "unique_processed", "duplicate_dropped", "conflicts", "rejected", "topics"] {
        shown.push((name.to_owned(), stats[name].clone()));
    }
    for (name, to) in [("all", json!("start")), ("late", json!(middle)), ("end", json!("end"))] {
        let body = json!({"topics": ["orders.*", "users.1"], "start": to});
        let made = ask(addr, "PUT", &format!("/consumers/{name}"), &body);
        shown.push((format!("{name} made"), json!(made.0)));
        let told = get(addr, &format!("/consumers/{name}"));
        shown.push((format!("{name} lag"), told["lag"].clone()));
        shown.push((format!("{name} given"), json!(consumed(addr, name))));
        let told = get(addr, &format!("/consumers/{name}"));
        shown.push((format!("{name} at"), json!([told["lag"], told["positions"]])));
    }
    shown
}

#[test]
fn several_databases_answer_as_one_does() {
    let Some(cluster) = cluster("") else { return };
    ["one", "a", "b", "c"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let groups = [("0-9,50-63", cluster.url("a")), ("10-30", cluster.url("b")), ("31-49", cluster.url("c"))];
    let starts = [node(dir.path(), &cluster.url("one"), "local"), node_of(dir.path(), &groups)];
    let shown = starts.map(|start| {
        let (mut server, addr) = start.ready().unwrap();
        fill(addr);
        let shown = shown(addr);
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        shown
    });
    for (one, several) in shown[0].iter().zip(&shown[1]) {
        assert_eq!(one, several);
    }
    for database in ["a", "b", "c"] {
        let query = "SELECT count(*) FROM sekali_topics t WHERE t.slot IN (SELECT slot FROM sekali_slots)
                     AND (SELECT count(*) FROM sekali_topics) > 0";
        let count: i64 = cluster.client(database).query_one(query, &[]).unwrap().get(0);
        assert!(count > 0, "{database} has no topic");
    }
    let file = starts_file(&node_of(dir.path(), &groups));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sekali"))
        .args(["verify", "--json", "--config", &file])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["sound"], &report["events"]), (&json!(true), &json!(736)), "{report}");
}

/// The configuration that a node is started with.
pub fn starts_file(start: &Start) -> String {
    let (_, file) = start.env.iter().find(|(name, _)| name == "SEKALI_CONFIG").unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn nodes_that_start_at_the_same_time_make_one_store() {
    let Some(cluster) = cluster("") else { return };
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let names = [format!("a{round}"), format!("b{round}")];
        names.iter().for_each(|name| cluster.create(name));
        let urls = names.clone().map(|name| cluster.url(&name));
        let in_order = [("0-31", urls[0].clone()), ("32-63", urls[1].clone())];
        let turned = [("32-63", urls[1].clone()), ("0-31", urls[0].clone())];
        let starts = [node_of(dir.path(), &in_order), node_of(dir.path(), &turned)];
        let mut nodes: Vec<_> = (0..4).map(|n| starts[n % 2].spawn()).collect();
        for node in &mut nodes {
            node.listening().unwrap();
        }
        for node in &mut nodes {
            assert_eq!(node.terminate(), Some(0), "{}", node.log());
        }
        let stores = names.map(|name| {
            let query =
                "SELECT store_id::text || hash_key::text, is_home, (SELECT min(slot) || '-' || max(slot)
                         FROM sekali_slots) FROM sekali_store";
            let row = cluster.client(&name).query_one(query, &[]).unwrap();
            (row.get::<_, String>(0), row.get::<_, bool>(1), row.get::<_, String>(2))
        });
        assert_eq!(stores[0].0, stores[1].0, "one store");
        assert_eq!((stores[0].1, stores[1].1), (true, false));
        assert_eq!((&*stores[0].2, &*stores[1].2), ("0-31", "32-63"));
    }
    // One that was killed when it had made the first alone is followed by one that makes the others.
    cluster.client("a0").batch_execute("UPDATE sekali_store SET is_whole = false").unwrap();
    cluster.create("b4");
    let (mut server, _) =
        node_of(dir.path(), &[("0-31", cluster.url("a0")), ("32-63", cluster.url("b4"))]).ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
}

/// How a start ends that must not succeed: its code, and what it says.
fn refused(start: &Start) -> (Option<i32>, String) {
    let mut server = start.spawn();
    let said = server.listening().unwrap_err();
    (server.wait().and_then(|status| status.code()), said)
}

#[test]
fn a_configuration_that_does_not_fit_the_databases_is_refused_with_what_is_wrong() {
    let Some(cluster) = cluster("") else { return };
    ["a", "b", "other", "empty"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (cluster.url("a"), cluster.url("b"));
    let (mut server, _) = node_of(dir.path(), &[("0-31", a.clone()), ("32-63", b.clone())]).ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    let (mut server, _) = node(dir.path(), &cluster.url("other"), "local").ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    cluster.client("postgres").batch_execute("CREATE DATABASE copy TEMPLATE b").unwrap();
    let mut must_exist = node_of(dir.path(), &[("0-63", cluster.url("empty"))]);
    must_exist.env.push(("SEKALI_MUST_EXIST".into(), "true".into()));
    let mut both = node_of(dir.path(), &[("0-31", a.clone()), ("32-63", b.clone())]);
    both.env.push(("SEKALI_STORE".into(), a.clone().into()));
    let of = |groups: &[(&str, &str)]| {
        let groups: Vec<(&str, String)> =
            groups.iter().map(|(slots, name)| (*slots, cluster.url(name))).collect();
        node_of(dir.path(), &groups)
    };
    for (start, expected, words) in [
        (both, 3, "store (env SEKALI_STORE) and [[group]] both say where the store is"),
        (of(&[("0-31", "a"), ("33-63", "b")]), 3, "no [[group]] has the slots 32"),
        (of(&[("0-33", "a"), ("32-63", "b")]), 3, "more than one [[group]] has the slots 32-33"),
        (of(&[("0-31", "a"), ("32-64", "b")]), 3, "write slots as"),
        (of(&[("0-31", "b"), ("32-63", "a")]), 5, "slot 0 is in "),
        (of(&[("0-32", "a"), ("33-63", "b")]), 5, "sekali regroup"),
        (of(&[("0-63", "a")]), 5, "slot 32 is in no database that is named"),
        (of(&[("0-63", "b")]), 5, "which has the consumers"),
        (node(dir.path(), &a, "local"), 5, "slot 32 is in no database that is named"),
        (of(&[("0-31", "a"), ("32-63", "a")]), 5, "it is the same database as"),
        (of(&[("0-31", "a"), ("32-40", "b"), ("41-63", "copy")]), 5, "or a copy of it"),
        (of(&[("0-31", "a"), ("32-63", "other")]), 5, "it is part of another store than"),
        (of(&[("0-31", "a"), ("32-63", "empty")]), 5, "it holds no store"),
        (must_exist, 5, "it holds no store, and must_exist is set"),
    ] {
        let (code, said) = refused(&start);
        assert!(code == Some(expected) && said.contains(words), "{words}: {code:?} {said}");
    }
    // None of them has changed anything.
    let (mut server, _) = of(&[("32-63", "b"), ("0-31", "a")]).ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
}
