//! Figures of the database on `/metrics`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

use sekali::metrics::{DATABASE_FIGURES, Kind};

use super::group::Group;
use super::node;
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
    // Figures of journals, which a database has none of, are not told.
    let live = ureq::get(format!("http://{addr}/live")).call().unwrap().into_body().into_reader();
    let mut lines = BufReader::new(live).lines().map_while(Result::ok);
    let figures = lines.find_map(|line| {
        line.strip_prefix("data: ").filter(|data| data.contains("\"promise\"")).map(str::to_owned)
    });
    let figures: serde_json::Value = serde_json::from_str(&figures.unwrap()).unwrap();
    assert_eq!(figures["promise"], "replicated");
    for name in ["journal_bytes", "checkpoint_lag_events", "generations_open", "generations_sealed"] {
        assert!(figures[name].is_null(), "{name}: {figures}");
    }
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
    let retries = "sekali_database_retries_total";
    // A statement that meets a lock is sent again.
    let mut admin = group.primary.client("events");
    let mut lock = admin.transaction().unwrap();
    lock.query("SELECT FROM sekali_slots FOR UPDATE", &[]).unwrap();
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| Client::new(addr).post("/publish", event("t", "2", 2).as_bytes()).unwrap());
        let moved = until(60, || (samples(addr)[retries] > before[retries]).then_some(()));
        drop(lock);
        assert!(moved.is_some(), "{:#?}\n{}", samples(addr), server.log());
        assert!([200, 503].contains(&sent.join().unwrap().status));
    });
    group.fail_over();
    let is_one = || samples(addr).get("sekali_database_synchronous_standbys") == Some(&1.0);
    let moved = until(60, || is_one().then_some(()));
    assert!(moved.is_some(), "{:#?}\n{}", samples(addr), server.log());
}
