//! The whole path of an event in process, and its parts, each beside a reference so that a ratio
//! can be read.
//!
//! `append`: batches of 100 events through the local store, 16 in flight. Its reference writes the
//! same bytes to a file with one fdatasync a 1,600 events, and knows ids in a `HashSet`: the least
//! that a durable inbox must do.
//!
//! `publish`: a request of 100 known events through hyper, in memory: HTTP, JSON, checks, digests,
//! the decision and the answer. Its reference only finds the fields in the JSON.
//!
//! `commit`: one event at a time, each on disk before the next. Its reference overwrites 4 KiB of
//! zeros, with fdatasync.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sekali::clock::SystemClock;
use sekali::disk::SystemDisk;
use sekali::event::{Batch, BatchBuilder};
use sekali::http::{Connection, Limits, Service};
use sekali::metrics::Metrics;
use sekali::store::EventStore;
use sekali::store::local::format::codec::{decode_varied, encode_varied};
use sekali::store::local::format::entries::EventRecord;
use sekali::store::local::index::SledIndexes;
use sekali::store::local::{Local, Options, Seams};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 100;
const IN_FLIGHT: usize = 16;
const PAYLOAD: &str = r#"{"amount": 1250, "currency": "EUR", "customer": "c-18342", "items": [{"sku": "A-1", "n": 2}], "note": "as agreed"}"#;

/// Events with ids that never repeat, 40 % of them sent again.
struct Workload {
    random: fastrand::Rng,
    sent: Vec<(u8, u128)>,
}

impl Workload {
    fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(7), sent: Vec::new() }
    }

    fn batch(&mut self, events: usize) -> Batch {
        let ids = (0..events).map(|_| {
            if !self.sent.is_empty() && self.random.u8(..) < 102 {
                return self.sent[self.sent.len() - 1 - self.random.usize(..self.sent.len().min(100_000))];
            }
            let fresh = (self.random.u8(..64), self.random.u128(..));
            self.sent.push(fresh);
            fresh
        });
        encode(ids)
    }
}

/// A batch of events with these topics and ids.
fn encode(events: impl Iterator<Item = (u8, u128)>) -> Batch {
    let mut body = String::new();
    let mut ids = Vec::new();
    for (topic, id) in events {
        let start = body.len();
        body.push_str(&format!("topic-{topic:02}{id:032x}"));
        ids.push(start..body.len());
    }
    let body = Bytes::from(body);
    let mut builder = BatchBuilder::new(body.clone());
    for id in ids {
        let text = std::str::from_utf8(&body[id]).unwrap_or_default();
        let (topic, id) = text.split_at(8);
        let _ = builder.push(topic, id, "2026-11-22T10:00:00.123456+00:00", "checkout-service", PAYLOAD);
    }
    builder.finish()
}

