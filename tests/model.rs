//! The local store against a model, in process: random histories of batches, reads, stops, kills,
//! power cuts, I/O errors and full disks, with other worker counts and generation sizes at every
//! start.
//!
//! The disk and the index are in memory and lose what a machine may lose; the clock jumps. After
//! every start the whole store is read and held against what clients were told (`model/expected.rs`
//! says what is checked).
//!
//! With the feature `simulation` the store's threads run as the seed says, and a history is the
//! same each time: a failure prints its seed and the shortest history that still fails. Without it
//! they are threads of the machine, which really run at once. `SEKALI_MODEL_CASES` sets how many
//! histories are played, `SEKALI_SEED` the first.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

#[path = "model/beside.rs"]
mod beside;
#[path = "model/consuming.rs"]
mod consuming;
#[path = "model/expected.rs"]
mod expected;
#[path = "model/flaw.rs"]
mod flaw;
#[path = "model/history.rs"]
mod history;
#[path = "model/mending.rs"]
mod mending;
#[path = "model/play.rs"]
mod play;
#[path = "model/reading.rs"]
mod reading;
#[path = "model/runtime.rs"]
mod runtime;
mod support;
#[cfg(feature = "simulation")]
#[path = "model/sweep.rs"]
mod sweep;
#[path = "model/traffic.rs"]
mod traffic;
#[path = "model/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use flaw::Flaw;
use history::History;
use mending::{End, Work, prepare};
use runtime::run;
#[cfg(feature = "simulation")]
use support::mem_disk::{Call, Fault};
use support::{number, rounds};

/// Seeds with which a course of events is played that is always the same.
const DIRECTED_SEEDS: u64 = if cfg!(feature = "simulation") { 5 } else { 1 };
/// Seeds with which consumers are played.
const CONSUMING_SEEDS: u64 = if cfg!(feature = "simulation") { 200 } else { 5 };
/// Seeds within which a planted fault must be seen.
const PLANTED_CASES: u64 = 200;

fn cases() -> u64 {
    rounds("SEKALI_MODEL_CASES")
}

#[test]
#[cfg(feature = "simulation")]
fn a_seed_replays_exactly() {
    let seed = support::seed();
    for seed in seed..seed + 20 {
        let first = run(&History::of(seed), Flaw::None).unwrap();
        assert_eq!(first, run(&History::of(seed), Flaw::None).unwrap(), "SEKALI_SEED={seed}");
        assert_ne!(first, run(&History::of(seed + 1), Flaw::None).unwrap(), "SEKALI_SEED={seed}");
    }
}

#[test]
fn no_history_of_stops_and_accidents_breaks_a_promise() {
    let (first, next) = (number("SEKALI_SEED", 1), AtomicU64::new(0));
    let play = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|played| *played < cases()) {
            let history = History::of(first + seed);
            if let Err(why) = run(&history, Flaw::None) {
                let (shorter, last) = shrunk(history.clone(), why.clone());
                panic!(
                    "SEKALI_SEED={} SEKALI_MODEL_CASES=1 plays it again: {why}\n{history}\nthe shortest that fails: {last}\n{shorter}",
                    history.seed
                );
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(play)));
    eprintln!("{} histories from seed {first}", cases());
}

/// Each write fails after none, one, half and all but one of its bytes; each sync fails.
#[test]
#[cfg(feature = "simulation")]
fn no_single_failed_write_or_sync_breaks_a_promise() {
    let (first, mut faults, mut failed) = (number("SEKALI_SEED", 1), 0, 0);
    for seed in first.. {
        let lives = runtime::simulate(seed, move || sweep::sweep(None, seed)).unwrap().lives;
        let planned = lives.iter().enumerate().flat_map(|(life, (writes, syncs))| {
            let short = |at| [0, 1, 4_000, usize::MAX].map(|kept| Fault::Write { at, kept });
            let fails = (0..*writes).flat_map(short).chain((0..*syncs).map(|at| Fault::Sync { at }));
            fails.map(move |fault| (life, fault)).collect::<Vec<_>>()
        });
        for fault in planned {
            let played = runtime::simulate(seed, move || sweep::sweep(Some(fault), seed));
            let swept = played.unwrap_or_else(|why| panic!("SEKALI_SEED={seed}, {fault:?}: {why}"));
            failed += u64::from(swept.has_failed);
            faults += 1;
        }
        if faults >= rounds("SEKALI_IO_ERRORS") {
            break;
        }
    }
    eprintln!("{faults} failed writes and syncs from seed {first}, {failed} of them took the store down");
    assert!(failed * 10 > faults && failed < faults, "{failed} of {faults} took the store down");
}

