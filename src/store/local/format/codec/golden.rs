//! The bytes of each record, spelt out: a change here is a change of format.

use super::*;
use crate::store::local::format::claim::*;
use crate::store::local::format::entries::*;

/// Bytes from hexadecimal text, blanks ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn assert_fixed<T: FixedRecord + PartialEq + std::fmt::Debug>(record: &T, bytes: &str) {
    assert_eq!(record.encoded(), hex(bytes));
    assert_eq!(record.encoded().len(), T::BYTES);
    assert_eq!(&T::from_bytes(&hex(bytes)).unwrap(), record);
    assert!(T::from_bytes(&hex(bytes)[1..]).is_err(), "a short record is refused");
}

#[test]
fn frame_header() {
    let mut header = FrameHeader {
        magic: FrameHeader::MAGIC,
        version: FRAME_VERSION,
        kind: FrameKind::Events as u8,
        reserved: 0,
        length: 0x01020304,
        blocks: 2,
        events: 3,
        blocks_crc: 0x0a0b0c0d,
        store_id: *b"0123456789abcdef",
        nonce: 7,
        sequence: 9,
        first_event: 11,
        at: 13,
        durable_through: 8,
        received_min: -1,
        received_max: 1,
        previous_crc: 5,
        crc: 0,
    };
    let mut bytes = Vec::new();
    header.length = 0x0102;
    header.seal_to(&mut bytes);
    let expected = hex("734b6c46 01 02 0000 02010000 02000000 03000000 0d0c0b0a
        30313233343536373839616263646566 0700000000000000 0900000000000000 0b00000000000000
        0d00000000000000 0800000000000000 ffffffffffffffff 0100000000000000 05000000 2af50c1d");
    assert_eq!(bytes, expected);
    assert_eq!(bytes.len(), FrameHeader::BYTES);
    assert_eq!(FrameHeader::open(&bytes, 7).unwrap(), header);
    assert!(FrameHeader::open(&bytes, 8).is_err(), "of another generation");
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(FrameHeader::open(&damaged, 7).is_err(), "bit {bit}");
    }
}

#[test]
fn block_header() {
    let header = BlockHeader::of(BlockKind::Counters, BlockEncoding::Plain, 3, b"123456789");
    assert_fixed(&header, "01 02 00 00 09000000 03000000 839206e3");
    let opened = BlockHeader::open(&header.encoded());
    assert_eq!(opened, Ok((header, BlockKind::Counters, BlockEncoding::Plain)));
}

/// A block of this body, as a worker makes it.
fn block(body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BlockHeader::BYTES];
    block.extend_from_slice(body);
    finish_block(BlockKind::Events, 1, &mut block, &mut Vec::new());
    block
}

#[test]
fn a_body_that_repeats_itself_is_packed_and_a_short_or_random_one_is_not() {
    let kept = block(&[7; 4096]);
    assert_eq!(kept[2], BlockEncoding::Lz4 as u8);
    assert_eq!(unpack(BlockEncoding::Lz4, &kept[BlockHeader::BYTES..]).unwrap()[..], [7; 4096]);
    // Spelt out, as another version of the packer may find other matches: the length; one byte and
    // a match of 4,090 with what is one byte before; the last five bytes.
    let packed = hex("00100000 1f 07 0100 ffffffffffffffffffffffffffffff f6 50 0707070707");
    assert_eq!(unpack(BlockEncoding::Lz4, &packed).unwrap()[..], [7; 4096]);
    for body in [vec![7; 1023], (0..4096).map(|_| fastrand::u8(..)).collect()] {
        let kept = block(&body);
        assert_eq!((kept[2], &kept[BlockHeader::BYTES..]), (BlockEncoding::Plain as u8, &body[..]));
    }
}

