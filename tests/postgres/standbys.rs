//! A primary that is lost, and standbys one of which takes its place.

use crate::support::checker::{check, expect_clean};
use crate::support::load::Workload;
use crate::support::postgres::Postgres;
use crate::support::reader::HttpReader;
use crate::support::{rounds, seed, until};
use crate::{cluster, node};

const NAMES: [&str; 2] = ["one", "two"];
const QUORUM: &str = "synchronous_standby_names = 'ANY 1 (one, two)'";

/// Waits until so many standbys have what the primary has.
fn connected(primary: &Postgres, standbys: i64) {
    let mut client = primary.client("postgres");
    let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    let are_there =
        until(60, || (client.query_one(query, &[]).ok()?.get::<_, i64>(0) == standbys).then_some(()));
    assert!(are_there.is_some(), "the standbys do not follow: {}", primary.log());
}

#[test]
fn what_was_answered_outlives_the_primary() {
    let Some(mut primary) = cluster("") else { return };
    primary.create("events");
    let mut standbys = NAMES.map(|name| Postgres::standby_of(&primary, name).unwrap());
    connected(&primary, 2);
    let mut admin = primary.client("postgres");
    admin.batch_execute(&format!("ALTER SYSTEM SET {QUORUM}")).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let (seed, rounds) = (seed(), rounds("SEKALI_DATABASE_FAILOVERS"));
    let mut workload = Workload::new(seed);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let hosts = [&primary, &standbys[0], &standbys[1]].map(Postgres::host).join(",");
        let start = node(dir.path(), &format!("postgres://postgres@{hosts}/events"), "replicated");
        let (mut server, addr) = start.ready().unwrap();
        let run = workload.start(addr, 8);
        assert!(run.acknowledged(60), "{}", server.log());
        primary.kill();
        // The one that has more has all that was acknowledged, as each commit is on one of them.
        let [one, two] = &standbys;
        let (next, other, name) =
            if one.received() >= two.received() { (one, two, NAMES[1]) } else { (two, one, NAMES[0]) };
        next.promote();
        next.client("postgres").batch_execute(&format!("ALTER SYSTEM SET {QUORUM}")).unwrap();
        next.client("postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
        other.follow(next, name);
        connected(next, 1);
        // The same process finds the new primary: more is answered than was under way.
        assert!(run.acknowledged(150), "{}", server.log());
        run.stop();
        let mut reader = HttpReader::new(addr);
        let violations = workload.history(|history| check(history, &mut reader, seed));
        expect_clean(&violations, seed, &format!("after fail-over {round}"), &server.log());
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        let is_one = std::ptr::eq(next, &raw const standbys[0]);
        let [one, two] = standbys;
        let (next, other) = if is_one { (one, two) } else { (two, one) };
        let name = if is_one { NAMES[0] } else { NAMES[1] };
        // A new standby takes the name of the one that is the primary now.
        let fresh = Postgres::standby_of(&next, name).unwrap();
        connected(&next, 2);
        standbys = if is_one { [fresh, other] } else { [other, fresh] };
        primary = next;
    }
    eprintln!("{rounds} primaries were lost, no violation (SEKALI_SEED={seed})");
}
