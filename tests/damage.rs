//! Damage to what is on disk: a bit, a block of zeros, a cut, a lost file, in any file of a data directory. Nothing of it goes
//! unseen: either it is refused or reported, or everything is still there, because an index was made anew from its journal.
//!
//! `SEKALI_DAMAGES` (500) is how often, `SEKALI_SEED` the seed of the first.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use sekali::clock::SystemClock;
use sekali::disk::SystemDisk;
use sekali::error::{Error, ErrorKind};
use sekali::event::BatchBuilder;
use sekali::metrics::Metrics;
use sekali::store::local::index::SledIndexes;
use sekali::store::local::{Local, Options, Seams, verify};
use sekali::store::{EventStore, Query, Status, StoredEvent};
use support::now;

/// Events in each golden directory, see `golden.rs`.
const EVENTS: u64 = 720;
const TOPICS: u64 = 3;
/// An index is made anew within this time.
const RENEWED_SECONDS: u64 = 20;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Bit,
    Zeros,
    Cut,
    Lost,
}

/// Damages one file; says which, what and where.
fn damage(dir: &Path, rng: &mut Rng) -> (PathBuf, Damage, usize) {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.retain(|file| fs::metadata(file).unwrap().len() > 0);
    all.sort();
    let file = all[rng.usize(..all.len())].clone();
    let mut content = fs::read(&file).unwrap();
    // Journals are mostly zeros that nobody has written over: half of the places are where something is.
    let end = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let behind = if rng.bool() { end } else { content.len() };
    let at = rng.usize(..behind);
    let kind = [Damage::Bit, Damage::Bit, Damage::Zeros, Damage::Cut, Damage::Lost][rng.usize(..5)];
    let block = at / 4_096 * 4_096;
    let behind = (block + 4_096).min(content.len());
    // Zeros up to the end of what was written take the last commits with their witnesses: nothing is left that could tell, and
    // that is among the limits of the promise.
    let takes_the_end = file.ends_with("journal") && behind >= end;
    let kind = if takes_the_end && kind == Damage::Zeros { Damage::Bit } else { kind };
    match kind {
        Damage::Bit => content[at] ^= 1 << rng.u8(..8),
        Damage::Zeros => {
            content[block..behind].fill(0);
        }
        Damage::Cut => content.truncate(at),
        Damage::Lost => {
            fs::remove_file(&file).unwrap();
            return (file, kind, at);
        }
    }
    fs::write(&file, content).unwrap();
    (file, kind, at)
}

fn seams() -> Seams {
    Seams {
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(SledIndexes::default()),
        metrics: Metrics::default(),
    }
}

fn payload(number: u64) -> String {
    format!(r#"{{"n": {number}, "text": "\u00e9\n\""}}"#)
}

/// Tries again while an index is made anew.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> Result<T, Error> {
    let deadline = now() + Duration::from_secs(RENEWED_SECONDS);
    loop {
        match call().await {
            Err(e) if e.kind() == ErrorKind::Rebuilding && now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done => return done,
        }
    }
}

/// All events of a listing.
async fn list(store: &Local, topic: Option<String>) -> Result<Vec<StoredEvent>, Error> {
    let (mut events, mut cursor) = (Vec::new(), None);
    loop {
        let query = Query { topic: topic.clone(), cursor, limit: 100, ..Query::default() };
        let page = patiently(|| store.read(query.clone())).await?;
        events.extend(page.events);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(events);
        }
    }
}

fn check(event: &StoredEvent) {
    let number: u64 = event.event_id.strip_prefix("id-").unwrap().parse().unwrap();
    assert_eq!(*event.topic, *format!("topic-{}", number % TOPICS));
    assert_eq!((event.offset, &*event.source), (number / TOPICS, "golden"));
    assert_eq!((&*event.timestamp, &*event.payload), ("2026-01-01T00:00:00Z", &*payload(number)));
}

