//! A primary that is lost, and standbys one of which takes its place.

use super::group::Group;
use super::node;
use super::watching::Watchers;
use crate::support::checker::{check, expect_clean};
use crate::support::load::Workload;
use crate::support::reader::HttpReader;
use crate::support::relay::Relay;
use crate::support::{rounds, seed, until};

#[test]
fn what_was_answered_outlives_the_primary() {
    let Some(mut group) = Group::with("events") else { return };
    let (seed, rounds) = (seed(), rounds("SEKALI_DATABASE_FAILOVERS"));
    let mut workload = Workload::new(seed);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let start = node(dir.path(), &group.url("events"), "replicated");
        let (mut servers, addrs): (Vec<_>, Vec<_>) = (0..2).map(|_| start.ready().unwrap()).unzip();
        let run = workload.start(Relay::among(addrs.clone()).addr, 8);
        let watchers = Watchers::start(&addrs);
        assert!(run.acknowledged(60), "{}", servers[0].log());
        group.fail_over();
        // The same processes find the new primary: more is answered than was under way.
        assert!(run.acknowledged(150), "{}", servers[0].log());
        let before = workload.consumed();
        let goes_on = until(60, || (workload.consumed() > before + 1).then_some(()));
        assert!(goes_on.is_some(), "the consumer does not get on: {}", servers[0].log());
        run.stop();
        watchers.finish();
        let mut reader = HttpReader::new(addrs[0]);
        let violations = workload.history(|history| check(history, &mut reader, seed));
        expect_clean(&violations, seed, &format!("after fail-over {round}"), &servers[0].log());
        workload.expect_in_order();
        for server in &mut servers {
            assert_eq!(server.terminate(), Some(0), "{}", server.log());
        }
        group.mend();
    }
    eprintln!("{rounds} primaries were lost, no violation (SEKALI_SEED={seed})");
}
