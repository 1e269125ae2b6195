//! `repair`: damage to journals is given up, what is lost is said exactly, and everything else goes
//! on.
//!
//! `SEKALI_REPAIRS` is how often, `SEKALI_SEED` the seed of the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::golden::{
    Damage, EVENTS, RENEWED_SECONDS, TOPICS, batch, copy, directories, eprint_on_panic, files, list, number,
    options, patiently, seams,
};
use fastrand::Rng;
use sekali::error::{Error, ErrorKind};
use sekali::store::local::format::codec::{FixedRecord, FrameHeader, FrameKind};
use sekali::store::local::repair::{Repaired, repair};
use sekali::store::local::{Local, Options, rebuild, verify};
use sekali::store::{EventStore, Order, Query, Status};
use serde_json::Value;

/// Damages one to three places of journals, of the live one at most one: a second might take the
/// witness of the first.
fn damage(dir: &Path, rng: &mut Rng) {
    let mut journals = Vec::new();
    files(dir, &mut journals);
    // The next generation's may be there already, without a frame: it is not the live one.
    journals
        .retain(|file| file.ends_with("journal") && fs::read(file).unwrap().iter().any(|byte| *byte != 0));
    journals.sort();
    for _ in 0..1 + rng.usize(..3) {
        let Some(live) = journals.len().checked_sub(1) else { return };
        let at = rng.usize(..=live);
        let file = if at == live { journals.remove(at) } else { journals[at].clone() };
        let file = &file;
        let Ok(mut content) = fs::read(file) else { continue };
        let kind =
            [Damage::Bit, Damage::Bit, Damage::Bit, Damage::Zeros, Damage::Cut, Damage::Lost][rng.usize(..6)];
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if end == 0 {
            continue;
        }
        let at = rng.usize(..end);
        match kind {
            Damage::Lost => fs::remove_file(file).unwrap(),
            kind => {
                let kind = if kind.takes_the_end(&content, at) { Damage::Bit } else { kind };
                kind.play(&mut content, at, rng);
                fs::write(file, content).unwrap();
            }
        }
    }
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = Vec::new();
    files(dir, &mut all);
    let name = |file: &Path| file.strip_prefix(dir).unwrap().display().to_string();
    all.iter().map(|file| (name(file), fs::read(file).unwrap())).filter(|(name, _)| name != "LOCK").collect()
}

/// Cursors that point after some events: the topic (`None`: all), the position, and the cursor.
async fn cursors(store: &Local, rng: &mut Rng) -> Vec<(Option<String>, u64, String)> {
    let mut taken = Vec::new();
    for topic in (0..TOPICS).map(|topic| Some(format!("topic-{topic}"))).chain([None]) {
        let position = rng.u64(1..=EVENTS / TOPICS);
        let query = Query { topic: topic.clone(), limit: position as usize, ..Query::default() };
        let page = patiently(|| store.read(query.clone())).await.unwrap();
        assert_eq!(page.events.len() as u64, position);
        taken.push((topic, position, page.reached));
    }
    taken
}

/// Holds an open, repaired store against what its repair has said. Returns the events that it has.
async fn examine(
    store: &Local,
    repaired: &Repaired,
    cursors: &[(Option<String>, u64, String)],
) -> Result<BTreeSet<u64>, Error> {
    let mut there = BTreeSet::new();
    for topic in 0..TOPICS {
        let name = format!("topic-{topic}");
        let events = list(store, Some(name.clone())).await?;
        let mut lost = BTreeSet::new();
        for (_, first, next) in
            repaired.losses.iter().flat_map(|loss| &loss.offsets).filter(|(of, ..)| *of == name)
        {
            // More than there ever were may be given up.
            lost.extend(*first..(*next).min(EVENTS / TOPICS));
        }
        for event in &events {
            let number = number(event);
            assert_eq!(event.offset, number / TOPICS, "nothing moves");
            assert!(!lost.contains(&event.offset), "what is said to be lost is not there");
            there.insert(number);
            lost.insert(event.offset);
        }
        assert_eq!(lost.len() as u64, EVENTS / TOPICS, "what is not there is said to be lost: {repaired:?}");
        let backwards =
            Query { topic: Some(name), order: Order::Descending, limit: 1_000, ..Query::default() };
        let mut page = patiently(|| store.read(backwards.clone())).await?;
        page.events.reverse();
        assert_eq!(page.events, events);
    }
    assert_eq!(there.len() as u64, repaired.events);
    let all: Vec<u64> = list(store, None).await?.iter().map(number).collect();
    assert_eq!((all.len(), all.iter().copied().collect()), (there.len(), there.clone()));
    assert_eq!(store.stats().await?.totals.unique_processed, repaired.events);
    let topics = store.topics(None, 100, None).await?.topics;
    assert_eq!(topics.iter().map(|topic| topic.unique_processed).sum::<u64>(), repaired.events);
    if repaired.losses.iter().all(|loss| loss.events.is_some()) {
        let lost: u64 = repaired.losses.iter().filter_map(|loss| loss.events).sum();
        assert_eq!(lost + repaired.events, EVENTS);
    }
    for (topic, position, cursor) in cursors.iter().filter(|(topic, ..)| topic.is_some()) {
        let query =
            Query { topic: topic.clone(), cursor: Some(cursor.clone()), limit: 1_000, ..Query::default() };
        let page = patiently(|| store.read(query.clone())).await?;
        let expected = there.iter().filter(|number| {
            topic.as_deref() == Some(&*format!("topic-{}", *number % TOPICS)) && *number / TOPICS >= *position
        });
        assert_eq!(page.events.iter().map(number).collect::<Vec<_>>(), expected.copied().collect::<Vec<_>>());
    }
    Ok(there)
}