/// Reads everything and sends it again. An error is a damage that was seen; anything that is missing, other or new is not.
async fn examine(store: &Local) -> Result<(), Error> {
    for topic in 0..TOPICS {
        let events = list(store, Some(format!("topic-{topic}"))).await?;
        assert_eq!(events.len() as u64, EVENTS / TOPICS, "of topic {topic}");
        events.iter().for_each(check);
    }
    let events = list(store, None).await?;
    assert_eq!(events.len() as u64, EVENTS);
    events.iter().for_each(check);
    assert_eq!(store.stats().await?.totals.unique_processed, EVENTS);
    for first in (0..EVENTS).step_by(90) {
        let batch = || {
            let mut builder = BatchBuilder::new(Bytes::new());
            for number in first..first + 90 {
                let (topic, id) = (format!("topic-{}", number % TOPICS), format!("id-{number}"));
                builder.push(&topic, &id, "2026-01-01T00:00:00Z", "golden", &payload(number)).unwrap();
            }
            builder.finish()
        };
        let outcomes = patiently(|| store.append(batch())).await?;
        for (number, outcome) in (first..).zip(outcomes) {
            assert_eq!(
                (outcome.status, outcome.offset),
                (Status::Duplicate, number / TOPICS),
                "event {number}"
            );
        }
    }
    Ok(())
}

/// One damage: what came of it.
fn trial(golden: &Path, seed: u64) -> (String, &'static str) {
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(golden, &data_dir);
    let (file, kind, at) = damage(&data_dir, &mut rng);
    let name = file.strip_prefix(&data_dir).unwrap().components().next_back().unwrap();
    let what = format!("{} {kind:?}", name.as_os_str().to_string_lossy());
    let file = file.strip_prefix(&data_dir).unwrap().display().to_string();
    eprint_on_panic(seed, &format!("{golden:?} {file} {kind:?} at {at}"), || {
        let options = Options {
            data_dir: data_dir.clone(),
            must_exist: true,
            workers: 1 + rng.usize(..3),
            generation_events: 300,
            generation_bytes: 64 << 10,
            topics_max: 100,
        };
        let store = match Local::open(&options, seams()) {
            Ok(store) => Arc::new(store),
            Err(e) => {
                assert!(
                    matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unusable) || kind == Damage::Lost,
                    "{e}"
                );
                assert!(e.to_string().contains(&data_dir.display().to_string()), "it names no place: {e}");
                return (what, "refused");
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let examined = runtime.block_on(examine(&store));
        let closed = store.close();
        drop(store);
        match examined {
            Err(e) => {
                assert!(
                    matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsure | ErrorKind::Rebuilding)
                        || kind == Damage::Lost,
                    "{e}"
                );
                // What a reading meets, a verification finds.
                let report = verify::verify(&options, &seams(), &|_, _| ());
                assert!(
                    report.is_err() || !report.unwrap().faults.is_empty(),
                    "verify finds nothing, and reading said: {e}"
                );
                (what, "reported")
            }
            Ok(()) => {
                closed.unwrap();
                (what, "whole")
            }
        }
    })
}

fn eprint_on_panic<T>(seed: u64, what: &str, act: impl FnOnce() -> T) -> T {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)) {
        Ok(done) => done,
        Err(panic) => {
            eprintln!("SEKALI_SEED={seed}: {what}");
            std::panic::resume_unwind(panic)
        }
    }
}

#[test]
fn no_damage_to_a_file_goes_unseen() {
    let trials: u64 = std::env::var("SEKALI_DAMAGES").map_or(500, |text| text.parse().unwrap());
    let first =
        std::env::var("SEKALI_SEED").map_or_else(|_| fastrand::u64(..) >> 16, |text| text.parse().unwrap());
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut golden: Vec<_> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    golden.sort();
    let mut counts = BTreeMap::new();
    for seed in first..first + trials {
        let (what, came) = trial(&golden[(seed % golden.len() as u64) as usize], seed);
        *counts.entry((came, what)).or_insert(0) += 1;
    }
    let of =
        |wanted| counts.iter().filter(|((came, _), _)| *came == wanted).map(|(_, count)| *count).sum::<u64>();
    let (refused, reported, whole) = (of("refused"), of("reported"), of("whole"));
    eprintln!(
        "{trials} damages from seed {first}: {refused} refused at the start, {reported} reported, {whole} left nothing missing"
    );
    for ((came, what), count) in &counts {
        eprintln!("    {came}: {what}: {count}");
    }
    assert!(refused > 0 && reported > 0 && whole > 0, "each is to be expected");
}
