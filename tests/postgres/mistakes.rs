//! Mistakes that are put into the database itself, each of which these tests must find: a test that finds
//! none proves nothing.

use super::promise::without_standbys;
use super::{cluster, node};
use crate::support::checker::check;
use crate::support::client::Client;
use crate::support::history::Kind;
use crate::support::load::Workload;
use crate::support::postgres::Postgres;
use crate::support::reader::HttpReader;
use crate::support::seed;
use crate::support::service::event;

/// Replaces each of these pieces, which must be there once, of the function that stores.
fn put_wrong(cluster: &Postgres, pieces: &[(&str, &str)]) {
    let mut admin = cluster.client("events");
    let row = admin.query_one("SELECT pg_get_functiondef('sekali_append'::regproc)", &[]).unwrap();
    let mut definition: String = row.get(0);
    for (right, wrong) in pieces {
        assert_eq!(definition.matches(right).count(), 1, "{right:?} is not there once");
        definition = definition.replace(right, wrong);
    }
    // Where no standby answers, this would wait for it.
    admin.batch_execute("SET synchronous_commit = local").unwrap();
    admin.batch_execute(&definition).unwrap();
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
