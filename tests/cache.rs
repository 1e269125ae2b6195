//! What the store asks the system to keep in its cache, on a disk in memory that notes it.

#![allow(clippy::unwrap_used, reason = "a surprise ends the test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sekali::clock::SystemClock;
use sekali::disk::{Disk, Open};
use sekali::event::BatchBuilder;
use sekali::store::EventStore;
use sekali::store::local::index::MemoryIndexes;
use sekali::store::local::{Local, Options, Seams};
use support::mem_disk::MemDisk;

/// Stores events with so many bytes of payload until the folder of generation `id` is there: the one before it is live.
fn fill(disk: &MemDisk, indexes: &MemoryIndexes, id: u64, bytes: usize) {
    let options = Options {
        data_dir: PathBuf::from("/data"),
        must_exist: false,
        workers: 2,
        generation_events: 100,
        generation_bytes: 4 << 20,
        topics_max: 10,
    };
    let seams = Seams {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(indexes.clone()),
        metrics: sekali::metrics::Metrics::default(),
    };
    let store = Local::open(&options, seams).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for number in 0.. {
        if disk.files().iter().any(|path| path.starts_with(folder(id))) {
            break;
        }
        let mut batch = BatchBuilder::new(Bytes::new());
        for event in 0..fastrand::u32(1..40) {
            let id = format!("{id}-{number}-{event}");
            let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
            batch.push("t", &id, "2026-11-22T10:00:00Z", "test", &format!("\"{payload}\"")).unwrap();
        }
        runtime.block_on(store.append(batch.finish())).unwrap();
    }
    store.close().unwrap();
}

fn folder(id: u64) -> PathBuf {
    Path::new("/data").join(format!("gen-{id:06}"))
}

/// Each journal gives its place to the one that is written four later, wherever restarts lie between them.
#[test]
fn journals_leave_the_cache_for_those_four_later() {
    let (disk, indexes) = (MemDisk::new(), MemoryIndexes::default());
    // The first journals are longer than what is zeroed of later ones.
    for (last, bytes) in [(3, 10_000), (9, 10), (12, 10)] {
        // The folder behind the live one is prepared.
        fill(&disk, &indexes, last + 1, bytes);
        for id in 1..=last {
            let journal = folder(id).join("journal");
            let length = disk.open(&journal, Open::Read).unwrap().len().unwrap();
            let uncached = disk.uncached(&journal);
            match last - id {
                0..=2 => assert_eq!(uncached, 0, "journal {id} of {last}"),
                3 => assert!(
                    (1..u64::MAX).contains(&uncached),
                    "journal {id} of {last}: {uncached}, by the place"
                ),
                _ => assert!(uncached >= length, "journal {id} of {last}: {uncached} of {length}"),
            }
        }
    }
}
