//! One consumer through several nodes.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::group::Group;
use super::{cluster, node, ready_node};
use crate::support::client::Client;
use crate::support::consuming::Consuming;
use crate::support::process::Server;
use crate::support::service::event;
use crate::support::{seed, until};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn ask(addr: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = Client::new(addr).send(method, path, JSON, &bytes).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn publish(addr: SocketAddr, topic: &str, id: &str) {
    let answer = Client::new(addr).post("/publish", event(topic, id, 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
}

fn acknowledge(addr: SocketAddr, given: &Value) -> u16 {
    ask(addr, "POST", "/consumers/checked/ack", &json!({"receipt": given["receipt"]})).0
}

/// Nodes of one database on a server of its own.
fn nodes(url: &str, dir: &std::path::Path, durability: &str) -> Vec<(Server, SocketAddr)> {
    let start = node(dir, url, durability);
    (0..3).map(|_| start.ready().unwrap()).collect()
}

#[test]
fn a_receipt_counts_no_more_at_any_node_once_another_has_the_lease() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let nodes = nodes(&cluster.url("events"), dir.path(), "local");
    let [a, b, c] = [nodes[0].1, nodes[1].1, nodes[2].1];
    assert_eq!(ask(a, "PUT", "/consumers/checked", &json!({"topics": ["*"]})).0, 201);
    assert_eq!(ask(b, "PUT", "/consumers/checked", &json!({"topics": ["*"]})).0, 200, "it is there already");
    publish(b, "t", "1");
    let events = "/consumers/checked/events";
    let (_, late) = ask(a, "GET", &format!("{events}?holder=x&lease=2s"), &Value::Null);
    assert_eq!(late["events"][0]["offset"], 0, "{late}");
    let (status, refused) = ask(b, "GET", &format!("{events}?holder=y"), &Value::Null);
    assert_eq!(
        (status, &refused["lease"]["holder"], &refused["lease"]["until"]),
        (409, &json!("x"), &late["lease_until"])
    );
    let mut next = Value::Null;
    let is_given = until(30, || {
        let (status, given) = ask(b, "GET", &format!("{events}?holder=y&lease=60s"), &Value::Null);
        next = given;
        (status == 200).then_some(())
    });
    assert!(is_given.is_some(), "{next}");
    assert_eq!(next["events"], late["events"], "what was not acknowledged is given again");
    for addr in [a, b, c] {
        assert_eq!(acknowledge(addr, &late), 409);
    }
    assert_eq!(acknowledge(c, &next), 200);
    assert_eq!(acknowledge(a, &next), 200, "once more, through another node");
    for addr in [a, b, c] {
        let (_, told) = ask(addr, "GET", "/consumers/checked", &Value::Null);
        assert_eq!(
            (&told["lag"], &told["positions"], &told["leases"][0]["holder"]),
            (&json!(0), &json!([{"topic": "t", "next_offset": 1}]), &json!("y"))
        );
    }
    // Moved through one node, it goes on there at another, and what was given before counts no more.
    assert_eq!(ask(a, "POST", "/consumers/checked/seek", &json!({"to": "start"})).0, 200);
    assert_eq!(acknowledge(b, &next), 409);
    let (_, again) = ask(b, "GET", &format!("{events}?holder=y"), &Value::Null);
    assert_eq!(again["events"], late["events"]);
    assert_eq!(ask(c, "DELETE", "/consumers/checked", &Value::Null).0, 204);
    assert_eq!(acknowledge(a, &again), 404);
    let left = "SELECT (SELECT count(*) FROM sekali_positions) + (SELECT count(*) FROM sekali_leases)";
    assert_eq!(cluster.client("events").query_one(left, &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn whoever_waits_at_one_node_is_given_what_comes_through_another() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let nodes = nodes(&cluster.url("events"), dir.path(), "local");
    let [a, b, c] = [nodes[0].1, nodes[1].1, nodes[2].1];
    assert_eq!(ask(a, "PUT", "/consumers/checked", &json!({"topics": ["t"]})).0, 201);
    // The lease is so long that it is not renewed within the wait, which would find the event as well.
    let path = "/consumers/checked/events?wait=60s&lease=3600s";
    let waiting = std::thread::spawn(move || ask(a, "GET", path, &Value::Null));
    let has_lease = || {
        let (_, told) = ask(c, "GET", "/consumers/checked", &Value::Null);
        (!told["leases"][0].is_null()).then_some(())
    };
    assert!(until(30, has_lease).is_some(), "nobody waits");
    publish(b, "of nobody", "1");
    publish(b, "t", "1");
    let (status, given) = waiting.join().unwrap();
    assert_eq!((status, &given["events"][0]["topic"]), (200, &json!("t")), "{given}");
    assert_eq!(acknowledge(c, &given), 200);
    let (_, told) = ask(b, "GET", "/consumers/checked", &Value::Null);
    assert_eq!((&told["lag"], &told["leases"]), (&json!(0), &json!([])));
}

/// How many statements of these kinds a node has sent.
fn statements(addr: SocketAddr, kinds: &[&str]) -> Vec<u64> {
    let text = String::from_utf8(Client::new(addr).get("/metrics").unwrap().body).unwrap();
    let count = |kind: &&str| {
        let sample = format!("sekali_database_statement_duration_seconds_count{{kind=\"{kind}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
    };
    kinds.iter().map(count).collect()
}

#[test]
fn those_who_wait_do_not_ask_the_database_for_events_of_others() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let nodes = nodes(&cluster.url("events"), dir.path(), "local");
    let [a, b] = [nodes[0].1, nodes[1].1];
    const WAITING: u64 = 10;
    for number in 0..WAITING {
        assert_eq!(ask(a, "PUT", &format!("/consumers/c{number}"), &json!({"topics": ["t"]})).0, 201);
    }
    publish(b, "of nobody", "0");
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..WAITING)
            .map(|number| {
                let path = format!("/consumers/c{number}/events?wait=60s&lease=3600s");
                scope.spawn(move || ask(a, "GET", &path, &Value::Null))
            })
            .collect();
        let have_leases = until(30, || (statements(a, &["take"]) == [WAITING]).then_some(()));
        assert!(have_leases.is_some(), "{:?}", statements(a, &["take"]));
        for number in 1..=5 {
            let before = statements(a, &["news"])[0];
            publish(b, "of nobody", &number.to_string());
            let heard = until(30, || (statements(a, &["news"])[0] > before).then_some(()));
            assert!(heard.is_some(), "the node does not hear of it");
            let asked = statements(a, &["news"])[0] - before;
            assert!(asked <= 2, "{asked} questions for {WAITING} who wait");
        }
        assert_eq!(statements(a, &["take"]), [WAITING], "none of it was theirs");
        publish(b, "t", "1");
        for one in waiting {
            let (status, given) = one.join().unwrap();
            assert_eq!((status, given["events"].as_array().map(Vec::len)), (200, Some(1)), "{given}");
        }
    });
}

#[test]
fn a_call_takes_as_many_statements_for_many_topics_as_for_one() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, _server, addr) = ready_node(&cluster);
    assert_eq!(ask(addr, "PUT", "/consumers/checked", &json!({"topics": ["*"]})).0, 201);
    let kinds = ["take", "acknowledge", "events", "news", "consumers", "topics"];
    let mut took = Vec::new();
    for topics in [1, 400] {
        let events: Vec<String> =
            (0..topics).map(|topic| event(&format!("t{topic}"), &format!("{topics}"), 1)).collect();
        let body = format!("[{}]", events.join(","));
        assert_eq!(Client::new(addr).post("/publish", body.as_bytes()).unwrap().status, 200);
        let before = statements(addr, &kinds);
        let (_, given) = ask(addr, "GET", "/consumers/checked/events?limit=1000", &Value::Null);
        assert_eq!(given["events"].as_array().unwrap().len(), topics);
        assert_eq!(acknowledge(addr, &given), 200);
        let after = statements(addr, &kinds);
        took.push(after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<_>>());
    }
    // The figures themselves ask for consumers and their lag, as often each time.
    assert_eq!(took[0][..3], [1, 1, 1], "{kinds:?}: {took:?}");
    assert!(took[1].iter().zip(&took[0]).all(|(many, one)| many <= &(one + 1)), "{kinds:?}: {took:?}");
}

