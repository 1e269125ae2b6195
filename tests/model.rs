//! The local store against a model, in process: random histories of batches, reads, stops, kills, power cuts, I/O
//! errors and full disks, with other worker counts and generation sizes at every start.
//!
//! The disk and the index are in memory and lose what a machine may lose; the clock jumps. After every start the whole
//! store is read and held against what clients were told (`model/expected.rs` says what is checked). A failure prints
//! its history; `SEKALI_SEED` plays it again, thread interleaving aside. `SEKALI_MODEL_CASES` sets how many are played.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

#[path = "model/expected.rs"]
mod expected;
#[path = "model/flaw.rs"]
mod flaw;
#[path = "model/history.rs"]
mod history;
#[path = "model/play.rs"]
mod play;
#[path = "model/reading.rs"]
mod reading;
mod support;
#[path = "model/traffic.rs"]
mod traffic;
#[path = "model/world.rs"]
mod world;

use std::sync::atomic::Ordering;

use flaw::Flaw;
use history::History;
use play::play;
use proptest::prelude::*;
use support::number;

/// Histories of the seeded loop; proptest plays a quarter as many.
const CASES: u64 = 250;
/// Seeds within which a planted fault must be seen.
const PLANTED_CASES: u64 = 200;

fn cases() -> u64 {
    number("SEKALI_MODEL_CASES", CASES)
}

#[test]
fn no_history_of_stops_and_accidents_breaks_a_promise() {
    let first = number("SEKALI_SEED", 1);
    for seed in first..first + cases() {
        let history = History::of(seed);
        if let Err(why) = play(&history, Flaw::None) {
            panic!("SEKALI_SEED={seed} SEKALI_MODEL_CASES=1 plays it again: {why}\n{history}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(cases() / 4).unwrap_or(u32::MAX),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_generated_history_breaks_a_promise(history in History::any()) {
        if let Err(why) = play(&history, Flaw::None) {
            return Err(TestCaseError::fail(why));
        }
    }
}

/// The first promise that is seen broken on a machine with a flaw.
fn caught(flaw: Flaw) -> String {
    let broken = (1..=PLANTED_CASES).find_map(|seed| Some((seed, play(&History::of(seed), flaw).err()?)));
    let (seed, why) = broken.unwrap_or_else(|| panic!("{flaw:?} was not seen in {PLANTED_CASES} histories"));
    eprintln!("{flaw:?} was seen with seed {seed}: {why}");
    why
}

#[test]
fn a_disk_that_does_not_sync_is_caught() {
    caught(Flaw::NoSync);
}

#[test]
fn a_disk_that_does_not_sync_directories_is_caught() {
    caught(Flaw::NoDirSync);
}

#[test]
fn a_disk_that_loses_its_last_write_at_a_power_cut_is_caught() {
    let why = caught(Flaw::LosesLastWrite);
    assert!(!why.contains("hangs"), "{why}");
}

#[test]
fn an_index_that_gives_wrong_offsets_is_caught() {
    caught(Flaw::WrongOffsets);
}

/// The index is trusted after a clean stop, and a claim that it lost would let an event in twice.
#[test]
fn an_index_that_forgets_claims_while_trusted_lets_no_event_in_twice() {
    let mut lies = 0;
    for seed in 1..=PLANTED_CASES / 4 {
        match play(&History::of(seed), Flaw::ForgetsClaims) {
            Ok(world) => lies += world.lies.load(Ordering::Relaxed),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(lies > 0, "the index was never asked for what it forgot");
}