fn open(data_dir: &Path) -> Option<Arc<Local>> {
    let options = Options {
        data_dir: data_dir.to_path_buf(),
        must_exist: false,
        workers: 1,
        generation_events: 1_000_000,
        generation_bytes: 512 << 20,
        topics_max: 1_000,
    };
    let seams = Seams {
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(SledIndexes::default()),
        metrics: Metrics::default(),
    };
    Local::open(&options, seams).ok().map(Arc::new)
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    let Ok(dir) = tempfile::tempdir_in(".") else { return };
    let Some(store) = open(dir.path()) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    group.bench_function("one event", |bencher| {
        bencher.iter_custom(|rounds| {
            // Fresh ones only: what is known and durable is answered without a commit.
            let batches: Vec<Batch> =
                (0..rounds).map(|_| encode(std::iter::once((1, fastrand::u128(..))))).collect();
            let begin = now();
            for batch in batches {
                let _ = runtime.block_on(store.append(batch.into()));
            }
            begin.elapsed()
        });
    });
    let _ = store.close();

    const ZEROS: u64 = 64 << 20;
    let Ok(file) = File::create(dir.path().join("reference")) else { return };
    let _ = file.write_all_at(&vec![0; ZEROS as usize], 0).and_then(|()| file.sync_all());
    let mut at = 0;
    group.bench_function("reference: 4 KiB over zeros, fdatasync", |bencher| {
        bencher.iter(|| {
            at = (at + 4_096) % ZEROS;
            file.write_all_at(&[7; 4_096], at).and_then(|()| file.sync_data()).is_ok()
        });
    });
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements((BATCH * IN_FLIGHT) as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(8));

    let Ok(dir) = tempfile::tempdir_in(".") else { return };
    let Some(store) = open(dir.path()) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    else {
        return;
    };
    let mut workload = Workload::new();
    group.bench_function("local store", |bencher| {
        bencher.iter_custom(|rounds| {
            let batches: Vec<Batch> =
                (0..rounds as usize * IN_FLIGHT).map(|_| workload.batch(BATCH)).collect();
            let batches = Arc::new(std::sync::Mutex::new(batches));
            let begin = now();
            runtime.block_on(async {
                let tasks: Vec<_> = (0..IN_FLIGHT)
                    .map(|_| {
                        let (store, batches) = (Arc::clone(&store), Arc::clone(&batches));
                        tokio::spawn(async move {
                            while let Some(batch) = batches.lock().ok().and_then(|mut left| left.pop()) {
                                if store.append(batch.into()).await.is_err() {
                                    return;
                                }
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    let _ = task.await;
                }
            });
            begin.elapsed()
        });
    });
    let _ = store.close();

    let Ok(file) = File::create(dir.path().join("reference")) else { return };
    let (mut at, mut known) = (0, HashSet::new());
    group.bench_function("reference: file and set", |bencher| {
        bencher.iter_custom(|rounds| {
            let batches: Vec<Batch> =
                (0..rounds as usize * IN_FLIGHT).map(|_| workload.batch(BATCH)).collect();
            let begin = now();
            for group in batches.chunks(IN_FLIGHT) {
                let mut bytes = Vec::new();
                for event in group.iter().flat_map(Batch::iter) {
                    if known.insert([event.topic, event.event_id].concat()) {
                        for field in
                            [event.topic, event.event_id, event.timestamp, event.source, event.payload]
                        {
                            bytes.extend_from_slice(field);
                        }
                    }
                }
                let _ = file.write_all_at(&bytes, at).and_then(|()| file.sync_data());
                at += bytes.len() as u64;
            }
            begin.elapsed()
        });
    });
    group.finish();
}

/// An event as it comes, for the reference: its fields are found, nothing is checked.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "read, not used")]
struct Raw<'a> {
    topic: &'a str,
    event_id: &'a str,
    timestamp: &'a str,
    source: &'a str,
    #[serde(borrow)]
    payload: &'a serde_json::value::RawValue,
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    group.measurement_time(Duration::from_secs(4));
    let events: Vec<String> = (0..BATCH)
        .map(|id| format!(r#"{{"topic":"orders","event_id":"{id:032x}","timestamp":"2026-11-22T10:00:00.123456+00:00","source":"checkout","payload":{PAYLOAD}}}"#))
        .collect();
    let body = Bytes::from(format!("[{}]", events.join(",")));
    let Ok(dir) = tempfile::tempdir_in(".") else { return };
    let Some(store) = open(dir.path()) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let (clock, metrics) = (Arc::new(SystemClock), Metrics::default());
    let service = Arc::new(Service::new(Arc::clone(&store), Limits::default(), clock, metrics));
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let connection = Arc::new(Connection::within_process());
    runtime.spawn(async move {
        let answer = service_fn(|request| service.answer(request, &connection));
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), answer).await;
    });
    let Ok((mut sender, connection)) = runtime.block_on(handshake(TokioIo::new(ours))) else { return };
    runtime.spawn(connection);
    // All known after the first time, so that no disk is in it.
    group.bench_function("100 known events over HTTP in memory", |bencher| {
        bencher.iter(|| {
            let request = Request::post("/publish")
                .header("host", "localhost")
                .header("content-type", "application/json");
            runtime.block_on(async {
                sender.ready().await.ok()?;
                let answer =
                    sender.send_request(request.body(Full::<Bytes>::from(body.clone())).ok()?).await.ok()?;
                let is_ok = answer.status() == 200;
                answer.into_body().collect().await.ok().filter(|_| is_ok)
            })
        });
    });
    let _ = store.close();
    group.bench_function("reference: their JSON, unchecked", |bencher| {
        bencher.iter(|| serde_json::from_slice::<Vec<Raw<'_>>>(&body).map(|events| events.len()));
    });
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parts");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    let id = "0123456789abcdef0123456789abcdef";
    group.bench_function("check one event (digest included)", |bencher| {
        let mut builder = BatchBuilder::new(Bytes::new());
        bencher.iter(|| {
            if builder.len() == 10_000 {
                builder = BatchBuilder::new(Bytes::new());
            }
            builder.push("orders", id, "2026-11-22T10:00:00.123456+00:00", "checkout", PAYLOAD)
        });
    });
    let record = EventRecord {
        digest: [7; 16],
        event_id: id.as_bytes(),
        timestamp: b"2026-11-22T10:00:00.123456+00:00",
        source: b"checkout",
        payload: PAYLOAD.as_bytes(),
    };
    let mut bytes = Vec::new();
    group.bench_function("encode one record", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            encode_varied(&record, &mut bytes);
            bytes.len()
        });
    });
    group.bench_function("reference: copy one record", |bencher| {
        let from = bytes.clone();
        let mut to = Vec::new();
        bencher.iter(|| {
            to.clear();
            to.extend_from_slice(&from);
            to.len()
        });
    });
    group.bench_function("decode one record", |bencher| {
        bencher.iter(|| {
            decode_varied::<EventRecord<'_>>(&mut &bytes[..], "event").map(|event| event.payload.len())
        });
    });
    group.bench_function("checksum of one record", |bencher| bencher.iter(|| crc32c::crc32c(&bytes)));
    group.finish();
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, parts, commit, append, publish);
criterion_main!(benches);
