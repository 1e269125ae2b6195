use std::collections::HashSet;

use super::*;

const STORE: [u8; 16] = *b"0123456789abcdef";

#[test]
fn golden() {
    let bytes = encoded(&filter_of(7, &[1, 2 << 64 | 3]));
    let head =
        b"sKlF\x01\0\x01\0\x02\0\0\0\0\0\0\x000123456789abcdef\x01\0\0\0\x07\0\0\0\0\0\0\0\x0e\0\0\0\0\0\0\0";
    assert_eq!(&bytes[..52], head);
    assert_eq!(crc32c::crc32c(&bytes), 1_007_210_300, "the cells and the checksum too");
}

fn encoded(filter: &Filter) -> Vec<u8> {
    let mut all = Vec::new();
    filter
        .encode(STORE, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    all
}

/// The nonce of generation `id`.
fn key(id: u64) -> GenerationKey {
    (id, id * 2)
}

pub(crate) fn merged(generations: &[(u64, Vec<u128>)]) -> Filter {
    let keys = generations.iter().map(|(id, _)| key(*id)).collect();
    let claims = generations.iter().map(|(_, events)| events.len() as u64).sum();
    let sorted = |events: &Vec<u128>| {
        let mut events: Vec<u128> = events.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        events.sort_unstable();
        events.into_iter().map(Ok)
    };
    Filter::build(keys, claims, generations.iter().map(|(_, events)| sorted(events)).collect()).unwrap()
}

pub(crate) fn filter_of(id: u64, events: &[u128]) -> Filter {
    merged(&[(id, events.to_vec())])
}

#[test]
fn unknown_events_are_rarely_let_through() {
    let mut random = fastrand::Rng::with_seed(3);
    for (generations, at_most) in [(1u64, 30), (8, 160), (64, 1_100)] {
        let all: Vec<_> = (0..generations)
            .map(|id| (id, (0..400_000 / generations).map(|_| random.u128(..)).collect::<Vec<u128>>()))
            .collect();
        let filter = merged(&all);
        for (id, events) in &all {
            assert!(events.iter().all(|event| filter.candidate(*event) == Some(*id)));
        }
        assert!((4..=6).contains(&(filter.cells.len() * 2 * 2 / 400_000)), "2 to 3 bytes a claim");
        let passed = (0..1_000_000).filter(|_| filter.candidate(random.u128(..)).is_some()).count();
        assert!(passed < at_most, "{passed} of a million, with {generations} generations");
    }
}

#[test]
fn an_event_that_is_there_twice_is_an_error() {
    let keys = vec![key(1), key(2)];
    let events = vec![vec![Ok(5)].into_iter(), vec![Ok(5)].into_iter()];
    assert_eq!(Filter::build(keys, 2, events).unwrap_err().kind(), ErrorKind::Corrupt);
    let broken = vec![vec![Ok(5), Err(Error::new(ErrorKind::Io, "gone"))].into_iter()];
    assert_eq!(Filter::build(vec![key(1)], 2, broken).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_file_reads_back_and_any_damage_is_seen() {
    let filter = merged(&[(6, vec![1, 2 << 70]), (7, vec![3 << 100])]);
    let content = encoded(&filter);
    let path = Path::new("filter");
    assert_eq!(Filter::decode(path, &content, STORE, 14).unwrap(), filter);
    assert!(Filter::decode(path, &content, STORE, 12).is_err());
    assert!(Filter::decode(path, &content, [0; 16], 14).is_err());
    for bit in 0..content.len() * 8 {
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Filter::decode(path, &damaged, STORE, 14).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
    }
    for len in 0..content.len() {
        assert!(Filter::decode(path, &content[..len], STORE, 14).is_err(), "length {len}");
    }
}

#[test]
fn a_file_with_a_right_checksum_and_wrong_figures_is_refused() {
    let filter = filter_of(7, &[1, 2 << 70]);
    let good = encoded(&filter);
    for at in (6..8).chain(32..36).chain(60..HEAD_BYTES + 32) {
        for value in [0, 2, 0x7f, 0xff] {
            let mut bytes = good[..good.len() - 4].to_vec();
            if bytes[at] == value {
                continue;
            }
            bytes[at] = value;
            let crc = crc(14, &bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            assert!(Filter::decode(Path::new("filter"), &bytes, STORE, 14).is_err(), "byte {at}: {value}");
        }
    }
}