/// Sends events through any of the nodes until it is told to stop.
fn produce(addrs: &[SocketAddr], seed: u64, stop: &AtomicBool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<Client> = addrs.iter().map(|addr| Client::new(*addr)).collect();
    let mut id = 0;
    while !stop.load(Ordering::SeqCst) {
        let count = rng.u64(1..20);
        let events: Vec<String> =
            (id..id + count).map(|id| event(rng.choice(TOPICS).unwrap(), &id.to_string(), id)).collect();
        id += count;
        let body = format!("[{}]", events.join(","));
        // Again until it is surely stored.
        while !stop.load(Ordering::SeqCst) {
            let sent = clients[rng.usize(..addrs.len())].post("/publish", body.as_bytes());
            if sent.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            sekali::sync::park_timeout(Duration::from_millis(20));
        }
    }
}

/// A worker that reads through one node and acknowledges through another, and somebody else who is
/// kept out by a third.
struct Worker<'a> {
    consuming: &'a Consuming,
    addrs: &'a [SocketAddr],
    /// Nodes that are not killed.
    alive: &'a Mutex<Vec<usize>>,
    stop: &'a AtomicBool,
}

impl Worker<'_> {
    fn run(&self, seed: u64) -> io::Result<u64> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut clients: Vec<Client> = self.addrs.iter().map(|addr| Client::new(*addr)).collect();
        let (never, mut refused) = (AtomicBool::new(false), 0);
        while !self.stop.load(Ordering::SeqCst) {
            let alive = self.alive.lock().unwrap().clone();
            let mut any = || alive[rng.usize(..alive.len())];
            let (reader, acker, other) = (any(), any(), any());
            let query = format!("holder=worker&lease=60s&limit={}", rng.u64(1..100));
            // A node that was just killed gives no answer.
            if let Ok(0) | Err(_) = self.consuming.step(&mut clients, (reader, Some(acker)), &query, &never) {
                sekali::sync::park_timeout(Duration::from_millis(5));
                continue;
            }
            let Ok(answer) = clients[other].get("/consumers/checked/events?holder=other") else { continue };
            match answer.status {
                409 => refused += 1,
                503 => {}
                status => {
                    return Err(io::Error::other(format!(
                        "{status} for whoever has no lease: {}",
                        String::from_utf8_lossy(&answer.body)
                    )));
                }
            }
        }
        Ok(refused)
    }
}

