//! Figures of the database on `/metrics`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use sekali::metrics::{DATABASE_FIGURES, Kind};

use super::group::Group;
use crate::node;
use crate::support::client::Client;
use crate::support::service::event;
use crate::support::until;

/// Samples by name and labels.
fn samples(addr: SocketAddr) -> BTreeMap<String, f64> {
    let answer = Client::new(addr).get("/metrics").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let samples = lines.map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[test]
fn each_figure_of_the_database_is_documented_and_moves_by_what_it_measures() {
    let Some(mut group) = Group::with("events") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = node(dir.path(), &group.url("events"), "replicated").ready().unwrap();
    let mut client = Client::new(addr);
    assert_eq!(client.post("/publish", event("t", "1", 1).as_bytes()).unwrap().status, 200);
    let json = [("Content-Type", "application/json")];
    assert_eq!(client.send("PUT", "/consumers/c", &json, br#"{"topics":["*"]}"#).unwrap().status, 201);
    assert_eq!(client.get("/consumers/c/events").unwrap().status, 200);
    let page = include_str!("../../docs/reference/metrics.md");
    let before = samples(addr);
    for (name, kind, _) in DATABASE_FIGURES {
        assert!(page.contains(&format!("| `{name}` | ")), "{name} is not on the page");
        let shown =
            if matches!(kind, Kind::Histogram(_)) { format!("{name}_count") } else { name.to_owned() };
        assert!(before.keys().any(|sample| sample.starts_with(&shown)), "{name} is nowhere set");
    }
    for (name, expected) in [
        ("sekali_database_statement_duration_seconds_count{kind=\"append\"}", 1.0),
        ("sekali_database_statement_duration_seconds_count{kind=\"take\"}", 1.0),
        ("sekali_database_synchronous_standbys", 2.0),
        ("sekali_database_promise_kept", 1.0),
        ("sekali_consumers", 1.0),
        ("sekali_consumer_lag_events{consumer=\"c\"}", 1.0),
    ] {
        assert_eq!(before.get(name), Some(&expected), "{name}: {before:#?}");
    }
    let open: f64 = before
        .iter()
        .filter(|(name, _)| name.starts_with("sekali_database_connections{"))
        .map(|(_, n)| n)
        .sum();
    assert!(open >= 1.0, "{open}");
    let stop = AtomicBool::new(false);
    let moved = std::thread::scope(|scope| {
        // A statement is under way when the primary is lost.
        scope.spawn(|| {
            let (mut client, mut id) = (Client::new(addr), 0);
            while !stop.load(Ordering::SeqCst) {
                let _ = client.post("/publish", event("t", &format!("more-{id}"), id).as_bytes());
                id += 1;
            }
        });
        group.fail_over();
        let retries = "sekali_database_retries_total";
        let moved = until(60, || {
            let after = samples(addr);
            let is_one = after.get("sekali_database_synchronous_standbys") == Some(&1.0);
            (is_one && after[retries] > before[retries]).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
        moved
    });
    assert!(
        moved.is_some(),
        "{:#?}
{}",
        samples(addr),
        server.log()
    );
}
