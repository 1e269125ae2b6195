//! Nodes of two versions beside each other, as when nodes are upgraded one by one.

use std::time::Duration;

use super::{cluster, node};
use crate::support::checker::{check, expect_clean};
use crate::support::client::Client;
use crate::support::load::Workload;
use crate::support::reader::HttpReader;
use crate::support::relay::Relay;
use crate::support::service::event;
use crate::support::{seed, until};

/// What a newer version may do to the schema when its first node starts: each table gets a column, and
/// there is one more. As such a migration must, it first locks the table with which appends begin.
const NEXT: &str = "
    BEGIN;
    LOCK TABLE sekali_schema IN EXCLUSIVE MODE;
    LOCK TABLE sekali_attempts IN ACCESS EXCLUSIVE MODE;
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT relname FROM pg_class
                    WHERE relname LIKE 'sekali_%' AND relkind IN ('r', 'p') AND NOT relispartition LOOP
            EXECUTE format('ALTER TABLE %I ADD COLUMN of_next bigint NOT NULL DEFAULT 7', name);
        END LOOP;
    END
    $$;
    CREATE TABLE sekali_next (number bigint PRIMARY KEY);
    INSERT INTO sekali_schema (version) SELECT max(version) + 1 FROM sekali_schema;
    COMMIT;";

/// What the newest migration has made is taken back.
const BEFORE: &str = "
    ALTER TABLE sekali_store DROP COLUMN filled_from;
    DELETE FROM sekali_schema WHERE version = 3;";
/// From now on names without a schema would be looked for, and made, in this one first.
const IN_THE_WAY: &str = "DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$";

#[test]
fn a_migration_changes_the_store_where_it_is_whatever_schema_comes_first() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (mut server, addr) = start.ready().unwrap();
    let publish = |addr| Client::new(addr).post("/publish", event("t", "1", "1").as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&publish(addr).body).contains(r#""unique_processed":1"#));
    assert_eq!(server.terminate(), Some(0));
    let mut admin = cluster.client("events");
    admin.batch_execute(BEFORE).unwrap();
    admin.batch_execute(IN_THE_WAY).unwrap();
    let (mut server, addr) = start.ready().unwrap();
    assert!(server.log().contains("the schema is brought up to date"), "{}", server.log());
    assert!(String::from_utf8_lossy(&publish(addr).body).contains(r#""duplicate_dropped":1"#));
    assert_eq!(server.terminate(), Some(0));
    let made = "SELECT count(*) FROM pg_class WHERE relnamespace = current_user::regnamespace";
    assert_eq!(admin.query_one(made, &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn nodes_go_on_beside_a_newer_schema_and_do_not_start_on_it() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let ((mut first, addr), (mut second, other)) = (start.ready().unwrap(), start.ready().unwrap());
    let (seed, relay) = (seed(), Relay::among(vec![addr, other]));
    let mut workload = Workload::new(seed);
    let run = workload.start(relay.addr, 8);
    assert!(run.acknowledged(40), "{}", first.log());
    // A node tries again if the database chose its migration to end a deadlock with readers.
    let is_made = until(30, || cluster.client("events").batch_execute(NEXT).ok());
    assert!(is_made.is_some(), "{}", cluster.log());
    for node in [&first, &second] {
        let is_told = until(30, || node.log().contains("and this program knows").then_some(()));
        assert!(is_told.is_some(), "{}", node.log());
    }
    assert!(run.acknowledged_more_within(60, Duration::from_secs(60)), "{}", first.log());
    run.stop();
    let mut reader = HttpReader::new(other);
    let violations = workload.history(|history| check(history, &mut reader, seed));
    expect_clean(&violations, seed, "beside a newer schema", &format!("{}\n{}", first.log(), second.log()));
    workload.expect_in_order();
    assert!(workload.consumed() > 0, "nothing was acknowledged");
    let log = cluster.log();
    let mut errors = log.lines().filter(|line| line.contains("ERROR"));
    assert!(errors.all(|line| line.contains("deadlock detected")), "{log}");

    assert_eq!(first.terminate(), Some(0), "{}", first.log());
    let mut again = start.spawn();
    assert_eq!(again.wait().and_then(|status| status.code()), Some(5), "{}", again.log());
    assert!(again.log().contains("use the newer program"), "{}", again.log());
    let run = workload.start(other, 8);
    assert!(run.acknowledged(40), "{}", second.log());
    run.stop();
    assert_eq!(second.terminate(), Some(0), "{}", second.log());
}
