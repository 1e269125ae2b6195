//! Mistakes that are put into the database itself, each of which these tests must find: a test that finds
//! none proves nothing.

use std::collections::HashSet;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use super::plans::touched;
use super::promise::{Helper, without_standbys};
use super::{cluster, node, ready_node};
use crate::support::checker::check;
use crate::support::client::Client;
use crate::support::consuming::Consuming;
use crate::support::history::Kind;
use crate::support::load::Workload;
use crate::support::postgres::Postgres;
use crate::support::reader::{HttpReader, message};
use crate::support::service::event;
use crate::support::{seed, until};

/// Replaces each of these pieces, which must be there once, of the function that stores.
fn put_wrong(cluster: &Postgres, pieces: &[(&str, &str)]) {
    put_wrong_in(cluster, "sekali_append", pieces);
}

/// The same in a function of this name.
fn put_wrong_in(cluster: &Postgres, function: &str, pieces: &[(&str, &str)]) {
    let mut admin = cluster.client("events");
    let row = admin.query_one("SELECT pg_get_functiondef($1::text::regproc)", &[&function]).unwrap();
    let mut definition: String = row.get(0);
    for (right, wrong) in pieces {
        assert_eq!(definition.matches(right).count(), 1, "{right:?} is not there once");
        definition = definition.replace(right, wrong);
    }
    put(cluster, &definition);
}

/// Changes the schema.
fn put(cluster: &Postgres, change: &str) {
    let mut admin = cluster.client("events");
    // Where no standby answers, this would wait for it.
    admin.batch_execute("SET synchronous_commit = local").unwrap();
    admin.batch_execute(change).unwrap();
}

#[test]
fn commits_that_do_not_wait_for_the_disk_are_found_to_be_lost() {
    let Some(cluster) = cluster("wal_writer_delay = 10s\nwal_writer_flush_after = 1GB") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (mut server, mut addr) = start.ready().unwrap();
    put_wrong(
        &cluster,
        &[("BEGIN\n    -- Time", "BEGIN\n    SET LOCAL synchronous_commit = off;\n    -- Time")],
    );
    let seed = seed();
    let mut workload = Workload::new(seed);
    // What commits in the right way takes the others along, so that a kill may lose nothing.
    for round in 1..=10 {
        let run = workload.start(addr, 8);
        assert!(run.acknowledged(40), "{}", server.log());
        cluster.kill();
        server.kill();
        run.stop();
        cluster.run();
        (server, addr) = start.ready().unwrap();
        let violations = workload.history(|history| check(history, &mut HttpReader::new(addr), seed));
        if violations.iter().any(|violation| violation.kind == Kind::Lost) {
            eprintln!("found by kill {round} (SEKALI_SEED={seed})");
            server.kill();
            return;
        }
        assert!(violations.is_empty(), "something else than a loss: {violations:#?}");
    }
    panic!("seed {seed}: commits that wait for no disk were not found");
}

#[test]
fn a_duplicate_whose_answer_commits_nothing_is_found_to_be_acknowledged_by_the_primary_alone() {
    let Some(cluster) = cluster("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = without_standbys(&cluster, dir.path());
    put_wrong(
        &cluster,
        &[(
            "BEGIN\n    -- Time",
            "BEGIN
                 IF EXISTS (SELECT FROM sekali_ids k WHERE k.slot = of_slot AND k.event_id = event_ids[1]) THEN
                     SELECT '{1}'::smallint[], '{0}'::bigint[], '{0}'::bigint[], t.next_seq, t.commits, t.next_topic
                     INTO statuses, offsets, first_seen, slot_next_seq, slot_commits, slot_next_topic
                     FROM sekali_slots t WHERE t.slot = of_slot;
                     RETURN NEXT;
                     RETURN;
                 END IF;
                 -- Time",
        )],
    );
    let answer = Client::new(addr).post("/publish", event("t", "old", 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "the mistake is not seen: {}", server.log());
    server.kill();
}

/// The ids of what a tail over all topics is shown from the beginning, until nothing more comes for a while.
fn tailed(addr: SocketAddr) -> mpsc::Receiver<String> {
    let (shown, ids) = mpsc::channel();
    std::thread::spawn(move || {
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(20)));
        let agent = Agent::from(config.build());
        let request = agent.get(format!("http://{addr}/events")).header("accept", "text/event-stream");
        let mut stream = BufReader::new(request.call().unwrap().into_body().into_reader());
        while let Some((_, event)) = message(&mut stream)
            && shown.send(event["event_id"].as_str().unwrap().to_owned()).is_ok()
        {}
    });
    ids
}