/// Each call that asks, opens, names, removes or reads fails, with one error or another.
#[test]
#[cfg(feature = "simulation")]
fn no_single_failed_call_breaks_a_promise() {
    let (first, wanted) = (number("SEKALI_SEED", 1), rounds("SEKALI_CALL_ERRORS"));
    let (mut come, mut failed) = (0, 0);
    for seed in first.. {
        let calls = runtime::simulate(seed, move || sweep::sweep(None, seed)).unwrap().calls;
        let mut rng = Rng::with_seed(seed);
        for (life, (call, count)) in
            calls.iter().enumerate().flat_map(|(life, calls)| calls.iter().map(move |called| (life, *called)))
        {
            // Most reads and measurements serve listings, which change nothing.
            let some = if matches!(call, Call::Read | Call::Length) { 20 } else { 60 };
            let places: Vec<u64> = (0..count).filter(|_| rng.u64(..count.max(1)) < some).collect();
            for at in places {
                let fault = (life, Fault::Call { call, at, code: Fault::CODES[rng.usize(..3)] });
                let played = runtime::simulate(seed, move || sweep::sweep(Some(fault), seed));
                let swept = played.unwrap_or_else(|why| panic!("SEKALI_SEED={seed}, {fault:?}: {why}"));
                come += u64::from(swept.has_come);
                failed += u64::from(swept.has_failed);
            }
        }
        if come >= wanted {
            break;
        }
    }
    eprintln!("{come} failed calls from seed {first}, {failed} of them took the store down");
    assert!(failed > 0 && failed < come, "{failed} of {come} took the store down");
}

/// Plays one kind of work that breaks off or fails at up to `most` places; how many faults have
/// come.
fn mend_one(work: Work, seed: u64, most: usize, chosen: impl Fn(End) -> bool) -> u64 {
    let job = prepare(work, seed).unwrap_or_else(|why| panic!("SEKALI_SEED={seed}: {why}"));
    let Some(job) = job else { return 0 };
    let mut ends = job.ends();
    ends.retain(|(end, _)| chosen(*end));
    Rng::with_seed(seed).shuffle(&mut ends);
    let play = |(end, at)| u64::from(job.play(end, at).unwrap_or_else(|why| panic!("{why}")));
    ends.into_iter().take(most).map(play).sum()
}

/// Plays work that breaks off or fails, from store to store, until `wanted` faults have come. All
/// kinds are played at once, as threads of the machine mostly wait.
fn mend(wanted: u64, of: &[Work], chosen: impl Fn(End) -> bool + Sync) {
    // Some of each store: another is damaged in another way.
    let most = wanted.min(60) as usize;
    let (first, mut counts) = (number("SEKALI_SEED", 1), vec![0; of.len()]);
    for seed in first.. {
        std::thread::scope(|scope| {
            let chosen = &chosen;
            let playing: Vec<_> =
                of.iter().map(|work| scope.spawn(move || mend_one(*work, seed, most, chosen))).collect();
            for (playing, come) in playing.into_iter().zip(&mut counts) {
                *come += playing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        if counts.iter().sum::<u64>() >= wanted && counts.iter().all(|come| *come > 0) {
            break;
        }
    }
    let counts: Vec<_> = of.iter().zip(counts).collect();
    eprintln!("from seed {first}: {counts:?}, 0 failures");
}

#[test]
fn what_breaks_off_is_done_again_as_if_nothing_had_been() {
    let works = Work::ALL.map(|work| work);
    let works: Vec<_> = works.into_iter().filter(|work| *work != Work::Refuse).collect();
    mend(rounds("SEKALI_BROKEN_OFF"), &works, |end| !matches!(end, End::Error(..)));
}

#[test]
fn what_can_not_be_asked_or_read_is_not_taken_for_absent() {
    mend(rounds("SEKALI_CALL_ERRORS"), &Work::ALL, |end| matches!(end, End::Error(..)));
}

/// Plays it with a few seeds.
fn holds(play: fn(u64) -> expected::Verdict) {
    for seed in 1..=DIRECTED_SEEDS {
        let played = runtime::simulate(seed, move || play(seed));
        played.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn what_a_killed_process_had_no_time_to_sync_survives_the_next_power_cut() {
    for seed in 1..=DIRECTED_SEEDS {
        let mut at = 0;
        while runtime::simulate(seed, move || beside::cut_after_kill(at, seed))
            .unwrap_or_else(|why| panic!("seed {seed}, killed at sync {at}: {why}"))
        {
            at += 1;
        }
        assert!(at > 10, "{at} syncs were met");
    }
}

#[test]
fn a_store_whose_lock_was_removed_lets_nobody_in_and_fails() {
    holds(beside::lock_removed);
}

#[test]
fn a_start_without_a_sealed_journal_is_refused() {
    holds(beside::sealed_journal_removed);
}

#[test]
fn a_cursor_from_after_a_copy_is_refused_by_the_copy() {
    holds(beside::restored);
}

#[test]
fn no_end_of_a_store_moves_a_consumer_back_or_past_an_event() {
    for seed in 1..=CONSUMING_SEEDS {
        let played = runtime::simulate(seed, move || consuming::consuming(seed));
        played.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// The history without whatever it also fails without, and why it fails then.
fn shrunk(mut history: History, mut why: String) -> (History, String) {
    let mut width = history.steps.len();
    while width > 0 {
        let mut at = 0;
        while at < history.steps.len() {
            let mut shorter = history.clone();
            shorter.steps.drain(at..history.steps.len().min(at + width));
            match run(&shorter, Flaw::None) {
                Err(still) => (history, why) = (shorter, still),
                Ok(_) => at += width,
            }
        }
        width /= 2;
    }
    (history, why)
}

/// The first promise that is seen broken on a machine with a flaw.
fn caught(flaw: Flaw) -> String {
    let broken = (1..=PLANTED_CASES).find_map(|seed| Some((seed, run(&History::of(seed), flaw).err()?)));
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
    for seed in 1..=rounds("SEKALI_FORGETFUL_CASES") {
        match run(&History::of(seed), Flaw::ForgetsClaims) {
            Ok(played) => lies += played.lies,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(lies > 0, "the index was never asked for what it forgot");
}
