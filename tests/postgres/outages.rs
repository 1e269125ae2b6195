//! Groups of servers of one store, one of which is away.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::checker::{check, expect_clean};
use crate::support::client::Client;
use crate::support::history::{Answer, Key, Position};
use crate::support::load::Workload;
use crate::support::postgres::Postgres;
use crate::support::reader::{HttpReader, digest};
use crate::support::relay::Relay;
use crate::support::service::event;
use crate::support::{rounds, seed, until};
use crate::watching::Watchers;
use crate::{cluster, node_of};

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
    let mut sent = Vec::new();
    for n in 0..24 {
        assert_eq!(publish(addrs[0], &format!("probe-{n}"), "first", &mut sent), 200);
    }
    for round in 0..rounds {
        let (away, there) = ((round % 2) as usize, 1 - (round % 2) as usize);
        let run = workload.start(Relay::among(addrs.clone()).addr, 8);
        let watchers = Watchers::start(&addrs);
        let topics = [topic_of(&clusters[away]), topic_of(&clusters[there])];
        assert!(run.acknowledged(40), "{}", servers[0].log());
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
