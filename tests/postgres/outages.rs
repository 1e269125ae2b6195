//! Groups of servers of one store, one of which is away.

use std::io::BufReader;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use super::watching::Watchers;
use super::{cluster, node, node_of};
use crate::support::checker::{check, expect_clean};
use crate::support::client::Client;
use crate::support::history::{Answer, Key, Position};
use crate::support::load::Workload;
use crate::support::postgres::Postgres;
use crate::support::reader::{HttpReader, digest, message};
use crate::support::relay::Relay;
use crate::support::service::event;
use crate::support::{rounds, seed, until};

/// An event that was sent, and what became of it.
type Sent = (Key, u64, Answer);

/// Sends an event; the status.
fn publish(addr: SocketAddr, topic: &str, id: &str, sent: &mut Vec<Sent>) -> u16 {
    let answer = Client::new(addr).post("/publish", event(topic, id, 1).as_bytes()).unwrap();
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    let (offset, first_seen) = (&told["results"][0]["offset"], &told["results"][0]["first_seen"]);
    let stored =
        || Position { offset: offset.as_u64().unwrap(), first_seen: first_seen.as_str().unwrap().to_owned() };
    let outcome = if answer.status == 200 { Answer::Stored(stored()) } else { Answer::Unknown };
    let digest = digest("2026-11-22T10:00:00Z", "test", "1");
    sent.push((Key { topic: topic.into(), event_id: id.into() }, digest, outcome));
    answer.status
}

/// A topic that a cluster has.
fn topic_of(cluster: &Postgres) -> String {
    let query = "SELECT min(name) FROM sekali_topics WHERE name LIKE 'probe-%'";
    cluster.client("events").query_one(query, &[]).unwrap().get(0)
}

/// A tail of a topic, which ends with this event; whether it was shown that.
fn tail(addr: SocketAddr, topic: &str, last: &str) -> JoinHandle<bool> {
    let (url, last) = (format!("http://{addr}/events?topic={topic}"), last.to_owned());
    let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    let answer = Agent::from(config.build()).get(url).header("accept", "text/event-stream").call().unwrap();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(answer.into_body().into_reader());
        std::iter::from_fn(|| message(&mut stream)).any(|(_, event)| event["event_id"] == last.as_str())
    })
}

