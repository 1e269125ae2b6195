//! One suite of claims, held against sled and against its model; then damage to sled's files.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::memory_index::MemoryIndexes;
use super::sled_index::{FREED_BYTES, SledIndexes};
use super::*;
use crate::error::ErrorKind;
use crate::store::local::format::codec::INDEX_VERSION;

const SLED: SledIndexes = SledIndexes { cache_bytes: 1 << 20 };

fn claim(offset: u64) -> Claim {
    Claim { offset, digest: [offset as u8; 16], received_at: 5 }
}

fn location(at: u64) -> BlockLocation {
    BlockLocation { at, length: 100, count: 10 }
}

fn covered(through: u64) -> Covered {
    Covered { version: INDEX_VERSION, nonce: 7, through, claims: through * 10, sum: 3 }
}

/// Holds `claims` against both kinds of index, each in a fresh directory.
fn on_both(claims: impl Fn(&dyn Indexes, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    claims(&SLED, &dir.path().join("index"));
    claims(&MemoryIndexes::default(), Path::new("index"));
}

#[test]
fn what_was_inserted_is_found_also_after_reopening() {
    on_both(|indexes, dir| {
        let index = indexes.open(dir).unwrap();
        assert_eq!(index.covered().unwrap(), None);
        assert_eq!(index.claim(b"t\0a").unwrap(), None);
        let blocks: [(&[u8], u64, BlockLocation); 3] =
            [(b"t", 0, location(1)), (b"t", 10, location(2)), (b"u", 5, location(3))];
        index.insert(&[(b"t\0a", claim(0)), (b"t\0b", claim(1))], &blocks, &covered(1)).unwrap();
        index.flush().unwrap();
        drop(index);
        let index = indexes.open(dir).unwrap();
        assert_eq!(index.claim(b"t\0b").unwrap(), Some(claim(1)));
        assert_eq!(index.claim(b"t\0c").unwrap(), None);
        assert_eq!(index.covered().unwrap(), Some(covered(1)));
        for (topic, offset, found) in [
            (&b"t"[..], 9, Some((0, location(1)))),
            (b"t", 10, Some((10, location(2)))),
            (b"t", u64::MAX, Some((10, location(2)))),
            (b"u", 4, None),
            (b"v", 9, None),
        ] {
            assert_eq!(index.block_at_or_before(topic, offset).unwrap(), found);
        }
        let (mut claims, mut locations) = (Vec::new(), Vec::new());
        index
            .for_each_claim(&mut |key, claim| {
                claims.push((key.to_vec(), claim));
                Ok(())
            })
            .unwrap();
        index
            .for_each_block(&mut |topic, at, location| {
                locations.push((topic.to_vec(), at, location));
                Ok(())
            })
            .unwrap();
        assert_eq!(claims, [(b"t\0a".to_vec(), claim(0)), (b"t\0b".to_vec(), claim(1))]);
        assert_eq!(locations, blocks.map(|(topic, at, location)| (topic.to_vec(), at, location)));
        drop(index);
        indexes.remove(dir).unwrap();
        indexes.remove(dir).unwrap();
        assert_eq!(indexes.open(dir).unwrap().covered().unwrap(), None);
    });
}

#[test]
fn inserting_again_changes_nothing_and_another_claim_is_corruption() {
    on_both(|indexes, dir| {
        let index = indexes.open(dir).unwrap();
        for _ in 0..2 {
            index.insert(&[(b"t\0a", claim(0))], &[(b"t", 0, location(0))], &covered(1)).unwrap();
        }
        let error = index.insert(&[(b"t\0a", claim(9))], &[], &covered(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        drop(index);
        let index = indexes.open(dir).unwrap();
        assert_eq!(index.claim(b"t\0a").unwrap(), Some(claim(0)));
        assert_eq!(index.covered().unwrap(), Some(covered(1)));
    });
}

#[test]
fn the_model_loses_its_last_sets_and_fails_when_told() {
    let indexes = MemoryIndexes::default();
    let dir = Path::new("index");
    let index = indexes.open(dir).unwrap();
    index.insert(&[(b"t\0a", claim(0))], &[], &covered(1)).unwrap();
    index.insert(&[(b"t\0b", claim(1))], &[(b"t", 0, location(0))], &covered(2)).unwrap();
    indexes.lose_suffix(dir, 1);
    assert_eq!(index.covered().unwrap(), Some(covered(1)));
    assert_eq!(index.claim(b"t\0b").unwrap(), None);
    assert_eq!(index.block_at_or_before(b"t", 0).unwrap(), None);
    indexes.set_failing(dir, true);
    assert!(index.claim(b"t\0a").is_err() && index.flush().is_err() && indexes.open(dir).is_err());
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Opens and reads all; the wrong answers among what it says.
fn wrong_answers(dir: &Path) -> Result<u64> {
    let index = SLED.open(dir)?;
    let mut wrong = 0;
    index.for_each_claim(&mut |key, found| {
        let expected = key.strip_prefix(b"t\0").and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        wrong += u64::from(expected.map(claim) != Some(found));
        Ok(())
    })?;
    index.for_each_block(&mut |_, _, _| Ok(()))?;
    index.covered()?;
    index.flush()?;
    Ok(wrong)
}

#[test]
fn a_removed_index_is_given_back_in_pieces_but_stays_whole_for_who_still_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("index");
    let keys: Vec<String> = (0..100_000).map(|i| format!("t\0{:0200}", fastrand::u64(..) ^ i)).collect();
    let mut keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    keys.sort_unstable();
    for is_read in [true, false] {
        let claims: Vec<(&[u8], Claim)> = keys.iter().zip(0..).map(|(key, i)| (*key, claim(i))).collect();
        let index = SLED.open(&at).unwrap();
        index.insert(&claims, &[], &covered(1)).unwrap();
        index.flush().unwrap();
        let file = std::fs::File::open(at.join("db")).unwrap();
        let before = file.metadata().unwrap().len();
        assert!(before > 2 * FREED_BYTES, "{before}");
        let reader = is_read.then_some(index);
        SLED.remove(&at).unwrap();
        assert!(!at.exists());
        if let Some(index) = reader {
            assert!(file.metadata().unwrap().len() >= before);
            for (key, expected) in claims.iter().step_by(97) {
                assert_eq!(index.claim(key).unwrap().as_ref(), Some(expected));
            }
        } else {
            assert!(file.metadata().unwrap().len() <= FREED_BYTES);
        }
    }
}

#[test]
fn damaged_files_are_an_error_or_read_as_a_part_and_never_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let keys: Vec<String> = (0..2_000).map(|i| format!("t\0{i:06}")).collect();
    let claims: Vec<(&[u8], Claim)> =
        keys.iter().zip(0..).map(|(key, i)| (key.as_bytes(), claim(i))).collect();
    let index = SLED.open(&whole).unwrap();
    index.insert(&claims, &[(b"t", 0, location(0))], &covered(1)).unwrap();
    index.flush().unwrap();
    drop(index);
    assert_eq!(wrong_answers(&whole).unwrap(), 0);
    let mut random = fastrand::Rng::with_seed(11);
    let mut refused = 0;
    for round in 0..25 {
        let copy = dir.path().join(round.to_string());
        for from in files_under(&whole) {
            let to = copy.join(from.strip_prefix(&whole).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&from, &to).unwrap();
        }
        let files = files_under(&copy);
        let file = &files[random.usize(..files.len())];
        let mut content = std::fs::read(file).unwrap();
        // Most of sled's log is zeros that were never written: aim at its front.
        let end = content.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if random.bool() {
            content[random.usize(..=end)] ^= 1 << random.u8(..8);
        } else {
            content.truncate(random.usize(..=end));
        }
        std::fs::write(file, content).unwrap();
        let (answer, answered) = mpsc::channel();
        std::thread::spawn(move || _ = answer.send(wrong_answers(&copy)));
        match answered.recv_timeout(Duration::from_secs(60)).expect("an answer within the deadline") {
            Ok(wrong) => assert_eq!(wrong, 0, "round {round}: {}", file.display()),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "no damage was seen at all");
}