#[test]
fn what_is_packed_is_unpacked_and_what_is_damaged_is_an_error() {
    let mut random = fastrand::Rng::with_seed(3);
    for length in [1024, 5000, BLOCK_BYTES, BLOCK_BYTES_MAX] {
        let body: Vec<u8> = (0..length).map(|_| random.u8(..4)).collect();
        let kept = block(&body);
        let kept = &kept[BlockHeader::BYTES..];
        assert!(kept.len() < body.len());
        assert_eq!(unpack(BlockEncoding::Lz4, kept).unwrap(), body);
        assert!(unpack(BlockEncoding::Lz4, &kept[..kept.len() - 1]).is_err());
        assert!(unpack(BlockEncoding::Lz4, &kept[..3]).is_err());
        for _ in 0..200 {
            let mut damaged = kept.to_vec();
            damaged[random.usize(..kept.len())] ^= 1 << random.u8(..8);
            // Other bytes or an error: the checksum over them tells. Never a panic, never more than
            // a block.
            let length = unpack(BlockEncoding::Lz4, &damaged).map_or(0, |body| body.len());
            assert!(length <= BLOCK_BYTES_MAX);
        }
    }
    let too_long = (BLOCK_BYTES_MAX as u32 + 1).to_le_bytes();
    assert!(unpack(BlockEncoding::Lz4, &too_long).is_err());
}

#[test]
fn records_of_an_events_block() {
    let head = EventsHead { topic: b"t", first_offset: 300, received_at: -2 };
    let event = EventRecord {
        digest: *b"0123456789abcdef",
        event_id: b"id",
        timestamp: b"2026-11-22T10:00:00Z",
        source: b"",
        payload: b"{}",
    };
    let mut bytes = Vec::new();
    encode_varied(&head, &mut bytes);
    encode_varied(&event, &mut bytes);
    let expected = hex("01 74 fb2c01 03 30313233343536373839616263646566 02 6964
        14 323032362d31312d32325431303a30303a30305a 00 02 7b7d");
    assert_eq!(bytes, expected);
    let mut rest = &bytes[..];
    assert_eq!(decode_varied::<EventsHead<'_>>(&mut rest, "head"), Ok(head));
    assert_eq!(decode_varied::<EventRecord<'_>>(&mut rest, "event"), Ok(event));
    assert!(rest.is_empty());
    assert!(decode_varied::<EventRecord<'_>>(&mut rest, "event").is_err());
}

#[test]
fn counters_and_topics() {
    let counters = CounterEntry { topic: b"t", duplicates: 5, conflicts: 1, rejected: 0 };
    let topic = TopicEntry { counters, next_offset: 9, first_received_at: 1, last_received_at: 2 };
    let mut bytes = Vec::new();
    encode_varied(&topic, &mut bytes);
    assert_eq!(bytes, hex("01 74 05 01 00 09 02 04"));
    assert_eq!(decode_varied(&mut &bytes[..], "topic"), Ok(topic));
}

#[test]
fn what_becomes_of_consumers() {
    let position = PositionEntry { topic: b"t", next_offset: 300 };
    for (entry, expected) in [
        (
            ConsumerEntry::Begun { name: b"c", number: 7, created_at: -1, topics: vec![b"t", b"u.*"] },
            "00 01 63 07 01 02 01 74 03 752e2a",
        ),
        (ConsumerEntry::Ended { name: b"c" }, "01 01 63"),
        (
            ConsumerEntry::Reached { name: b"c", number: 1 << 40, positions: vec![position] },
            "02 01 63 fd0000000000010000 01 01 74 fb2c01",
        ),
    ] {
        let mut bytes = Vec::new();
        encode_varied(&entry, &mut bytes);
        assert_eq!(bytes, hex(expected));
        assert_eq!(decode_varied(&mut &bytes[..], "consumer"), Ok(entry));
    }
}

#[test]
fn values_of_the_indexes() {
    let digest = *b"0123456789abcdef";
    assert_fixed(
        &Claim { offset: 1, digest, received_at: 3 },
        "0100000000000000 30313233343536373839616263646566 0300000000000000",
    );
    assert_fixed(&BlockLocation { at: 1, length: 2, count: 3 }, "0100000000000000 02000000 03000000");
    assert_fixed(
        &FrameLocation { at: 1, received_min: 2, received_max: 3 },
        "0100000000000000 0200000000000000 0300000000000000",
    );
    assert_fixed(
        &Covered { version: INDEX_VERSION, nonce: 1, through: 2, claims: 3, sum: 4 },
        "01 0100000000000000 0200000000000000 0300000000000000 0400000000000000",
    );
}
