//! What a claim costs in each of its homes, beside a reference: sled (against a hash set), a sorted
//! file (against bisection in memory), filters (against a hash set).

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sekali::disk::SystemDisk;
use sekali::store::local::format::claim::{Claim, Covered};
use sekali::store::local::format::codec::INDEX_VERSION;
use sekali::store::local::format::hash::Secret;
use sekali::store::local::index::{Index, Indexes, SledIndexes};
use sekali::store::local::sealed::filter::Filter;
use sekali::store::local::sealed::filter_set::Filters;
use sekali::store::local::sealed::open_files::FileCache;
use sekali::store::local::sealed::sorted_file::{BlockBuffer, Kind, Shape, SortedFile, writer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPE: Shape =
    Shape { kind: Kind::Claims, key_width: 16, value_width: 32, store_id: [7; 16], nonce: 7 };

/// `topic \0 uuid`, sorted.
fn keys(random: &mut fastrand::Rng, count: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|_| format!("orders.{:02}\0{:032x}", random.u8(..64), random.u128(..)).into_bytes())
        .collect();
    keys.sort();
    keys
}

fn sled_claims(c: &mut Criterion) {
    const SET: usize = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = c.benchmark_group("claims in sorted sets of 100 k");
    group.throughput(Throughput::Elements(SET as u64)).sample_size(10);
    let claim = Claim { offset: 1, digest: [1; 16], received_at: 1 };
    let covered = Covered { version: INDEX_VERSION, nonce: 7, through: 1, claims: 1, sum: 1 };
    let mut random = fastrand::Rng::with_seed(1);
    let mut trees = 0;
    // A tree takes five sets, then another begins, as generations do.
    let mut tree: Option<(Arc<dyn Index>, usize)> = None;
    group.bench_function("sled compare_and_swap, trees of 500 k", |b| {
        b.iter_batched(
            || {
                if tree.as_ref().is_none_or(|(_, sets)| *sets == 5) {
                    trees += 1;
                    drop(tree.take());
                    let indexes = SledIndexes { cache_bytes: 16 << 20 };
                    let index = indexes.open(&dir.path().join(trees.to_string())).expect("an index");
                    tree = Some((index.into(), 0));
                }
                let (index, sets) = tree.take().expect("a tree");
                tree = Some((index.clone(), sets + 1));
                (index, keys(&mut random, SET))
            },
            |(index, keys)| {
                let claims: Vec<(&[u8], Claim)> = keys.iter().map(|key| (&key[..], claim)).collect();
                index.insert(&claims, &[], &covered).expect("inserted");
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("reference: std HashSet insert", |b| {
        b.iter_batched(
            || keys(&mut random, SET),
            |keys| keys.into_iter().collect::<HashSet<Vec<u8>>>(),
            BatchSize::PerIteration,
        );
    });
}

fn sorted_files(c: &mut Criterion) {
    const RECORDS: usize = 1_000_000;
    let mut random = fastrand::Rng::with_seed(2);
    let mut keys: Vec<u128> = (0..RECORDS).map(|_| random.u128(..)).collect();
    keys.sort_unstable();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("claims");
    let build = || {
        // It is made where none is.
        let _ = std::fs::remove_file(&path);
        let records = keys.iter().map(|key| (key.to_be_bytes(), [1u8; 32]));
        writer::write(&SystemDisk, &path, SHAPE, records).expect("written")
    };
    let mut group = c.benchmark_group("sorted file of 1 M claims, 48 bytes each");
    group.throughput(Throughput::Elements(RECORDS as u64)).sample_size(10);
    build();
    group.bench_function("build, fdatasync included", |b| b.iter(build));
    group.throughput(Throughput::Elements(1)).sample_size(50);
    let file = SortedFile::open(&FileCache::new(Arc::new(SystemDisk), 8), &path, SHAPE).expect("open");
    let mut block = BlockBuffer::default();
    group.bench_function("get, known, cached", |b| {
        b.iter(|| {
            let key = keys[random.usize(..RECORDS)].to_be_bytes();
            black_box(file.get(&key, &mut block).expect("read").is_some())
        });
    });
    group.bench_function("get, unknown, cached", |b| {
        b.iter(|| black_box(file.get(&random.u128(..).to_be_bytes(), &mut block).expect("read").is_some()));
    });
    group.bench_function("reference: bisection in a Vec", |b| {
        b.iter(|| {
            let key = keys[random.usize(..RECORDS)];
            black_box(keys.binary_search(&key))
        });
    });
}

fn filters(c: &mut Criterion) {
    const CLAIMS: u64 = 1_000_000;
    let mut random = fastrand::Rng::with_seed(3);
    let mut group = c.benchmark_group("filters of 1 M claims");
    group.throughput(Throughput::Elements(1)).sample_size(50);
    // Generations 0.., each of which is given as ascending hashes.
    let mut build = |ids: std::ops::Range<u64>, claims: u64| {
        let lanes: Vec<_> = ids.map(|id| (id, id)).collect();
        let mut sorted = || {
            let mut events: Vec<u128> = (0..claims).map(|_| random.u128(..)).collect();
            events.sort_unstable();
            events.into_iter().map(Ok)
        };
        let events = lanes.iter().map(|_| sorted()).collect::<Vec<_>>();
        let count = claims * lanes.len() as u64;
        move || Filter::build(lanes.clone(), count, events.clone()).expect("built")
    };
    let one = build(0..1, CLAIMS);
    group.throughput(Throughput::Elements(CLAIMS)).sample_size(10);
    group.bench_function("build", |b| b.iter(&one));
    group.throughput(Throughput::Elements(1)).sample_size(50);
    for generations in [5, 30] {
        let filters = Filters::default();
        let mut from = 0;
        for width in [64, 16, 4, 1] {
            while from + width <= generations {
                filters.add(build(from..from + width, CLAIMS)());
                from += width;
            }
        }
        let set = filters.view();
        let mut random = fastrand::Rng::with_seed(4);
        for together in [1, 10, 60] {
            group.throughput(Throughput::Elements(together as u64));
            group.bench_function(format!("{together} unknown events, {generations} generations"), |b| {
                b.iter(|| {
                    let events: Vec<u128> = (0..together).map(|_| random.u128(..)).collect();
                    let mut found = 0;
                    set.candidates(&events, |_, _| found += 1);
                    found
                });
            });
        }
    }
    let known: HashSet<u128> = (0..CLAIMS / 2).map(|_| random.u128(..)).collect();
    group.bench_function("reference: std HashSet of 500 k, unknown", |b| {
        b.iter(|| black_box(known.contains(&random.u128(..))));
    });
    let secret = Secret::new([3; 16]);
    group.bench_function("hash of an event", |b| {
        b.iter(|| {
            secret.event(black_box(b"orders.paid"), black_box(b"8f0e7c64-1f0b-4b0e-9b51-2f4b7f6f9a10"))
        });
    });
}

criterion_group!(benches, sled_claims, sorted_files, filters);
criterion_main!(benches);
