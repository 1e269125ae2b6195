//! The checker's clients at work while servers are killed.

use super::{cluster, node};
use crate::support::checker::{check, check_touched, expect_clean};
use crate::support::load::Workload;
use crate::support::reader::HttpReader;
use crate::support::{rounds, seed, until};

/// Clients of the load.
const CLIENTS: u64 = 8;

#[test]
fn kills_of_the_service_and_of_the_database_lose_nothing_that_was_answered() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    let (seed, rounds) = (seed(), rounds("SEKALI_DATABASE_KILLS"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut workload = Workload::new(seed);
    let (mut server, mut addr) = start.ready().unwrap();
    let (mut of_service, mut of_database) = (0, 0);
    for round in 0..rounds {
        let before = workload.consumed();
        let run = workload.start(addr, CLIENTS);
        assert!(run.acknowledged(rng.u64(20..80)), "round {round}: {}", server.log());
        let gets_on = until(60, || (workload.consumed() > before).then_some(()));
        assert!(gets_on.is_some(), "round {round}: the consumer does not get on: {}", server.log());
        let which = if round < 2 { round } else { rng.u64(..3) };
        if which != 0 {
            cluster.kill();
            of_database += 1;
        }
        if which != 1 {
            server.kill();
            of_service += 1;
        }
        if which != 0 {
            cluster.run();
        }
        run.stop();
        if which != 1 {
            (server, addr) = start.ready().unwrap();
        }
        let mut reader = HttpReader::new(addr);
        let is_last = round + 1 == rounds;
        let violations = workload.history(|history| match is_last || round % 5 == 4 {
            true => check(history, &mut reader, seed),
            false => check_touched(history, &mut reader),
        });
        let when = format!("after round {round}, kind {which}");
        expect_clean(&violations, seed, &when, &format!("{}\n{}", server.log(), cluster.log()));
        workload.expect_in_order();
    }
    eprintln!(
        "{of_service} kills of the service, {of_database} of the database, no violation (SEKALI_SEED={seed})"
    );
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}
