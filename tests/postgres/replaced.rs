//! Databases that are no longer those that a running node has opened.

use super::{cluster, node, ready_node};
use crate::support::client::Client;
use crate::support::postgres::Postgres;
use crate::support::process::Server;
use crate::support::service::event;
use crate::support::until;

/// Waits for the end of a node that has found out.
fn expect_end(server: &mut Server) {
    let code = server.wait().and_then(|status| status.code());
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {}", server.log());
    assert!(server.log().contains("not the store's database"), "{}", server.log());
}

fn count(cluster: &Postgres, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    cluster.client("events").query_one(&query, &[]).unwrap().get(0)
}

#[test]
fn a_database_in_the_place_of_another_takes_nothing_from_a_node_that_runs() {
    let Some(cluster) = cluster("") else { return };
    ["events", "new"].iter().for_each(|name| cluster.create(name));
    let dir = tempfile::tempdir().unwrap();
    let (mut other, _) = node(dir.path(), &cluster.url("new"), "local").ready().unwrap();
    assert_eq!(other.terminate(), Some(0));
    let (mut server, addr) = node(dir.path(), &cluster.url("events"), "local").ready().unwrap();
    let publish = |n: usize| Client::new(addr).post("/publish", event(&format!("t{n}"), "e", n).as_bytes());
    (0..20).for_each(|n| assert_eq!(publish(n).unwrap().status, 200));

    let mut admin = cluster.client("postgres");
    admin.batch_execute("DROP DATABASE events WITH (FORCE)").unwrap();
    until(30, || admin.batch_execute("ALTER DATABASE new RENAME TO events").ok()).expect("it is renamed");
    for n in 0..300 {
        let Ok(answer) = publish(n) else { break };
        assert_ne!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    expect_end(&mut server);
    assert_eq!((count(&cluster, "sekali_events"), count(&cluster, "sekali_topics")), (0, 0));
}

#[test]
fn a_database_that_becomes_another_under_its_connections_ends_the_node() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    for change in [
        "UPDATE sekali_store SET hash_key = gen_random_uuid()",
        "UPDATE sekali_store SET database_id = gen_random_uuid()",
    ] {
        let (mut server, _) = start.ready().unwrap();
        assert_eq!(cluster.client("events").execute(change, &[]).unwrap(), 1);
        expect_end(&mut server);
    }
}

#[test]
fn a_topic_of_another_slot_takes_no_event() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, mut server, addr) = ready_node(&cluster);
    let publish = |id: &str| Client::new(addr).post("/publish", event("t", id, 1).as_bytes()).unwrap().status;
    assert_eq!(publish("first"), 200);
    cluster.client("events").execute("UPDATE sekali_topics SET slot = (slot + 1) % 64", &[]).unwrap();
    assert_ne!(publish("second"), 200);
    assert_eq!(count(&cluster, "sekali_events"), 1);
    server.kill();
}

#[test]
fn a_database_without_the_function_that_stores_ends_the_node() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, mut server, addr) = ready_node(&cluster);
    cluster.client("events").batch_execute("DROP FUNCTION sekali_append").unwrap();
    let answer = Client::new(addr).post("/publish", event("t", "e", 1).as_bytes());
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 500));
    expect_end(&mut server);
}
