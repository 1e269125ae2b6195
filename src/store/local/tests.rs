//! The store from above: batches in, outcomes and pages out, over restarts, with tiny generations.

use std::cell::Cell;
use std::path::PathBuf;

use bytes::Bytes;

use super::format::layout::{MANIFEST, journal_path};
use super::generation::Generation;
use super::index::{Indexes, MemoryIndexes, SledIndexes};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::disk::SystemDisk;
use crate::event::BatchBuilder;
use crate::store::{Order, Status};
use crate::sync::mpsc;

fn options(dir: &std::path::Path, workers: usize) -> Options {
    Options {
        data_dir: dir.to_path_buf(),
        must_exist: false,
        workers,
        generation_events: 200,
        generation_bytes: 1 << 20,
        topics_max: 100,
    }
}

fn seams(indexes: Arc<dyn Indexes>) -> Seams {
    Seams {
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes,
        metrics: crate::metrics::Metrics::default(),
    }
}

fn batch(events: &[(&str, String, &str)]) -> Batch {
    let mut builder = BatchBuilder::new(Bytes::new());
    for (topic, id, payload) in events {
        builder.push(topic, id, "2026-11-22T10:00:00Z", "test", payload).unwrap();
    }
    builder.finish()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Everything, by pages of `limit`.
async fn everything(store: &Local, topic: Option<&str>, order: Order, limit: usize) -> Vec<StoredEvent> {
    let mut events = Vec::new();
    let mut query = Query { topic: topic.map(str::to_owned), order, limit, ..Query::default() };
    loop {
        let page = store.read(query.clone()).await.unwrap();
        assert!(page.events.len() <= limit);
        events.extend(page.events);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return events,
        }
    }
}

fn through_restarts(indexes: &Arc<dyn Indexes>) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let topics = ["a", "b", "c"];
    let mut sent = 0;
    for (round, workers) in [1, 3, 2, 1, 4].into_iter().enumerate() {
        let store = Local::open(&options(dir.path(), workers), seams(Arc::clone(indexes))).unwrap();
        runtime.block_on(async {
            for number in 0..sent {
                let topic = topics[number % 3];
                let again = store.append(batch(&[(topic, format!("e{number}"), "{}")]).into()).await.unwrap();
                assert_eq!(again[0].status, Status::Duplicate, "e{number} in round {round}");
                assert_eq!(again[0].offset, number as u64 / 3);
            }
            for _ in 0..20 {
                let events: Vec<_> = (sent..sent + 15)
                    .map(|number| (topics[number % 3], format!("e{number}"), "{}"))
                    .collect();
                let outcomes = store.append(batch(&events).into()).await.unwrap();
                for (outcome, number) in outcomes.iter().zip(sent..) {
                    assert_eq!((outcome.status, outcome.offset), (Status::Stored, number as u64 / 3));
                }
                sent += 15;
            }
            let conflict = store.append(batch(&[("a", "e0".into(), "{\"other\":1}")]).into()).await.unwrap();
            assert_eq!(conflict[0].status, Status::Conflict);

            let all = everything(&store, None, Order::Ascending, 100).await;
            assert_eq!(all.len(), sent);
            let mut reversed = everything(&store, None, Order::Descending, 77).await;
            reversed.reverse();
            assert_eq!(all, reversed);
            for topic in topics {
                let of_topic = everything(&store, Some(topic), Order::Ascending, 33).await;
                let expected: Vec<_> = all.iter().filter(|event| *event.topic == *topic).cloned().collect();
                assert_eq!(of_topic, expected);
                assert!(of_topic.iter().zip(0..).all(|(event, offset)| event.offset == offset));
                let mut reversed = everything(&store, Some(topic), Order::Descending, 10).await;
                reversed.reverse();
                assert_eq!(of_topic, reversed);
            }
            let found = store.find("b", "e1", |_| Ok(())).await.unwrap().unwrap();
            assert_eq!((&*found.event_id, found.offset), ("e1", 0));
            assert_eq!(store.find("b", "e0", |_| Ok(())).await.unwrap(), None);
            assert_eq!(store.find("none", "e0", |_| Ok(())).await.unwrap(), None);
            let stats = store.stats().await.unwrap();
            assert_eq!(stats.totals.unique_processed, sent as u64);
            assert_eq!(stats.topics, topics.len() as u64);
            let page = store.topics(None, 10, None).await.unwrap();
            assert!(page.topics.iter().map(|topic| &*topic.topic).eq(topics));
            let rounds = round as u64 + 1;
            assert_eq!(stats.totals.conflicts, rounds);
            assert_eq!(stats.totals.duplicate_dropped, rounds + 300 * (0..=round as u64).sum::<u64>());
        });
        if round % 2 == 0 {
            store.close().unwrap();
        }
        drop(store);
        let report =
            verify::verify(&options(dir.path(), 1), &seams(Arc::clone(indexes)), &|_, _| ()).unwrap();
        assert_eq!(report.faults, Vec::<String>::new());
        assert_eq!(report.events, sent as u64);
        if round == 3 {
            rebuild::rebuild(&options(dir.path(), 1), &seams(Arc::clone(indexes)), &|_, _| ()).unwrap();
        }
    }
}