#[test]
fn a_consumer_goes_on_over_the_loss_of_a_node_and_of_the_primary() {
    let Some(mut group) = Group::with("events") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = nodes(&group.url("events"), dir.path(), "replicated");
    let addrs: Vec<SocketAddr> = nodes.iter().map(|node| node.1).collect();
    assert_eq!(ask(addrs[0], "PUT", "/consumers/checked", &json!({"topics": ["*"]})).0, 201);
    let (seed, stop, alive) = (seed(), AtomicBool::new(false), Mutex::new(vec![0, 1, 2]));
    let (consuming, is_done) = (Consuming::default(), AtomicBool::new(false));
    let worker = Worker { consuming: &consuming, addrs: &addrs, alive: &alive, stop: &is_done };
    let acknowledged = |more: u64| {
        let goal = consuming.acknowledged() + more;
        let reached = until(90, || (consuming.acknowledged() >= goal).then_some(()));
        assert!(reached.is_some(), "seed {seed}: the consumer does not get on");
    };
    let refused = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&addrs[1..], seed, &stop));
        let working = scope.spawn(|| worker.run(seed));
        acknowledged(20);
        nodes[0].0.kill();
        alive.lock().unwrap().retain(|node| *node != 0);
        acknowledged(20);
        group.fail_over();
        acknowledged(20);
        stop.store(true, Ordering::SeqCst);
        producer.join().unwrap();
        let caught_up = until(60, || {
            let (status, told) = ask(addrs[1], "GET", "/consumers/checked", &Value::Null);
            (status == 200 && told["lag"] == 0).then_some(())
        });
        is_done.store(true, Ordering::SeqCst);
        let refused = working.join().unwrap().unwrap();
        assert!(caught_up.is_some(), "seed {seed}: the consumer does not catch up");
        refused
    });
    assert_eq!(consuming.violations(), Vec::<String>::new(), "seed {seed}");
    // Each topic was given up to its last event, and both nodes know it.
    for addr in &addrs[1..] {
        let (_, told) = ask(*addr, "GET", "/consumers/checked", &Value::Null);
        let (_, topics) = ask(*addr, "GET", "/topics", &Value::Null);
        let (positions, topics) =
            (told["positions"].as_array().unwrap(), topics["topics"].as_array().unwrap());
        assert_eq!(positions.len(), topics.len(), "seed {seed}: {told}");
        for (at, topic) in positions.iter().zip(topics) {
            let (name, next) = (at["topic"].as_str().unwrap(), at["next_offset"].as_u64().unwrap());
            assert_eq!(
                (name, next),
                (topic["topic"].as_str().unwrap(), topic["unique_processed"].as_u64().unwrap())
            );
            assert!(consuming.may_be_at(name, next), "seed {seed}: {name} is at {next}");
        }
    }
    assert!(refused > 20, "seed {seed}: {refused}");
    eprintln!(
        "{} acknowledgements, {refused} refusals, no violation (SEKALI_SEED={seed})",
        consuming.acknowledged()
    );
}