/// Everything is sent again: what is there is known, what was lost is stored once more, at offsets
/// that were never used.
async fn send_again(store: &Local, there: &BTreeSet<u64>) -> Result<(), Error> {
    for round in 0..2 {
        for first in (0..EVENTS).step_by(90) {
            let outcomes = patiently(|| store.append(batch(first..first + 90).into())).await?;
            for (number, outcome) in (first..).zip(outcomes) {
                match (there.contains(&number), round) {
                    (true, _) => {
                        assert_eq!((outcome.status, outcome.offset), (Status::Duplicate, number / TOPICS));
                    }
                    (false, 0) => {
                        assert_eq!(outcome.status, Status::Stored, "event {number}");
                        assert!(outcome.offset >= EVENTS / TOPICS, "an offset is used again: {outcome:?}");
                    }
                    (false, _) => assert_eq!(outcome.status, Status::Duplicate, "once"),
                }
            }
        }
    }
    Ok(())
}

/// Opens a store. A process that another test is about to start has the lock for a moment as well.
fn open(options: &Options) -> Local {
    let opened = crate::support::until(5, || match Local::open(options, seams()) {
        Err(e) if e.kind() == ErrorKind::Locked => None,
        opened => Some(opened),
    });
    opened.unwrap().unwrap()
}

/// The headers of the last frames of all journals that have one. The next generation's is there
/// already, without a frame.
fn last_frames(data_dir: &Path) -> Vec<FrameHeader> {
    let mut all = Vec::new();
    files(data_dir, &mut all);
    let journals = all.iter().filter(|file| file.ends_with("journal")).map(|file| fs::read(file).unwrap());
    let frames = journals.filter_map(|content| {
        let places = (0..content.len()).rev().filter(|at| content[*at..].starts_with(&FrameHeader::MAGIC));
        // The very last may have been cut.
        let headers = places.filter_map(|at| content.get(at..at + FrameHeader::BYTES));
        headers.filter_map(|bytes| FrameHeader::from_bytes(bytes).ok()).next()
    });
    frames.collect()
}

/// Whether the live journal ends with a frame that says that those before it are there. Until then,
/// and that is a moment, damage to the last of them is as if it had never been written.
fn is_witnessed(data_dir: &Path) -> bool {
    let header = last_frames(data_dir).into_iter().max_by_key(|header| header.sequence).unwrap();
    header.kind != FrameKind::Events as u8
}

/// Whether a repair finds no event, and not the names of all topics: as when all but a cut journal
/// of the first generation is lost, whose topics no table names, or when the table at the head of the
/// last journal is lost as well.
fn does_not_name_all(options: &Options) -> bool {
    let seen = repair(options, &seams(), false, &|_, _| ()).unwrap();
    let told: BTreeSet<&str> =
        seen.losses.iter().flat_map(|loss| &loss.offsets).map(|(topic, ..)| topic.as_str()).collect();
    let begins_lost = seen.losses.last().is_some_and(|loss| loss.bytes.0 == 0);
    seen.events == 0 && (told.is_empty() || (begins_lost && told.len() < TOPICS as usize))
}

/// For who takes a directory in this process, and who starts another one: until that has begun, it
/// has what was open here, and with it the directory's lock.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trial(golden: &Path, seed: u64) -> &'static str {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(golden, &data_dir);
    let options = options(&data_dir, &mut rng);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cursors = {
        let store = open(&options);
        let taken = runtime.block_on(cursors(&store, &mut rng));
        if rng.bool() {
            store.close().unwrap();
        } else {
            let witnessed = crate::support::until(RENEWED_SECONDS, || is_witnessed(&data_dir).then_some(()));
            assert!(witnessed.is_some(), "seed {seed}: nothing says that the last frame is there");
        }
        taken
    };
    damage(&data_dir, &mut rng);
    if last_frames(&data_dir).is_empty() || does_not_name_all(&options) {
        // Nothing whole is left that names each topic: that everything is lost is all that can be
        // said of all.
        let repaired = repair(&options, &seams(), true, &|_, _| ()).unwrap();
        assert!(repaired.events == 0 && !repaired.losses.is_empty(), "seed {seed}: {repaired:?}");
        return "lost";
    }
    eprint_on_panic(seed, &format!("{golden:?}"), || play(&options, &runtime, &cursors))
}