/// The event `slow` takes a second to be stored once it has its number. What of it and of `fast`, which goes
/// into the same slot through another node meanwhile, a tail is shown, in their order.
fn shown_beside_a_slow_statement(pieces: &[(&str, &str)]) -> Option<Vec<String>> {
    let cluster = cluster("")?;
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (mut slow, addr) = start.ready().unwrap();
    let (mut fast, other) = start.ready().unwrap();
    // There are fewer slots than topics, so some share one.
    let mut client = Client::new(addr);
    let topics: Vec<String> = (0..100).map(|n| event(&format!("t{n}"), "first", n)).collect();
    assert_eq!(client.post("/publish", format!("[{}]", topics.join(",")).as_bytes()).unwrap().status, 200);
    let pair = "SELECT min(name), max(name) FROM sekali_topics GROUP BY slot HAVING count(*) > 1 LIMIT 1";
    let row = cluster.client("events").query_one(pair, &[]).unwrap();
    let (topic, beside): (String, String) = (row.get(0), row.get(1));
    let pause = "IF 2 = ANY (statuses) THEN\n        topic_conflicts";
    let sleeps = format!("IF event_ids[1] = 'slow' THEN PERFORM pg_sleep(1); END IF;\n    {pause}");
    put(&cluster, "CREATE SEQUENCE handed_out START 100");
    put_wrong(&cluster, &[pieces, &[(pause, &sleeps)]].concat());

    let ids = tailed(other);
    let sender = std::thread::spawn(move || {
        assert_eq!(client.post("/publish", event(&topic, "slow", 1).as_bytes()).unwrap().status, 200);
    });
    let sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let mut admin = cluster.client("events");
    until(10, || (!admin.query(sleeping, &[]).unwrap().is_empty()).then_some(())).expect("it sleeps");
    let answer = Client::new(other).post("/publish", event(&beside, "fast", 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", fast.log());
    sender.join().unwrap();
    let shown = std::iter::from_fn(|| ids.recv_timeout(Duration::from_secs(3)).ok());
    let shown = shown.filter(|id| id != "first").collect();
    slow.kill();
    fast.kill();
    Some(shown)
}

#[test]
fn a_reader_is_shown_what_is_stored_slowly_and_numbers_of_a_sequence_are_found_to_be_skipped() {
    let Some(shown) = shown_beside_a_slow_statement(&[]) else { return };
    assert_eq!(shown, ["slow", "fast"]);
    let shown = shown_beside_a_slow_statement(&[
        (" WHERE t.slot = of_slot FOR UPDATE) s", " WHERE t.slot = of_slot) s"),
        ("of_attempt, s.next_seq, 1,", "of_attempt, nextval('handed_out'), 1,"),
        ("next_seq = t.next_seq + stored,", "next_seq = greatest(t.next_seq, own_first + stored),"),
    ]);
    assert_eq!(shown.unwrap(), ["fast"], "the mistake is not seen");
}

#[test]
fn a_read_for_which_nothing_is_committed_is_found_to_show_what_the_primary_alone_has() {
    let Some(cluster) = cluster("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut server, addr) = without_standbys(&cluster, dir.path());
    // What waits for a standby holds locks.
    let helper = Helper::start(cluster.client("events"));
    put(
        &cluster,
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON sekali_nodes FOR EACH ROW EXECUTE FUNCTION nothing()",
    );
    let mut client = Client::new(addr);
    assert_eq!(client.post("/publish", event("t", "new", 1).as_bytes()).unwrap().status, 503);
    helper.stop();
    let shown = client.get("/events/t/new").unwrap();
    assert_eq!(shown.status, 200, "the mistake is not seen: {}", server.log());
    server.kill();
}

/// Whether an event is known as a duplicate after the events were dropped.
fn is_known_without_events(pieces: &[(&str, &str)]) -> Option<bool> {
    let cluster = cluster("")?;
    let (_dir, mut server, addr) = ready_node(&cluster);
    put_wrong(&cluster, pieces);
    let mut client = Client::new(addr);
    let mut publish = || client.post("/publish?results=all", event("t", "old", 1).as_bytes()).unwrap();
    assert_eq!(publish().status, 200);
    assert_eq!(cluster.client("events").execute("DELETE FROM sekali_events", &[]).unwrap(), 1);
    let json: Value = serde_json::from_slice(&publish().body).unwrap();
    server.kill();
    Some(json["results"][0]["status"] == "duplicate")
}

#[test]
fn ids_are_known_without_their_events_and_ids_among_the_events_are_found_to_be_forgotten() {
    let Some(is_known) = is_known_without_events(&[]) else { return };
    assert!(is_known);
    let among_events = "FROM sekali_ids k
          WHERE EXISTS (SELECT FROM sekali_events v WHERE v.slot = k.slot AND v.seq = k.seq) AND k.slot = of_slot";
    let is_known =
        is_known_without_events(&[("FROM sekali_ids k\n          WHERE k.slot = of_slot", among_events)]);
    assert!(!is_known.unwrap(), "the mistake is not seen");
}

/// The tables of which rows were changed elsewhere than in their place, or dropped, after many statements.
fn moved_rows(change: &str) -> Option<HashSet<String>> {
    let cluster = cluster("")?;
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (mut server, _) = start.ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    put(&cluster, change);
    let mut admin = cluster.client("events");
    admin.execute("SELECT pg_stat_reset()", &[]).unwrap();
    let (mut server, addr) = start.ready().unwrap();
    let mut client = Client::new(addr);
    for n in 0..400 {
        assert_eq!(client.post("/publish", event("t", &format!("e{n}"), n).as_bytes()).unwrap().status, 200);
    }
    // A server process tells what it has done when its connection ends.
    assert_eq!(server.terminate(), Some(0));
    let updates = "SELECT FROM pg_stat_user_tables WHERE relname = 'sekali_slots' AND n_tup_upd >= 400";
    until(30, || (!admin.query(updates, &[]).unwrap().is_empty()).then_some(())).expect("it is told");
    let moved = "SELECT relname::text FROM pg_stat_user_tables
                 WHERE relname ~ '^sekali_' AND n_tup_upd - n_tup_hot_upd + n_tup_del > 40";
    Some(admin.query(moved, &[]).unwrap().iter().map(|row| row.get(0)).collect())
}

#[test]
fn rows_are_changed_in_their_place_and_an_index_of_a_count_is_found_to_move_them() {
    let Some(moved) = moved_rows("SELECT 1") else { return };
    assert_eq!(moved, HashSet::new());
    let moved = moved_rows("CREATE INDEX ON sekali_slots (next_seq)").unwrap();
    assert_eq!(moved, HashSet::from(["sekali_slots".to_owned()]), "the mistake is not seen");
}

#[test]
fn a_look_up_that_does_not_name_its_slot_is_found_to_touch_every_partition() {
    let Some(cluster) = cluster("") else { return };
    let touched = touched(&cluster, || {
        let names = "FROM sekali_ids k\n          WHERE k.slot = of_slot";
        put_wrong(&cluster, &[(names, "FROM sekali_ids k\n          WHERE k.slot + 0 = of_slot")]);
    });
    assert!(touched.len() > 2, "the mistake is not seen: {touched:?}");
}

/// A worker goes on over kills of the database right after its acknowledgements; what was found within so
/// many rounds, with these pieces of what acknowledges replaced.
fn found_over_kills(rounds: u64, pieces: &[(&str, &str)]) -> Option<Vec<String>> {
    let cluster = cluster("wal_writer_delay = 10s\nwal_writer_flush_after = 1GB")?;
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (mut server, mut addr) = start.ready().unwrap();
    put_wrong_in(&cluster, "sekali_acknowledge", pieces);
    let events: Vec<String> = (0..500).map(|n| event("t", &format!("e{n}"), n)).collect();
    let answer = Client::new(addr).post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", server.log());
    make_checked(addr);
    let consuming = Consuming::default();
    for _ in 0..rounds {
        let mut clients = [Client::new(addr)];
        for _ in 0..5 {
            step(&consuming, &mut clients, "limit=3&holder=worker");
        }
        cluster.kill();
        server.kill();
        cluster.run();
        (server, addr) = start.ready().unwrap();
        step(&consuming, &mut [Client::new(addr)], "limit=3&holder=worker");
        if !consuming.violations().is_empty() {
            break;
        }
    }
    server.kill();
    Some(consuming.violations())
}

fn make_checked(addr: SocketAddr) {
    let json = [("Content-Type", "application/json")];
    let made = Client::new(addr).send("PUT", "/consumers/checked", &json, br#"{"topics":["*"]}"#).unwrap();
    assert_eq!(made.status, 201);
}

fn step(consuming: &Consuming, clients: &mut [Client], query: &str) {
    consuming.step(clients, (0, Some(0)), query, &AtomicBool::new(false)).unwrap();
}

#[test]
fn an_acknowledgement_that_does_not_wait_for_the_disk_is_found_to_go_back() {
    let Some(found) = found_over_kills(2, &[]) else { return };
    assert_eq!(found, Vec::<String>::new());
    let begin = "BEGIN\n    SELECT * INTO known";
    let wrong = "BEGIN\n    SET LOCAL synchronous_commit = off;\n    SELECT * INTO known";
    let found = found_over_kills(10, &[(begin, wrong)]).unwrap();
    assert!(!found.is_empty(), "the mistake is not seen");
}

/// What a worker finds that goes through two topics, with these pieces of what acknowledges replaced.
fn found_in_two_topics(pieces: &[(&str, &str)]) -> Option<Vec<String>> {
    let cluster = cluster("")?;
    let (_dir, mut server, addr) = ready_node(&cluster);
    put_wrong_in(&cluster, "sekali_acknowledge", pieces);
    let events = (0..10).map(|n| event(["a", "b"][n % 2], &format!("e{n}"), n)).collect::<Vec<_>>();
    let answer = Client::new(addr).post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
    make_checked(addr);
    let (consuming, mut clients) = (Consuming::default(), [Client::new(addr)]);
    for _ in 0..12 {
        step(&consuming, &mut clients, "limit=1&holder=worker");
    }
    server.kill();
    Some(consuming.violations())
}

#[test]
fn a_position_that_is_kept_under_another_name_is_found() {
    let Some(found) = found_in_two_topics(&[]) else { return };
    assert_eq!(found, Vec::<String>::new());
    let right = "SELECT of_number, t.name, t.next_offset";
    let wrong = "SELECT of_number, CASE t.name WHEN 'a' THEN 'b' ELSE 'a' END, t.next_offset";
    let found = found_in_two_topics(&[(right, wrong)]).unwrap();
    assert!(!found.is_empty(), "the mistake is not seen");
}

/// The status of an acknowledgement after its lease was over, and that of a second reader beside one who has
/// a lease, with these pieces of functions replaced.
fn refusals(pieces: &[(&str, &str, &str)]) -> Option<(u16, u16)> {
    let cluster = cluster("")?;
    let (_dir, mut server, addr) = ready_node(&cluster);
    for (function, right, wrong) in pieces {
        put_wrong_in(&cluster, function, &[(right, wrong)]);
    }
    let mut client = Client::new(addr);
    assert_eq!(client.post("/publish", event("t", "e", 1).as_bytes()).unwrap().status, 200);
    make_checked(addr);
    let late = client.get("/consumers/checked/events?lease=1s").unwrap();
    let late: Value = serde_json::from_slice(&late.body).unwrap();
    let leases = "SELECT FROM sekali_leases WHERE until > sekali_now()";
    let mut admin = cluster.client("events");
    until(20, || admin.query(leases, &[]).unwrap().is_empty().then_some(())).expect("the lease ends");
    let receipt = serde_json::json!({"receipt": late["receipt"]}).to_string();
    let acknowledged = client.post("/consumers/checked/ack", receipt.as_bytes()).unwrap().status;
    assert_eq!(client.get("/consumers/checked/events?holder=first").unwrap().status, 200);
    let beside = client.get("/consumers/checked/events?holder=second").unwrap().status;
    server.kill();
    Some((acknowledged, beside))
}

#[test]
fn leases_count_and_those_that_are_not_looked_at_are_found() {
    let Some(statuses) = refusals(&[]) else { return };
    assert_eq!(statuses, (409, 409));
    let unlooked = ("sekali_acknowledge", "IF cardinality(further) > 0 AND NOT FOUND THEN", "IF false THEN");
    assert_eq!(refusals(&[unlooked]).unwrap().0, 200, "the mistake is not seen");
    let others = "WHERE l.consumer = of_number\n      -- A hash";
    let shared = ("sekali_take", others, "WHERE false AND l.consumer = of_number\n      -- A hash");
    assert_eq!(refusals(&[shared]).unwrap().1, 200, "the mistake is not seen");
}