#[test]
fn events_are_stored_once_and_read_back_through_restarts_with_sled() {
    let indexes: Arc<dyn Indexes> = Arc::new(SledIndexes::default());
    through_restarts(&indexes);
}

#[test]
fn events_are_stored_once_and_read_back_through_restarts_with_the_model_index() {
    let indexes: Arc<dyn Indexes> = Arc::new(MemoryIndexes::default());
    through_restarts(&indexes);
}

/// A store with 100 events in its live journal, stopped; its journal's path and what is in it.
fn stopped_store(dir: &std::path::Path, cleanly: bool) -> (PathBuf, Vec<u8>) {
    let store = Local::open(&options(dir, 2), seams(Arc::new(MemoryIndexes::default()))).unwrap();
    runtime().block_on(async {
        for round in 0..10 {
            let events: Vec<_> = (0..10).map(|number| ("t", format!("{round}-{number}"), "{}")).collect();
            store.append(batch(&events).into()).await.unwrap();
        }
    });
    if cleanly {
        store.close().unwrap();
    }
    drop(store);
    let path = journal_path(dir, 1);
    let content = std::fs::read(&path).unwrap();
    (path, content)
}

/// What a start says, and how many events there are then.
fn events_after_start(dir: &std::path::Path) -> Result<u64> {
    let store = Local::open(&options(dir, 1), seams(Arc::new(MemoryIndexes::default())))?;
    Ok(runtime().block_on(store.stats())?.totals.unique_processed)
}

#[test]
fn a_flipped_bit_or_a_cut_in_the_live_journal_never_loses_an_event_in_silence() {
    for cleanly in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (path, content) = stopped_store(dir.path(), cleanly);
        let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let manifest = std::fs::read(dir.path().join(MANIFEST)).unwrap();
        for at in (0..end).step_by(97) {
            for cut in [false, true] {
                let mut damaged = content.clone();
                if cut {
                    damaged.truncate(at);
                } else {
                    damaged[at] ^= 1 << (at % 8);
                }
                std::fs::write(&path, &damaged).unwrap();
                std::fs::write(dir.path().join(MANIFEST), &manifest).unwrap();
                match events_after_start(dir.path()) {
                    Ok(events) => assert_eq!(events, 100, "byte {at}, cut: {cut}, cleanly: {cleanly}"),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}"),
                }
            }
        }
    }
}