/// What `/readyz` says, once it is as wanted.
fn readiness(addr: SocketAddr, is_it: impl Fn(u16, &Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = until(30, || {
        let answer = Client::new(addr).get("/readyz").ok()?;
        last = serde_json::from_slice(&answer.body).unwrap();
        is_it(answer.status, &last).then_some(())
    });
    assert!(found.is_some(), "{last}");
    last
}

#[test]
fn a_group_that_is_away_keeps_only_its_own_topics_waiting_and_loses_nothing() {
    let (Some(one), Some(other)) = (cluster(""), cluster("")) else { return };
    let clusters = [one, other];
    clusters.iter().for_each(|cluster| cluster.create("events"));
    let dir = tempfile::tempdir().unwrap();
    let groups = [("0-31", clusters[0].url("events")), ("32-63", clusters[1].url("events"))];
    let start = node_of(dir.path(), &groups);
    let (seed, rounds) = (seed(), rounds("SEKALI_DATABASE_OUTAGES"));
    let mut workload = Workload::new(seed);
    let (mut servers, addrs): (Vec<_>, Vec<_>) = (0..2).map(|_| start.ready().unwrap()).unzip();
    // None of these is one of the load's topics.
    let (mut sent, mut new_consumer) = (Vec::new(), None);
    for n in 0..24 {
        assert_eq!(publish(addrs[0], &format!("probe-{n}"), "first", &mut sent), 200);
    }
    for round in 0..rounds {
        let (away, there) = ((round % 2) as usize, 1 - (round % 2) as usize);
        let run = workload.start(Relay::among(addrs.clone()).addr, 8);
        let watchers = Watchers::start(&addrs);
        let topics = [topic_of(&clusters[away]), topic_of(&clusters[there])];
        assert!(run.acknowledged(40), "{}", servers[0].log());
        let tail = tail(addrs[1], &topics[1], &format!("{round}-9"));
        clusters[away].kill();
        let told = readiness(addrs[0], |status, told| status == 200 && told["except"].is_string());
        let slots = ["slots 0-31", "slots 32-63"][away];
        assert!(told["except"].as_str().unwrap().starts_with(slots), "{told}");
        readiness(addrs[1], |status, told| status == 200 && told["except"].is_string());
        for n in 0..10 {
            let id = format!("{round}-{n}");
            assert_eq!(publish(addrs[n % 2], &topics[1], &id, &mut sent), 200, "{}", servers[n % 2].log());
            let found = Client::new(addrs[1 - n % 2]).get(&format!("/events/{}/{id}", topics[1])).unwrap();
            assert_eq!(found.status, 200);
        }
        assert!(tail.join().unwrap(), "a tail of a topic that is there was not told of it");
        if there == 0 {
            // Consumers are kept there. One that is new to the node is given what is there.
            let (name, json) = (format!("/consumers/new-{round}"), [("Content-Type", "application/json")]);
            let made = Client::new(addrs[1]).send("PUT", &name, &json, br#"{"topics":["probe-*"]}"#).unwrap();
            assert_eq!(made.status, 201);
            let given = Client::new(addrs[1]).get(&format!("{name}/events?holder=w&limit=1000")).unwrap();
            let told: Value = serde_json::from_slice(&given.body).unwrap();
            let of =
                |topic: &str| told["events"].as_array().unwrap().iter().any(|event| event["topic"] == topic);
            assert!(given.status == 200 && of(&topics[1]) && !of(&topics[0]), "{told}");
            new_consumer = Some((name, told));
        }
        let page = Client::new(addrs[0]).get(&format!("/events?topic={}&order=desc", topics[1])).unwrap();
        assert_eq!(page.status, 200);
        let refused = Client::new(addrs[0]).get(&format!("/events?topic={}", topics[0])).unwrap();
        assert_eq!(refused.status, 503, "{}", String::from_utf8_lossy(&refused.body));
        assert_eq!(publish(addrs[0], &topics[0], &format!("{round}-away"), &mut sent), 503);
        clusters[away].run();
        for addr in &addrs {
            readiness(*addr, |status, told| status == 200 && told["except"].is_null());
        }
        assert_eq!(publish(addrs[1], &topics[0], &format!("{round}-back"), &mut sent), 200);
        if let Some((name, told)) = new_consumer.take() {
            let receipt = serde_json::json!({"receipt": told["receipt"]}).to_string();
            let done = Client::new(addrs[1]).post(&format!("{name}/ack"), receipt.as_bytes()).unwrap();
            assert_eq!(done.status, 200);
            let path = format!("{name}/events?holder=w&limit=1000");
            let found = until(30, || {
                let given = Client::new(addrs[1]).get(&path).ok().filter(|given| given.status == 200)?;
                let told: Value = serde_json::from_slice(&given.body).unwrap();
                told["events"]
                    .as_array()?
                    .iter()
                    .any(|event| event["topic"] == topics[0].as_str())
                    .then_some(())
            });
            assert!(found.is_some(), "what had been away is not given to the consumer");
        }
        assert!(run.acknowledged_more_within(40, Duration::from_secs(60)), "{}", servers[0].log());
        run.stop();
        watchers.finish();
        let mut reader = HttpReader::new(addrs[0]);
        workload.history(|history| {
            sent.drain(..).for_each(|(key, digest, answer)| history.record(&key, digest, answer));
        });
        let violations = workload.history(|history| check(history, &mut reader, seed));
        let log = format!("{}\n{}", servers[0].log(), clusters[away].log());
        expect_clean(&violations, seed, &format!("after outage {round}"), &log);
        workload.expect_in_order();
    }
    assert!(workload.consumed() > rounds, "too few acknowledgements: {}", workload.consumed());
    for server in &mut servers {
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
    }
    eprintln!("{rounds} outages of a group, no violation (SEKALI_SEED={seed})");
}

#[test]
fn a_node_starts_while_a_group_is_away_and_serves_it_once_it_is_the_right_one() {
    let (Some(one), Some(other)) = (cluster(""), cluster("")) else { return };
    one.create("events");
    ["events", "wrong"].iter().for_each(|name| other.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (mut server, _) = node(dir.path(), &other.url("wrong"), "local").ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    let with =
        |database: &str| node_of(dir.path(), &[("0-31", one.url("events")), ("32-63", other.url(database))]);
    let (mut server, addr) = with("events").ready().unwrap();
    let mut sent = Vec::new();
    for n in 0..24 {
        assert_eq!(publish(addr, &format!("probe-{n}"), "first", &mut sent), 200);
    }
    assert_eq!(server.terminate(), Some(0));
    let (there, away) = (topic_of(&one), topic_of(&other));
    other.kill();

    let part = |database: &str| {
        let (server, addr) = with(database).ready().unwrap();
        let told = readiness(addr, |status, _| status == 200);
        assert!(told["except"].as_str().is_some_and(|why| why.starts_with("slots 32-63: ")), "{told}");
        (server, addr)
    };
    let (mut server, addr) = part("events");
    let (mut misled, misled_addr) = part("wrong");
    assert_eq!(publish(addr, &there, "second", &mut sent), 200);
    assert_eq!(publish(addr, &away, "second", &mut sent), 503);
    for (topic, expected) in [(&there, 200), (&away, 503)] {
        let found = Client::new(addr).get(&format!("/events/{topic}/first")).unwrap();
        assert_eq!(found.status, expected, "{topic}");
    }
    other.run();
    readiness(addr, |status, told| status == 200 && told["except"].is_null());
    for (id, stored) in [("first", 0), ("second", 1)] {
        let answer = Client::new(addr).post("/publish", event(&away, id, 1).as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, told["unique_processed"].as_u64()), (200, Some(stored)), "{told}");
    }
    // What has come back is not what it was taken for.
    let says =
        |told: &Value| told["except"].as_str().is_some_and(|why| why.contains("part of another store"));
    readiness(misled_addr, |status, told| status == 200 && says(told));
    assert_eq!(publish(misled_addr, &away, "third", &mut sent), 503);
    let stored = "SELECT count(*) FROM sekali_events";
    assert_eq!(other.client("wrong").query_one(stored, &[]).unwrap().get::<_, i64>(0), 0);
    assert_eq!((server.terminate(), misled.terminate()), (Some(0), Some(0)));

    // Which database is the first one, and what slots it has, nobody else knows.
    one.kill();
    let mut refused = with("events").spawn();
    let said = refused.listening().unwrap_err();
    assert_eq!(refused.wait().and_then(|status| status.code()), Some(5), "{said}");
    assert!(said.contains("can't be reached"), "{said}");
}
