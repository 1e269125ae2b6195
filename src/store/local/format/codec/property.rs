//! Records of any content come back as they were; bytes of any kind are a record or an error.

use proptest::prelude::*;

use super::*;
use crate::store::local::format::claim::*;
use crate::store::local::format::entries::*;

/// Bytes that are a record are its only bytes.
fn check_fixed<T: FixedRecord>(bytes: &[u8]) {
    assert!(T::from_bytes(bytes).is_err() || bytes.len() == T::BYTES, "{} of another length", T::NAME);
    let record = T::from_bytes(&bytes.iter().copied().cycle().take(T::BYTES).collect::<Vec<_>>());
    if let Ok(record) = record {
        let bytes = record.encoded();
        assert_eq!(T::from_bytes(&bytes).map(|record| record.encoded()), Ok(bytes), "{}", T::NAME);
    }
}

/// Reads records as long as there are some: each takes bytes from the front.
fn check_varied<'a, T: BorrowDecode<'a, ()>>(mut bytes: &'a [u8]) {
    while !bytes.is_empty() {
        let before = bytes.len();
        if decode_varied::<T>(&mut bytes, "record").is_err() {
            assert_eq!(bytes.len(), before, "what is no record is left where it is");
            return;
        }
        assert!(bytes.len() < before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        check_fixed::<FrameHeader>(&bytes);
        check_fixed::<BlockHeader>(&bytes);
        check_fixed::<Claim>(&bytes);
        check_fixed::<Claim>(&bytes);
        check_fixed::<BlockLocation>(&bytes);
        check_fixed::<FrameLocation>(&bytes);
        check_fixed::<Covered>(&bytes);
        check_varied::<EventsHead<'_>>(&bytes);
        check_varied::<EventRecord<'_>>(&bytes);
        check_varied::<CounterEntry<'_>>(&bytes);
        check_varied::<TopicEntry<'_>>(&bytes);
        check_varied::<ConsumerEntry<'_>>(&bytes);
        let _ = unpack(BlockEncoding::Lz4, &bytes);
    }

    #[test]
    fn records_in_a_row_come_back_as_they_were(
        topic in prop::collection::vec(any::<u8>(), 0..255),
        fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 4),
        digest in any::<[u8; 16]>(),
        numbers in any::<[u64; 3]>(),
        times in any::<[i64; 2]>(),
    ) {
        let head = EventsHead { topic: &topic, first_offset: numbers[0], received_at: times[0] };
        let event = EventRecord {
            digest, event_id: &fields[0], timestamp: &fields[1], source: &fields[2], payload: &fields[3],
        };
        let counters =
            CounterEntry { topic: &topic, duplicates: numbers[0], conflicts: numbers[1], rejected: numbers[2] };
        let entry = TopicEntry {
            counters, next_offset: numbers[0], first_received_at: times[0], last_received_at: times[1],
        };
        let mut bytes = Vec::new();
        encode_varied(&head, &mut bytes);
        encode_varied(&event, &mut bytes);
        encode_varied(&counters, &mut bytes);
        encode_varied(&entry, &mut bytes);
        let mut rest = &bytes[..];
        prop_assert_eq!(decode_varied(&mut rest, "head"), Ok(head));
        prop_assert_eq!(decode_varied(&mut rest, "event"), Ok(event));
        prop_assert_eq!(decode_varied(&mut rest, "counter"), Ok(counters));
        prop_assert_eq!(decode_varied(&mut rest, "topic"), Ok(entry));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_body_comes_back_packed_or_not(words in prop::collection::vec(0u8..9, 0..6_000)) {
        let mut block = vec![0; BlockHeader::BYTES];
        block.extend_from_slice(&words);
        finish_block(BlockKind::Events, 1, &mut block, &mut Vec::new());
        let (head, kept) = block.split_at(BlockHeader::BYTES);
        let (header, _, encoding) = BlockHeader::open(head).unwrap();
        prop_assert_eq!(header.length as usize, kept.len());
        prop_assert_eq!(header.crc, crc32c::crc32c(kept));
        prop_assert_eq!(&*unpack(encoding, kept).unwrap(), &words[..]);
    }
}