#[test]
fn a_known_event_waits_for_a_commit_only_if_its_original_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(&options(dir.path(), 1), seams(Arc::new(MemoryIndexes::default()))).unwrap();
    let runtime = runtime();
    let event = |id: &str| batch(&[("t", id.to_owned(), "{}")]);
    runtime.block_on(store.append(event("durable").into())).unwrap();
    let commits = store.commits.lock().clone().unwrap();
    let shared = Arc::clone(&store.shared);
    let store = Arc::new(store);
    let append = |id| {
        let (store, batch) = (Arc::clone(&store), event(id));
        runtime.spawn(async move { store.append(batch.into()).await.unwrap()[0].status })
    };
    // While this lasts, nothing is committed, and what comes gathers into one group.
    let writer = commits.writer.lock();
    let gathering = shared.pace.commit(&shared.queues);
    let queued = |appended, number| {
        while shared.queues[0].len() < number {
            std::thread::yield_now();
        }
        appended
    };
    let fresh = queued(append("fresh"), 1);
    let rests_on_fresh = queued(append("fresh"), 2);
    let known = queued(append("durable"), 3);
    drop(gathering);
    let known = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), known).await });
    assert_eq!(known.expect("it waits for the commit").unwrap(), Status::Duplicate);
    assert!(!fresh.is_finished() && !rests_on_fresh.is_finished());
    drop(writer);
    // The store ends when nobody has it any more.
    drop(commits);
    assert_eq!(runtime.block_on(fresh).unwrap(), Status::Stored);
    assert_eq!(runtime.block_on(rests_on_fresh).unwrap(), Status::Duplicate);
    assert_eq!(runtime.block_on(store.stats()).unwrap().totals.duplicate_dropped, 2);
}

/// A store that was closed when it had sealed generations. It has the events `e0` to `e499` in topic
/// `t`, perhaps more in another.
fn sealed(dir: &std::path::Path) -> (Local, Vec<Arc<Generation>>) {
    let store = Local::open(&options(dir, 1), seams(Arc::new(MemoryIndexes::default()))).unwrap();
    let runtime = runtime();
    for part in 0..10 {
        let events: Vec<_> = (0..50).map(|number| ("t", format!("e{}", part * 50 + number), "{}")).collect();
        runtime.block_on(store.append(batch(&events).into())).unwrap();
    }
    // Sealing goes on beside the answers, as fast as the machine allows; a generation that could not
    // be closed yet is at the next commit.
    let deadline = SystemClock.monotonic() + Duration::from_secs(60);
    for number in 0.. {
        if store.shared.generations().iter().any(|generation| generation.is_sealed()) {
            break;
        }
        assert!(SystemClock.monotonic() < deadline, "nothing is sealed");
        runtime.block_on(store.append(batch(&[("later", number.to_string(), "{}")]).into())).unwrap();
        // Not a loop without a pause, which would keep a processor from the thread that seals.
        crate::sync::park_timeout(Duration::from_millis(2));
    }
    store.close().unwrap();
    let generations = store.shared.generations();
    let sealed = generations.iter().filter(|generation| generation.is_sealed()).cloned().collect();
    (store, sealed)
}

#[test]
fn a_seal_tells_of_as_many_steps_as_its_throttle_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, generations) = sealed(dir.path());
    for generation in generations {
        let (entry, told) = (generation.entry(), Cell::new(0));
        let files = store.shared.sealed_files(&generation, &entry);
        let (maps, _) = files.build(&|steps| told.set(told.get() + steps)).unwrap();
        let (mut blocks, mut frames) = (0, 0);
        maps.each_block(&mut |_, _| blocks += 1).unwrap();
        maps.each_frame(&mut |_, _| frames += 1).unwrap();
        // Blocks and frames are proved too.
        assert_eq!(told.get(), background::seal::STEPS * maps.claims() + blocks + frames);
    }
}

#[test]
fn look_ups_find_events_while_maps_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, generations) = sealed(dir.path());
    let generation = &generations[0];
    let (entry, looked) = (generation.entry(), Cell::new(0));
    let files = store.shared.sealed_files(generation, &entry);
    let hash = store.shared.secret.event(b"t", b"e0");
    let look = |_| {
        let maps = files.open().unwrap();
        assert_eq!(maps.claim(hash).unwrap().map(|claim| claim.offset), Some(0));
        looked.set(looked.get() + 1);
    };
    files.build(&look).unwrap();
    assert!(looked.get() > entry.closed.unwrap().events, "it is looked for while each claim is written");
}

