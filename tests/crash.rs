//! The real process, killed under load again and again on the same data directory. After each start
//! the checker holds what can be read against what the clients were told. `SEKALI_CRASH_ROUNDS`
//! sets the number of rounds.
//!
//! A kill keeps the page cache: what was written but not synced survives it. See `power_cut.rs` for
//! the rest.

use std::time::Duration;

use crate::support::checker::{check, check_touched, expect_clean};
use crate::support::load::Workload;
use crate::support::process::{Server, Start};
use crate::support::reader::HttpReader;
use crate::support::{rounds, seed};

const CLIENTS: u64 = 8;
/// Rounds that one store goes through: what is checked grows with its history.
const STORE_ROUNDS: u64 = 50;
/// Rounds after which everything is read; in between only what changed is.
const FULL_CHECK_ROUNDS: u64 = 20;

fn verify(
    workload: &Workload,
    server: &Server,
    addr: std::net::SocketAddr,
    full: bool,
    seed: u64,
    when: &str,
) {
    let mut reader = HttpReader::new(addr);
    let violations = workload.history(|history| match full {
        true => check(history, &mut reader, seed),
        false => check_touched(history, &mut reader),
    });
    expect_clean(&violations, seed, when, &server.log());
}

/// What was played so far.
#[derive(Clone, Copy, Debug, Default)]
struct Played {
    kills: u64,
    /// With requests under way.
    under_way: u64,
    stops: u64,
    /// Acknowledgements of a consumer.
    consumed: u64,
    stored: u64,
    unknown: u64,
}

/// Rounds on one store, from its first start on.
fn play(rounds: u64, seed: u64, played: &mut Played) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    let mut workload = Workload::new(seed);
    for round in 0..=rounds {
        start.workers = rng.usize(1..=4);
        let (mut server, addr) = start.ready().unwrap_or_else(|e| panic!("round {round}, seed {seed}: {e}"));
        let full = round % FULL_CHECK_ROUNDS == 0 || round == rounds;
        verify(&workload, &server, addr, full, seed, &format!("at the start of round {round}"));
        if round == rounds {
            assert_eq!(server.terminate(), Some(0), "{}", server.log());
            break;
        }
        let before = workload.history(|history| history.tally.unknown);
        let run = workload.start(addr, CLIENTS);
        let enough = run.acknowledged(rng.u64(1..250));
        assert!(enough, "round {round}, seed {seed}: answers stopped; the server's log:\n{}", server.log());
        if rng.u8(..10) == 0 {
            assert_eq!(server.terminate(), Some(0), "round {round}, seed {seed}: {}", server.log());
            played.stops += 1;
        } else {
            server.kill();
            played.kills += 1;
            run.stop();
            played.under_way += u64::from(workload.history(|history| history.tally.unknown) > before);
        }
    }
    workload.expect_in_order();
    played.consumed += workload.consumed();
    let tally = workload.history(|history| history.tally);
    played.stored += tally.stored;
    played.unknown += tally.unknown;
}

#[test]
fn no_answered_event_is_lost_or_doubled_by_sigkill_under_load() {
    let (rounds, seed) = (rounds("SEKALI_CRASH_ROUNDS"), seed());
    let mut played = Played::default();
    for store in 0..rounds.div_ceil(STORE_ROUNDS) {
        play(STORE_ROUNDS.min(rounds - store * STORE_ROUNDS), seed + store, &mut played);
    }
    eprintln!("{rounds} rounds, 0 failures, seed {seed}: {played:?}");
    let Played { kills, under_way, consumed, .. } = played;
    assert!(consumed > kills, "too few acknowledgements: {consumed}");
    assert!(under_way * 2 > kills, "too few kills met a request: {under_way} of {kills}");
}

#[test]
fn no_answered_event_is_lost_by_kills_during_recovery() {
    let (trials, seed) = (rounds("SEKALI_RECOVERY_KILLS"), seed());
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    let mut workload = Workload::new(seed);
    let (mut kills, mut early) = (0, 0);
    for trial in 0..=trials {
        let (mut server, addr) = start.ready().unwrap_or_else(|e| panic!("trial {trial}, seed {seed}: {e}"));
        let full = trial % FULL_CHECK_ROUNDS == 0 || trial == trials;
        verify(&workload, &server, addr, full, seed, &format!("at the start of trial {trial}"));
        if trial == trials {
            break;
        }
        let run = workload.start(addr, CLIENTS);
        assert!(run.acknowledged(rng.u64(50..200)), "trial {trial}, seed {seed}: {}", server.log());
        server.kill();
        run.stop();
        for _ in 0..5 {
            start.workers = rng.usize(1..=4);
            let mut server = start.spawn();
            early += u64::from(!server.listens_within(Duration::from_micros(rng.u64(..60_000))));
            server.kill();
            kills += 1;
        }
    }
    eprintln!(
        "{kills} SIGKILLs after a start, {early} before it listened, in {trials} trials, 0 failures, seed {seed}"
    );
    assert!(early > 0, "no kill met the recovery");
}
