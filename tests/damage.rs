//! Damage to what is on disk: a bit, a block of zeros, a cut, a lost file, in any file of a data
//! directory. Nothing of it goes unseen: either it is refused or reported, or everything is still
//! there, because an index was rebuilt from its journal.
//!
//! `SEKALI_DAMAGES` is how often, `SEKALI_SEED` the seed of the first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::golden::{
    Damage, EVENTS, TOPICS, batch, check, copy, directories, eprint_on_panic, files, list, options,
    patiently, seams,
};
use fastrand::Rng;
use sekali::error::{Error, ErrorKind};
use sekali::store::local::{Local, verify};
use sekali::store::{EventStore, Status};

/// Damages one file; says which, what and where.
fn damage(dir: &Path, rng: &mut Rng) -> (PathBuf, Damage, usize) {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.retain(|file| fs::metadata(file).unwrap().len() > 0);
    all.sort();
    let file = all[rng.usize(..all.len())].clone();
    let mut content = fs::read(&file).unwrap();
    // Journals are mostly zeros that nobody has written over: half of the places are where
    // something is.
    let end = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let behind = if rng.bool() { end } else { content.len() };
    let at = rng.usize(..behind);
    let kind = [Damage::Bit, Damage::Bit, Damage::Zeros, Damage::Cut, Damage::Lost][rng.usize(..5)];
    let kind = match file.ends_with("journal") && kind.takes_the_end(&content, at) {
        true => Damage::Bit,
        false => kind,
    };
    if kind == Damage::Lost {
        fs::remove_file(&file).unwrap();
        return (file, kind, at);
    }
    kind.play(&mut content, at, rng);
    fs::write(&file, content).unwrap();
    (file, kind, at)
}

/// Reads everything and sends it again. An error is a damage that was seen; anything that is
/// missing, other or new is not.
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
        let outcomes = patiently(|| store.append(batch(first..first + 90).into())).await?;
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
        let options = options(&data_dir, &mut rng);
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

#[test]
fn no_damage_to_a_file_goes_unseen() {
    let (trials, first) = (crate::support::rounds("SEKALI_DAMAGES"), crate::support::seed());
    let golden = directories();
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
    // A short round may have none of a kind by chance.
    assert!(trials < 200 || (refused > 0 && reported > 0 && whole > 0), "each is to be expected");
}