/// A clock that can be put forward; its monotonic time too.
#[derive(Debug, Default)]
struct Jumping(std::sync::atomic::AtomicU64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn monotonic(&self) -> std::time::Instant {
        SystemClock.monotonic() + Duration::from_secs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[test]
fn a_pause_of_the_whole_process_is_not_taken_for_a_disk_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Jumping::default());
    let seams =
        Seams { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..seams(Arc::new(MemoryIndexes::default())) };
    let store = Local::open(&options(dir.path(), 1), seams).unwrap();
    let (begun, begins) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let shared = Arc::clone(&store.shared);
    let call = std::thread::spawn(move || {
        shared.watches.index.during(shared.now(), || {
            begun.send(()).unwrap();
            // Until the test lets go of it.
            let _ = ends.recv();
        });
    });
    begins.recv().unwrap();
    let failed_within = |seconds, jump: u64| {
        runtime().block_on(async {
            let jumps = async {
                // By then it has begun to look.
                tokio::time::sleep(Duration::from_millis(100)).await;
                clock.0.fetch_add(jump, std::sync::atomic::Ordering::SeqCst);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                failed = tokio::time::timeout(Duration::from_secs(seconds), store.failed()) => failed.is_ok(),
                () = jumps => false,
            }
        })
    };
    assert!(!failed_within(3, 60), "a minute in which nobody looked is no minute of the call");
    // Much later, and somebody looked meanwhile: by the watch itself.
    let watch = &store.shared.watches.index;
    let now = store.shared.now();
    watch.check(now + Duration::from_secs(20)).unwrap();
    assert!(watch.check(now + Duration::from_secs(40)).is_err(), "a call that hangs is still seen");
    drop(end);
    call.join().unwrap();
}

#[test]
fn a_consumer_that_was_made_anew_with_other_topics_is_not_the_one_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(&options(dir.path(), 1), seams(Arc::new(MemoryIndexes::default()))).unwrap();
    let key = |topic: &str| {
        let topics = std::iter::once(crate::event::pattern::TopicPattern::only(topic)).collect();
        ConsumerKey { name: "c".parse().unwrap(), topics: Arc::new(topics) }
    };
    let (before, now) = (key("before"), key("now"));
    runtime().block_on(async {
        let events = [("before", "1".to_owned(), "1"), ("now", "1".to_owned(), "1")];
        store.append(Arc::new(batch(&events))).await.unwrap();
        assert!(store.put_consumer(&before, &Start::Start).await.unwrap());
        assert!(store.delete_consumer(&before).await.unwrap());
        assert!(store.put_consumer(&now, &Start::Start).await.unwrap());
        let take = |consumer: &ConsumerKey| Take {
            consumer: consumer.clone(),
            partition: crate::consumer::partition::Partition::ALL,
            holder: crate::consumer::Holder::named("w").unwrap(),
            lease_id: None,
            lease: Duration::from_secs(60),
            limit: 10,
            bytes_max: 1 << 20,
            client: 0,
            reader: 0,
        };
        let Taken::Given(given) = store.take(&take(&now), |events| events.len()).await.unwrap() else {
            panic!("it is held");
        };
        assert_eq!(given.events, 1);
        let receipt = given.receipt.unwrap();
        let is_none = |e: Error| e.kind() == ErrorKind::NoConsumer;
        assert!(store.take(&take(&before), |_| ()).await.is_err_and(is_none));
        assert!(store.acknowledge(&before, &receipt).await.is_err_and(is_none));
        assert!(store.seek_consumer(&before, &Start::End).await.is_err_and(is_none));
        assert!(store.consumer(&before, Look::default()).await.is_err_and(is_none));
        assert!(!store.delete_consumer(&before).await.unwrap());
        store.acknowledge(&now, &receipt).await.unwrap();
        assert_eq!(store.consumer(&now, Look::default()).await.unwrap().lag_events, 0);
    });
    store.close().unwrap();
}
