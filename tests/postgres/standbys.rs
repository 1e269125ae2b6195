//! A primary that is lost, and standbys one of which takes its place.

use super::group::Group;
use crate::node;
use crate::support::checker::{check, expect_clean};
use crate::support::load::Workload;
use crate::support::reader::HttpReader;
use crate::support::{rounds, seed};

#[test]
fn what_was_answered_outlives_the_primary() {
    let Some(mut group) = Group::with("events") else { return };
    let (seed, rounds) = (seed(), rounds("SEKALI_DATABASE_FAILOVERS"));
    let mut workload = Workload::new(seed);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let start = node(dir.path(), &group.url("events"), "replicated");
        let (mut server, addr) = start.ready().unwrap();
        let run = workload.start(addr, 8);
        assert!(run.acknowledged(60), "{}", server.log());
        group.fail_over();
        // The same process finds the new primary: more is answered than was under way.
        assert!(run.acknowledged(150), "{}", server.log());
        run.stop();
        let mut reader = HttpReader::new(addr);
        let violations = workload.history(|history| check(history, &mut reader, seed));
        expect_clean(&violations, seed, &format!("after fail-over {round}"), &server.log());
        workload.expect_in_order();
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        group.mend();
    }
    assert!(workload.consumed() > rounds, "too few acknowledgements: {}", workload.consumed());
    eprintln!("{rounds} primaries were lost, no violation (SEKALI_SEED={seed})");
}
