//! Random records against a `BTreeMap`; then every kind of damage.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::writer::write;
use super::*;
use crate::disk::{DiskFile, SystemDisk};

fn shape(key_width: usize, value_width: usize) -> Shape {
    Shape { kind: Kind::Claims, key_width, value_width, store_id: *b"0123456789abcdef", nonce: 7 }
}

fn files() -> Arc<FileCache> {
    FileCache::new(Arc::new(SystemDisk), 4)
}

/// 12-byte keys, from a few clusters so that prefixes are anything but uniform, and 20-byte values.
fn records() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let key = (prop_oneof![Just(0u64), Just(u64::MAX), Just(1 << 40), any::<u64>()], any::<u16>())
        .prop_map(|(prefix, rest)| [&prefix.to_be_bytes()[..], &u32::from(rest).to_be_bytes()].concat());
    proptest::collection::btree_map(key, proptest::collection::vec(any::<u8>(), 20), 0..5_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn answers_are_those_of_a_sorted_map(map in records(), others in proptest::collection::vec(any::<u64>(), 50)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        prop_assert_eq!(write(&SystemDisk, &path, shape(12, 20), &map).unwrap(), map.len() as u64);
        let file = SortedFile::open(&files(), &path, shape(12, 20)).unwrap();
        let mut block = BlockBuffer::default();
        let near = map.keys().flat_map(|key| {
            let mut after = key.clone();
            after[11] = after[11].wrapping_add(1);
            [key.clone(), after]
        });
        let far = others.iter().map(|n| [&n.to_be_bytes()[..], &[0; 4]].concat());
        for key in near.chain(far) {
            prop_assert_eq!(file.get(&key, &mut block).unwrap(), map.get(&key).map(|value| &value[..]));
            let number = map.range(..=key.clone()).count().wrapping_sub(1) as u64;
            let before = map.range(..=key.clone()).next_back().map(|(key, value)| (number, &key[..], &value[..]));
            prop_assert_eq!(file.at_or_before(&key, &mut block).unwrap(), before);
        }
        let mut scan = file.scan();
        for (i, (key, value)) in map.iter().enumerate() {
            prop_assert_eq!(scan.next().unwrap(), Some((&key[..], &value[..])));
            prop_assert_eq!(file.record(i as u64, &mut block).unwrap(), Some((&key[..], &value[..])));
        }
        prop_assert_eq!(scan.next().unwrap(), None);
        prop_assert_eq!(file.record(map.len() as u64, &mut block).unwrap(), None);
    }
}

fn whole_scan(path: &Path, shape: Shape) -> Result<u64> {
    let file = SortedFile::open(&files(), path, shape)?;
    let mut scan = file.scan();
    while scan.next()?.is_some() {}
    Ok(file.count())
}

fn sample(path: &Path) -> Vec<u8> {
    let records = (0..300u64).map(|i| ((i * 1_000_003).to_be_bytes(), [i as u8; 32]));
    write(&SystemDisk, path, shape(8, 32), records).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn any_flipped_bit_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let content = sample(&path);
    assert_eq!(content.len(), BLOCK_BYTES * 4);
    for bit in (0..content.len() * 8).step_by(37) {
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, damaged).unwrap();
        let error = whole_scan(&path, shape(8, 32)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
    }
}

#[test]
fn any_other_length_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let content = sample(&path);
    let longer = [&content[..], &[0; BLOCK_BYTES]].concat();
    for len in (0..content.len()).step_by(97).chain([content.len() - 1, content.len() + 1, longer.len()]) {
        std::fs::write(&path, &longer[..len]).unwrap();
        assert_eq!(whole_scan(&path, shape(8, 32)).unwrap_err().kind(), ErrorKind::Corrupt, "length {len}");
    }
}

#[test]
fn blocks_in_each_others_place_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut content = sample(&path);
    let (a, b) = content.split_at_mut(2 * BLOCK_BYTES);
    a[BLOCK_BYTES..].swap_with_slice(&mut b[..BLOCK_BYTES]);
    std::fs::write(&path, content).unwrap();
    assert!(whole_scan(&path, shape(8, 32)).is_err());
}