fn play(
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    cursors: &[(Option<String>, u64, String)],
) -> &'static str {
    let before = content(&options.data_dir);
    let seen = repair(options, &seams(), false, &|_, _| ()).unwrap();
    assert_eq!(content(&options.data_dir), before, "without --accept-loss nothing is changed");
    assert_eq!(seen.is_done, seen.losses.is_empty());
    let repaired = repair(options, &seams(), true, &|_, _| ()).unwrap();
    assert_eq!(
        (&repaired.losses, repaired.events),
        (&seen.losses, seen.events),
        "what was said is what is done"
    );
    let again = repair(options, &seams(), true, &|_, _| ()).unwrap();
    assert_eq!((again.losses.len(), again.events), (0, repaired.events), "once is enough");
    assert_eq!(
        (&again.given_up, &again.salvaged),
        (&repaired.losses, &repaired.salvaged),
        "and is told again"
    );
    let lines = repaired.salvaged.as_ref().map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
    assert_eq!(lines.lines().count() as u64, repaired.losses.iter().map(|loss| loss.salvaged).sum::<u64>());
    let store = open(options);
    let there = runtime.block_on(examine(&store, &repaired, cursors)).unwrap();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let number: u64 = event["event_id"].as_str().unwrap().strip_prefix("id-").unwrap().parse().unwrap();
        assert!(!there.contains(&number), "what is salvaged was lost");
    }
    store.close().unwrap();
    drop(store);
    // And a start later it is the same.
    let report = verify::verify(options, &seams(), &|_, _| ()).unwrap();
    assert_eq!((report.faults, report.events), (Vec::new(), repaired.events));
    let store = open(options);
    assert_eq!(runtime.block_on(examine(&store, &repaired, cursors)).unwrap(), there);
    runtime.block_on(send_again(&store, &there)).unwrap();
    store.close().unwrap();
    drop(store);
    let report = verify::verify(options, &seams(), &|_, _| ()).unwrap();
    assert_eq!((report.faults, report.events), (Vec::new(), EVENTS));
    rebuild::rebuild(options, &seams(), &|_, _| ()).unwrap();
    let report = verify::verify(options, &seams(), &|_, _| ()).unwrap();
    assert_eq!((report.faults, report.events), (Vec::new(), EVENTS));
    if seen.losses.is_empty() { "harmless" } else { "repaired" }
}

#[test]
fn what_is_lost_is_said_exactly_and_the_rest_goes_on() {
    let (trials, first) = (crate::support::rounds("SEKALI_REPAIRS"), crate::support::seed());
    let golden = directories();
    let mut counts = BTreeMap::new();
    for seed in first..first + trials {
        *counts.entry(trial(&golden[(seed % golden.len() as u64) as usize], seed)).or_insert(0u64) += 1;
    }
    eprintln!("{trials} damages to journals from seed {first}: {counts:?}");
    assert!(counts.get("repaired").is_some_and(|count| *count * 2 > trials), "{counts:?}");
}

#[test]
fn the_command_tells_what_is_lost_and_does_nothing_unasked() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    copy(&directories()[0], &data_dir);
    let journal = data_dir.join("gen-000001/journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[3_000] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let sekali = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        let output = command.args(arguments).arg("--data-dir").arg(&data_dir).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = sekali(&["repair"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("gen-000001/journal, bytes 231 to 4517: 50 events lost, 33 of them can be read"),
        "{said}"
    );
    assert!(said.contains("topic-0: offsets 0 to 16 hold nothing any more"), "{said}");
    assert!(said.contains("670 events are sound"), "{said}");
    assert_eq!(sekali(&["verify"]).0, Some(1));
    let (code, said) = sekali(&["repair", "--accept-loss", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &report["repaired"], &report["events"]),
        (Some(0), &Value::Bool(true), &Value::from(670))
    );
    assert_eq!(report["lost"][0]["events"], 50);
    assert_eq!(fs::read_to_string(report["salvaged_to"].as_str().unwrap()).unwrap().lines().count(), 33);
    assert_eq!(sekali(&["verify"]).0, Some(0));
    // A repair that was killed may have told nobody.
    let (code, said) = sekali(&["repair"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(
            "bytes 231 to 4517: 50 events were given up by an earlier repair, 33 of them can be read"
        )
    );
    assert!(
        said.contains("topic-0: offsets 0 to 16 hold nothing any more") && said.contains("salvaged-"),
        "{said}"
    );
    assert!(said.ends_with("nothing else is damaged in the journals of 670 events\n"), "{said}");
}

#[test]
fn a_store_that_is_not_there_or_has_no_manifest_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::with_seed(1);
    let data_dir = dir.path().join("data");
    let options = options(&data_dir, &mut rng);
    let error = repair(&options, &seams(), true, &|_, _| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable);
    copy(&directories()[0], &data_dir);
    fs::write(data_dir.join("MANIFEST"), "{}").unwrap();
    let error = repair(&options, &seams(), true, &|_, _| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
