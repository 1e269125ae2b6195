//! What the server does for a statement.

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::postgres::Postgres;
use crate::support::service::event;

/// Scans of each partition since the statistics began, without those that were not touched.
const SCANS: &str = "
    SELECT relname::text, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables
    WHERE relname ~ '^sekali_(ids|events)_[0-9]' AND seq_scan + coalesce(idx_scan, 0) > 0 ORDER BY 1";

/// Stores and reads one topic; the partitions that were touched, each with how often all of it was read,
/// and how often an index. `prepare` may change the schema.
pub fn touched(cluster: &Postgres, prepare: impl FnOnce()) -> Vec<(String, i64, i64)> {
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    // The first node makes the schema, for which it looks at every partition.
    let (mut server, _) = start.ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    prepare();
    let mut admin = cluster.client("events");
    admin.execute("SELECT pg_stat_reset()", &[]).unwrap();
    let (mut server, addr) = start.ready().unwrap();
    let mut client = Client::new(addr);
    for n in (0..3_000).step_by(100).chain([0]) {
        let events: Vec<String> = (n..n + 100).map(|n| event("t", &format!("e{n}"), n)).collect();
        let answer = client.post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap();
        assert_eq!(answer.status, 200);
    }
    for path in [
        "/events?topic=t&limit=500",
        "/events?topic=t&limit=500&order=desc",
        "/events?topic=t&since=2026-01-01T00:00:00Z&limit=10",
        "/events/t/e77",
        "/topics",
        "/stats",
    ] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
    // A server process tells what it has done when its connection ends.
    assert_eq!(server.terminate(), Some(0));
    let rows = crate::support::until(30, || {
        let rows = admin.query(SCANS, &[]).unwrap();
        (rows.len() >= 2).then_some(rows)
    });
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[test]
fn a_topic_is_stored_and_read_by_the_indexes_of_one_partition() {
    let Some(cluster) = cluster("") else { return };
    let touched = touched(&cluster, || ());
    assert_eq!(touched.len(), 2, "one partition of each table: {touched:?}");
    assert!(touched.iter().all(|(_, whole, _)| *whole == 0), "a whole partition was read: {touched:?}");
}
