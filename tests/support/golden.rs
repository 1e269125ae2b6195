//! The directories of `tests/golden` and what is in them: 720 events in three topics, the same in
//! each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use sekali::clock::SystemClock;
use sekali::disk::SystemDisk;
use sekali::error::{Error, ErrorKind};
use sekali::event::{Batch, BatchBuilder};
use sekali::metrics::Metrics;
use sekali::store::local::index::SledIndexes;
use sekali::store::local::{Local, Options, Seams};
use sekali::store::{EventStore, Query, StoredEvent};

use super::now;

/// Events in each golden directory, see `golden.rs`.
pub const EVENTS: u64 = 720;
pub const TOPICS: u64 = 3;
/// An index is rebuilt within this time.
pub const RENEWED_SECONDS: u64 = 20;

/// The directories, oldest format first.
pub fn directories() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut golden: Vec<_> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    golden.sort();
    golden
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}

pub fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    Bit,
    Zeros,
    Cut,
    Lost,
}

impl Damage {
    /// One of them, at `at` in the content of a file; `Lost` is the caller's to do.
    pub fn play(self, content: &mut Vec<u8>, at: usize, rng: &mut Rng) {
        match self {
            Self::Bit => content[at] ^= 1 << rng.u8(..8),
            Self::Zeros => {
                let block = at / 4_096 * 4_096;
                let behind = (block + 4_096).min(content.len());
                content[block..behind].fill(0);
            }
            Self::Cut => content.truncate(at),
            Self::Lost => {}
        }
    }

    /// Whether it would take the last commits with their witnesses: nothing is left then that could
    /// tell, and that is among the limits of the promise.
    pub fn takes_the_end(self, content: &[u8], at: usize) -> bool {
        let end = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        self == Self::Zeros && (at / 4_096 + 1) * 4_096 >= end
    }
}

pub fn seams() -> Seams {
    Seams {
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(SledIndexes::default()),
        metrics: Metrics::default(),
    }
}

/// How a copy in `data_dir` is opened.
pub fn options(data_dir: &Path, rng: &mut Rng) -> Options {
    Options {
        data_dir: data_dir.into(),
        must_exist: true,
        workers: 1 + rng.usize(..3),
        generation_events: 300,
        generation_bytes: 64 << 10,
        topics_max: 100,
    }
}

pub fn payload(number: u64) -> String {
    format!(r#"{{"n": {number}, "text": "\u00e9\n\""}}"#)
}

/// Some of the events, to be sent again.
pub fn batch(numbers: impl Iterator<Item = u64>) -> Batch {
    let mut builder = BatchBuilder::new(Bytes::new());
    for number in numbers {
        let (topic, id) = (format!("topic-{}", number % TOPICS), format!("id-{number}"));
        builder.push(&topic, &id, "2026-01-01T00:00:00Z", "golden", &payload(number)).unwrap();
    }
    builder.finish()
}

/// Tries again while an index is rebuilt.
pub async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, Error> {
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
pub async fn list(store: &Local, topic: Option<String>) -> Result<Vec<StoredEvent>, Error> {
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

/// The number of a stored event, which is as it was sent but perhaps for its offset.
pub fn number(event: &StoredEvent) -> u64 {
    let number: u64 = event.event_id.strip_prefix("id-").unwrap().parse().unwrap();
    assert_eq!((&*event.topic, &*event.source), (&*format!("topic-{}", number % TOPICS), "golden"));
    assert_eq!((&*event.timestamp, &*event.payload), ("2026-01-01T00:00:00Z", &*payload(number)));
    number
}

/// The same, at its first offset.
pub fn check(event: &StoredEvent) {
    assert_eq!(event.offset, number(event) / TOPICS);
}

pub fn eprint_on_panic<T>(seed: u64, what: &str, act: impl FnOnce() -> T) -> T {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)) {
        Ok(done) => done,
        Err(panic) => {
            eprintln!("SEKALI_SEED={seed}: {what}");
            std::panic::resume_unwind(panic)
        }
    }
}