#[test]
fn a_file_of_another_kind_store_generation_or_width_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    sample(&path);
    let right = shape(8, 32);
    assert_eq!(whole_scan(&path, right).unwrap(), 300);
    let others = [
        Shape { kind: Kind::Frames, ..right },
        Shape { store_id: [1; 16], ..right },
        Shape { nonce: 8, ..right },
        Shape { key_width: 16, value_width: 24, ..right },
        Shape { value_width: 31, ..right },
    ];
    for other in others {
        assert_eq!(whole_scan(&path, other).unwrap_err().kind(), ErrorKind::Corrupt, "{other:?}");
    }
}

#[test]
fn records_out_of_order_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, width, keys: &[[u8; 1]]| {
        let (path, shape) = (dir.path().join(name), shape(width, 1));
        let error = write(&SystemDisk, &path, shape, keys.iter().map(|key| (key, [0]))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(whole_scan(&path, shape).is_err(), "a file that was not finished does not open");
    };
    refused("falling", 1, &[[2], [1]]);
    refused("twice", 1, &[[2], [2]]);
    refused("narrow", 2, &[[2]]);
}

#[test]
fn blocks_out_of_order_are_seen_within_what_is_read_at_once_and_between() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let shape = shape(8, 24);
    write(&SystemDisk, &path, shape, (0..3_000u64).map(|i| (i.to_be_bytes(), [1; 24]))).unwrap();
    let good = std::fs::read(&path).unwrap();
    for first in [2, SCAN_BLOCKS] {
        let mut bytes = good.clone();
        for (to, from) in [(first, first + 1), (first + 1, first)] {
            let body = &good[from * BLOCK_BYTES..][..BODY_BYTES];
            bytes[to * BLOCK_BYTES..][..BODY_BYTES].copy_from_slice(body);
            bytes[to * BLOCK_BYTES + BODY_BYTES..][..4]
                .copy_from_slice(&shape.crc(to as u64, body).to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        let error = whole_scan(&path, shape).unwrap_err().to_string();
        assert!(error.contains(&format!("at byte {}", (first + 1) * BLOCK_BYTES)), "{error}");
        assert!(error.contains("not in order"), "{error}");
    }
}

#[test]
fn uniform_keys_are_found_in_a_few_reads() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Debug)]
    struct Counted(Arc<dyn DiskFile>, Arc<AtomicU64>);
    impl DiskFile for Counted {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.1.fetch_add(1, Relaxed);
            self.0.read_at(buf, offset)
        }
        fn write_all_at(&self, buf: &[u8], offset: u64) -> std::io::Result<()> {
            self.0.write_all_at(buf, offset)
        }
        fn sync(&self) -> std::io::Result<()> {
            self.0.sync()
        }
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut random = fastrand::Rng::with_seed(1);
    let keys: std::collections::BTreeSet<u128> = (0..200_000).map(|_| random.u128(..)).collect();
    write(&SystemDisk, &path, shape(16, 32), keys.iter().map(|key| (key.to_be_bytes(), [0; 32]))).unwrap();
    let cache = files();
    let mut file = SortedFile::open(&cache, &path, shape(16, 32)).unwrap();
    let reads = Arc::new(AtomicU64::new(0));
    file.file = cache.preopened(&path, Arc::new(Counted(file.file.get().unwrap(), reads.clone())));
    let mut block = BlockBuffer::default();
    let wanted: Vec<u128> = keys.iter().copied().step_by(20).collect();
    let mut most = 0;
    for key in &wanted {
        let before = reads.load(Relaxed);
        assert!(file.get(&key.to_be_bytes(), &mut block).unwrap().is_some());
        most = most.max(reads.load(Relaxed) - before);
    }
    let mean = reads.load(Relaxed) as f64 / wanted.len() as f64;
    assert!(mean < 2.5 && most <= 12, "{mean} reads a look-up, {most} at most");
}

#[test]
fn golden() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("map");
    let records = [([1u8; 16], [2u8; 32]), ([3; 16], [4; 32])];
    write(&SystemDisk, &path, shape(16, 32), records).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
    assert_eq!(
        &bytes[..KEYS_AT],
        b"sKlS\x01\x01\0\0\x10\0\x20\0\0\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x000123456789abcdef"
    );
    assert_eq!(&bytes[KEYS_AT..KEYS_AT + 32], [[1; 16], [3; 16]].concat());
    assert_eq!(&bytes[BLOCK_BYTES..BLOCK_BYTES + 48], [&[1u8; 16][..], &[2; 32]].concat());
    assert_eq!(crc32c::crc32c(&bytes), 4_128_391_432, "the checksums too");
}
