//! A journal of any frames is read as it was written; damaged anywhere, each frame is read as it
//! was, or not at all.

use std::io;

use proptest::prelude::*;

use super::*;
use crate::store::local::format::codec::{BlockHeader, BlockKind, FrameKind, encode_varied, finish_block};
use crate::store::local::format::entries::{EventRecord, EventsHead};
use crate::store::local::format::frame::{Chain, FrameBuilder};

const NONCE: u64 = 77;

/// A journal in memory.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl DiskFile for Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The blocks of a frame: topic, first offset, payloads.
type Blocks = Vec<(u8, u64, Vec<Vec<u8>>)>;

/// The journal, and where each frame begins.
fn journal(frames: &[Blocks]) -> (Vec<u8>, Vec<usize>) {
    let mut chain = Chain {
        store_id: *b"0123456789abcdef",
        nonce: NONCE,
        sequence: 1,
        first_event: 0,
        at: 0,
        durable_through: 0,
        previous_crc: 0,
    };
    let (mut bytes, mut starts, mut builder) = (Vec::new(), Vec::new(), FrameBuilder::default());
    for frame in frames {
        builder.clear();
        for (topic, first_offset, payloads) in frame {
            let mut block = vec![0; BlockHeader::BYTES];
            encode_varied(
                &EventsHead { topic: &[*topic], first_offset: *first_offset, received_at: 5 },
                &mut block,
            );
            for payload in payloads {
                let event =
                    EventRecord { digest: [9; 16], event_id: b"i", timestamp: b"t", source: b"", payload };
                encode_varied(&event, &mut block);
            }
            finish_block(BlockKind::Events, payloads.len() as u32, &mut block, &mut Vec::new());
            builder.push_events(&block, payloads.len() as u32, 5);
        }
        starts.push(bytes.len());
        bytes.extend_from_slice(builder.finish(FrameKind::Events, &mut chain).1);
    }
    (bytes, starts)
}

/// What the frame at `at` holds; `None` if it is not there.
fn read(reader: &mut FrameReader, at: usize) -> Option<Blocks> {
    let frame = reader.frame(at as u64).ok()??;
    let blocks = frame.blocks().map(|block| {
        let body = block.body().unwrap();
        let events = body.events().unwrap();
        let head = events.head;
        (head.topic[0], head.first_offset, events.map(|event| event.unwrap().1.payload.to_vec()).collect())
    });
    Some(blocks.collect())
}

fn frames() -> impl Strategy<Value = Vec<Blocks>> {
    let payloads = prop::collection::vec(prop::collection::vec(0u8..4, 0..400), 1..6);
    let block = (any::<u8>(), any::<u64>(), payloads);
    prop::collection::vec(prop::collection::vec(block, 0..4), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_damaged_frame_is_none_and_all_others_are_as_they_were(
        frames in frames(), damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..3), cut in any::<prop::sample::Index>(),
    ) {
        let (sound, starts) = journal(&frames);
        let mut bytes = sound.clone();
        bytes.extend_from_slice(&[0; 64]);
        for (at, bits) in &damage {
            bytes[at.index(sound.len())] ^= bits;
        }
        // A third of them are cut as well.
        if damage.len() == 2 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let ends = starts.iter().skip(1).copied().chain([sound.len()]);
        let mut reader = FrameReader::new(Arc::new(Bytes(bytes.clone())), Path::new("journal"), NONCE);
        for ((frame, start), end) in frames.iter().zip(&starts).zip(ends) {
            let is_sound = bytes.get(*start..end) == Some(&sound[*start..end]);
            let expected = is_sound.then(|| frame.clone());
            prop_assert_eq!(read(&mut reader, *start), expected, "at {}", start);
        }
        let mut other = FrameReader::new(Arc::new(Bytes(sound)), Path::new("journal"), NONCE + 1);
        prop_assert_eq!(read(&mut other, 0), None, "of another generation");
    }
}
