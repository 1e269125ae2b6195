//! What is answered while the standbys that the database asks for are not there.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::postgres::Postgres;
use crate::support::process::Server;
use crate::support::service::event;
use crate::support::until;

/// A node on a database that waits for a standby that does not exist. An event was stored before: `old` in
/// the topic `t`.
pub fn without_standbys(cluster: &Postgres, dir: &Path) -> (Server, SocketAddr) {
    cluster.create("events");
    let (mut server, addr) = node(dir, &cluster.url("events"), "local").ready().unwrap();
    assert_eq!(Client::new(addr).post("/publish", event("t", "old", 1).as_bytes()).unwrap().status, 200);
    assert_eq!(server.terminate(), Some(0));
    wait_for_nobody(cluster);
    node(dir, &cluster.url("events"), "replicated").spawn_listening().unwrap()
}

/// Somebody who wants to help, and cancels every wait for a standby.
pub struct Helper {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(i64, postgres::Client)>,
}

impl Helper {
    pub fn start(mut admin: postgres::Client) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut cancelled = 0;
            while !ends.load(Ordering::SeqCst) {
                let query =
                    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
                // The helper's own statements write nothing, so they wait for nobody.
                cancelled += admin.query_one(query, &[]).unwrap().get::<_, i64>(0);
                sekali::sync::park_timeout(std::time::Duration::from_millis(20));
            }
            (cancelled, admin)
        });
        Self { is_over, thread }
    }

    /// How many waits were cancelled, and the connection that did it.
    pub fn stop(self) -> (i64, postgres::Client) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Has commits wait for a standby that does not exist.
fn wait_for_nobody(cluster: &Postgres) {
    let mut admin = cluster.client("events");
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let query = "SELECT current_setting('synchronous_standby_names')";
    let is_set =
        || (cluster.client("events").query_one(query, &[]).ok()?.get::<_, &str>(0) == "nobody").then_some(());
    until(30, is_set).expect("it is set");
}

#[test]
fn a_node_that_promises_the_disk_of_the_primary_waits_for_no_standby() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    wait_for_nobody(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = node(dir.path(), &cluster.url("events"), "local").ready().unwrap();
    let mut client = Client::new(addr);
    assert_eq!(client.post("/publish", event("t", "e", 1).as_bytes()).unwrap().status, 200);
    assert_eq!(client.get("/events/t/e").unwrap().status, 200);
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn a_first_start_says_for_which_standbys_it_waits() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    wait_for_nobody(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let mut server = node(dir.path(), &cluster.url("events"), "replicated").spawn();
    let is_told =
        until(30, || server.log().contains("\"synchronous_standby_names\":\"nobody\"").then_some(()));
    assert!(is_told.is_some(), "{}", server.log());
    server.kill();
}

#[test]
fn without_a_standby_nothing_is_acknowledged_even_if_waits_are_cancelled() {
    let Some(cluster) = cluster("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = without_standbys(&cluster, dir.path());
    let admin = cluster.client("events");
    let mut client = Client::new(addr);
    let ready = client.get("/readyz").unwrap();
    let why = String::from_utf8_lossy(&ready.body).into_owned();
    assert_eq!(ready.status, 503, "{why}");
    assert!(why.contains("standbys"), "{why}");

    let helper = Helper::start(admin);
    for (what, id) in [("a new event", "new"), ("a duplicate", "old")] {
        let answer = client.post("/publish", event("t", id, 1).as_bytes()).unwrap();
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 503, "{what} was acknowledged: {json}\n{}", server.log());
    }
    let shown = client.get("/events/t/new").unwrap();
    assert_ne!(shown.status, 200, "an event is shown that no standby has");
    let (cancelled, mut admin) = helper.stop();
    assert!(cancelled > 0, "no wait was cancelled");

    // Without any name, commits wait for nobody: that is refused too.
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let told = until(30, || {
        let ready = client.get("/readyz").ok()?;
        String::from_utf8_lossy(&ready.body).contains("synchronous_standby_names").then_some(())
    });
    assert!(told.is_some(), "{}", server.log());
    let answer = client.post("/publish", event("t", "later", 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 503, "an event was acknowledged without a standby");
    server.kill();
}
