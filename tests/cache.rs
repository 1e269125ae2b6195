//! What the store asks the system to keep in its cache, and to fetch into it, on a disk in memory
//! that notes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::mem_disk::MemDisk;
use bytes::Bytes;
use sekali::clock::SystemClock;
use sekali::disk::{Disk, Open};
use sekali::event::BatchBuilder;
use sekali::store::local::index::MemoryIndexes;
use sekali::store::local::{Local, Options, Seams};
use sekali::store::{EventStore, Query};

fn open(disk: &MemDisk, indexes: &MemoryIndexes) -> Local {
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
    Local::open(&options, seams).unwrap()
}

/// Stores events with so many bytes of payload until generation `id` is live, or one behind it: the
/// one whose follower is prepared.
fn fill(disk: &MemDisk, indexes: &MemoryIndexes, id: u64, bytes: usize) -> u64 {
    let store = open(disk, indexes);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let has = |id| disk.files().iter().any(|path| path.starts_with(folder(id)));
    for number in 0.. {
        if has(id + 1) {
            break;
        }
        let mut batch = BatchBuilder::new(Bytes::new());
        for event in 0..fastrand::u32(1..40) {
            let id = format!("{id}-{number}-{event}");
            let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
            batch.push("t", &id, "2026-11-22T10:00:00Z", "test", &format!("\"{payload}\"")).unwrap();
        }
        runtime.block_on(store.append(batch.finish().into())).unwrap();
    }
    store.close().unwrap();
    (id..).take_while(|id| has(id + 1)).last().unwrap()
}

fn folder(id: u64) -> PathBuf {
    Path::new("/data").join(format!("gen-{id:06}"))
}

/// Each journal gives its place to the one that is written four later, wherever restarts lie
/// between them.
#[test]
fn journals_leave_the_cache_for_those_four_later() {
    let (disk, indexes) = (MemDisk::new(), MemoryIndexes::default());
    // The first journals are longer than what is zeroed of later ones.
    for (last, bytes) in [(3, 10_000), (9, 10), (12, 10)] {
        let last = fill(&disk, &indexes, last, bytes);
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

/// Reads everything, a few events at a time; their number.
fn read(store: &Local, stop: Option<&String>) -> usize {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut events, mut cursor) = (0, None);
    loop {
        let query = Query { limit: 7, stop: stop.cloned(), cursor, ..Query::default() };
        let page = runtime.block_on(store.read(query)).unwrap();
        events += page.events.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            return events;
        }
    }
}

/// What lies behind a piece of a journal is fetched while that is read, if it is wanted; and not
/// otherwise.
#[test]
fn a_range_that_is_read_to_its_end_is_fetched_ahead() {
    let (disk, indexes) = (MemDisk::new(), MemoryIndexes::default());
    let live = fill(&disk, &indexes, 4, 2_000);
    let journals = (1..live).map(|id| folder(id).join("journal"));
    let store = open(&disk, &indexes);
    let events = read(&store, None);
    assert!(journals.clone().all(|journal| disk.prefetched(&journal).is_none()));

    let stop = tokio::runtime::Runtime::new().unwrap().block_on(store.end(None)).unwrap();
    assert_eq!(read(&store, Some(&stop)), events);
    for journal in journals {
        let file = disk.open(&journal, Open::Read).unwrap();
        let mut content = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        // Zeros may follow what was written.
        let end = content.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let (from, to) = disk.prefetched(&journal).unwrap();
        assert!((1..end).contains(&from), "from {from} of {end}");
        assert!(to >= end, "up to {to} of {end}");
    }
    store.close().unwrap();
}
