//! Clients that hold what they can get and do nothing with it, beside honest ones that publish and
//! ask for health.
//!
//! Each attack meets a service of its own. What honest clients of the same kind take is measured
//! first, on another: the peak of resident memory under attack may be half as much again, and the
//! room for answers. Latencies are printed and not asserted, as machines are shared.
//! `SEKALI_ATTACK_ROUNDS` says how many rounds are played, `SEKALI_ATTACK_KINDS` how many of the
//! attacks in each (`SEKALI_SEED` draws them), and `SEKALI_ATTACK_SECONDS` for how long;
//! `SEKALI_ATTACKS` leaves those whose names contain it.

mod honest;
mod kinds;

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::process::{Server, Start};
use crate::support::{rounds, seed, until};
use honest::{Honest, Seen, fill, peak_mib};
use kinds::{Attack, attacks};
use sekali::limits::ANSWER_BYTES_INFLIGHT_MAX;

/// How long an attack lasts, and honest clients before it.
fn time() -> Duration {
    Duration::from_secs(rounds("SEKALI_ATTACK_SECONDS"))
}

/// And until a newcomer must be served again.
const SETTLE_SECONDS: u64 = 5;

fn start(attack: &Attack) -> (tempfile::TempDir, Server, SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    (start.generation_events, start.generation_bytes) = (100_000, 64 << 20);
    start.env = attack.settings.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let (server, addr) = start.ready().unwrap();
    fill(addr);
    (dir, server, addr)
}

/// What honest clients meet on a service that nobody attacks while others do honestly what the
/// attack does without an end, and the peak of memory.
fn calm(attack: &Attack) -> (Seen, u64) {
    let (_dir, mut server, addr) = start(attack);
    let idle = Honest::run(addr, time());
    (attack.honest)(addr);
    let peak = peak_mib(&server);
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    (idle, peak)
}

#[test]
fn the_page_says_how_many_kinds_of_attacks_there_are() {
    let page = include_str!("../docs/explanation/reliability.md");
    assert!(page.contains(&format!("of {} kinds |", attacks().len())));
}

#[test]
fn whatever_clients_hold_others_are_served_and_memory_stays_bounded() {
    let mut faults = Vec::new();
    let only = std::env::var("SEKALI_ATTACKS").unwrap_or_default();
    let seed = seed();
    for round in 0..rounds("SEKALI_ATTACK_ROUNDS") {
        let mut attacks = attacks();
        attacks.retain(|attack| attack.name.contains(&only));
        fastrand::Rng::with_seed(seed + round).shuffle(&mut attacks);
        attacks.truncate(usize::try_from(rounds("SEKALI_ATTACK_KINDS")).unwrap_or(usize::MAX));
        eprintln!("round {round}, seed {seed}: {} attacks", attacks.len());
        for attack in attacks {
            let (idle, calm_peak) = calm(&attack);
            let (_dir, mut server, addr) = start(&attack);
            let held = (attack.begin)(addr);
            // The first to come meet connections that the attack has just begun, and that have not
            // been idle yet.
            if until(SETTLE_SECONDS, || honest::is_served(addr).then_some(())).is_none() {
                faults.push(format!("{}: nobody is served", attack.name));
            }
            let seen = Honest::run(addr, time());
            let peak = peak_mib(&server);
            eprintln!(
                "round {round}, {}: idle {idle}; attacked {seen}; peak {calm_peak} MiB honest, {peak} attacked; held {}",
                attack.name,
                held.len(),
            );
            drop(held);
            if server.exited() {
                faults.push(format!("{}: the service ended:\n{}", attack.name, server.log()));
                continue;
            }
            if seen.refused > 0 {
                faults.push(format!("{}: honest clients met {seen}", attack.name));
            }
            // How much of the room for answers honest readers ever fill is up to chance.
            if peak > calm_peak + calm_peak / 2 + (ANSWER_BYTES_INFLIGHT_MAX >> 20) as u64 {
                faults.push(format!("{}: {peak} MiB, honest {calm_peak}", attack.name));
            }
            let after = Honest::run(addr, Duration::from_millis(500));
            if after.refused > 0 {
                faults.push(format!("{}: after it, honest clients met {after}", attack.name));
            }
            assert_eq!(server.terminate(), Some(0), "{}: {}", attack.name, server.log());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
