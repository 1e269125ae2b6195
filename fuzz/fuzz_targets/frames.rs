//! Blocks of any content, with right checksums, at the end of a journal: what decodes them believes
//! no length and no text.

use std::path::{Path, PathBuf};

use sekali::disk::{Disk, Open, read};
use sekali::store::local::format::codec::{
    BlockEncoding, BlockHeader, BlockKind, FixedRecord, FrameHeader, FrameKind,
};
use sekali_fuzz::{DATA, MemDisk, go_through, killed};

/// The last frame of all, and its journal. The last generation of all may be one that is only
/// prepared.
fn last_frame(disk: &MemDisk) -> (PathBuf, FrameHeader) {
    let names = disk.list(Path::new(DATA)).expect("a directory");
    let journals = names.iter().filter(|name| name.starts_with("gen-"));
    let frames = journals.filter_map(|name| {
        let path = Path::new(DATA).join(name).join("journal");
        let journal = read(disk, &path).expect("a journal");
        let starts = (0..journal.len()).filter(|at| journal[*at..].starts_with(&FrameHeader::MAGIC));
        let headers =
            starts.filter_map(|at| FrameHeader::from_bytes(&journal[at..at + FrameHeader::BYTES]).ok());
        Some((path, headers.last()?))
    });
    frames.max_by_key(|(_, header)| header.sequence).expect("a frame")
}

/// Plays one input.
pub(crate) fn play(data: &[u8]) {
    let [kind, encoding, count, body @ ..] = data else { return };
    let kind = BlockKind::from_byte(kind % 4 + 1).unwrap_or(BlockKind::Events);
    let encoding = BlockEncoding::from_byte(encoding % 2).unwrap_or(BlockEncoding::Plain);
    let disk = killed();
    let (path, last) = last_frame(&disk);
    let at = last.at + FrameHeader::BYTES as u64 + u64::from(last.length);
    let block = BlockHeader::of(kind, encoding, u32::from(*count), body);
    let head = block.encoded();
    let blocks = [&head, body].concat();
    let mut header = FrameHeader {
        kind: FrameKind::Events as u8,
        sequence: last.sequence + 1,
        at,
        first_event: last.first_event + u64::from(last.events),
        events: if kind == BlockKind::Events { u32::from(*count) } else { 0 },
        blocks: 1,
        blocks_crc: crc32c::crc32c(&head),
        length: blocks.len() as u32,
        durable_through: last.sequence,
        previous_crc: last.crc,
        ..last
    };
    let mut frame = Vec::new();
    header.seal_to(&mut frame);
    frame.extend_from_slice(&blocks);
    disk.open(&path, Open::Write).and_then(|file| file.write_all_at(&frame, at)).expect("a write");
    go_through(&disk);
}
