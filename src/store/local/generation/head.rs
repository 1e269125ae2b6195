//! The head of a generation's journal: every topic's state, so that nothing before it need be read.

use std::path::Path;
use std::sync::Arc;

use super::topic::Topic;
use crate::disk::{Disk, DiskFile};
use crate::error::{During, Result};
use crate::store::local::admission::preallocation::prepare;
use crate::store::local::format::codec::{
    BlockHeader, BlockKind, FixedRecord, FrameHeader, FrameKind, encode_varied,
};
use crate::store::local::format::entries::{CounterEntry, TopicEntry};
use crate::store::local::format::frame::{Chain, FrameBuilder};
use crate::store::local::format::layout::journal_path;
use crate::store::local::format::manifest::Entry;

/// Most bytes of the topic table in one frame.
const FRAME_BYTES: usize = 4 << 20;
/// Zeros that the first journal of a store, or of a repair, begins with.
const FIRST_BYTES: u64 = 256 << 10;
/// Most bytes of counters or topics in one block.
const TABLE_BLOCK_BYTES: usize = 60 << 10;

/// Makes the journal of a generation, with zeros and its head, durably.
pub(crate) fn begin_journal(
    disk: &dyn Disk,
    data_dir: &Path,
    store_id: [u8; 16],
    entry: &Entry,
    table: &[(u32, Vec<u8>)],
) -> Result<()> {
    let prepared = prepare(disk, data_dir, entry.id, None, (0, FIRST_BYTES), |_, _| {})?;
    let (path, mut chain) = (journal_path(data_dir, entry.id), Chain::begin(store_id, entry));
    write_head(&*prepared.file, &path, &mut FrameBuilder::default(), &mut chain, table).map(|_| ())
}

/// Writes the frames at the head of a generation, durably; returns their headers.
pub(crate) fn write_head(
    file: &dyn DiskFile,
    path: &Path,
    builder: &mut FrameBuilder,
    chain: &mut Chain,
    table: &[(u32, Vec<u8>)],
) -> Result<Vec<FrameHeader>> {
    let mut headers = Vec::new();
    let mut chunks: Vec<&[(u32, Vec<u8>)]> = table.chunks(FRAME_BYTES / TABLE_BLOCK_BYTES).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    for chunk in chunks {
        builder.clear();
        for (count, body) in chunk {
            builder.push(BlockKind::Topics, *count, body);
        }
        let at = chain.at;
        let (header, bytes) = builder.finish(FrameKind::Topics, chain);
        file.write_all_at(bytes, at).during("write to", path)?;
        headers.push(header);
    }
    file.sync().during("sync", path)?;
    Ok(headers)
}

/// All topics' states as blocks: entries and body.
pub(crate) fn topic_table(rejected: u64, topics: &[Arc<Topic>]) -> Vec<(u32, Vec<u8>)> {
    let mut entries = EntryBlocks::default();
    let store = CounterEntry { topic: b"", duplicates: 0, conflicts: 0, rejected };
    entries.push(&TopicEntry { counters: store, next_offset: 0, first_received_at: 0, last_received_at: 0 });
    for topic in topics {
        entries.push(&topic.entry());
    }
    entries.finish()
}

/// Entries packed into blocks of bounded size.
#[derive(Default)]
pub(crate) struct EntryBlocks {
    full: Vec<(u32, Vec<u8>)>,
    count: u32,
    body: Vec<u8>,
}

impl EntryBlocks {
    pub(crate) fn push<T: bincode::Encode>(&mut self, entry: &T) {
        encode_varied(entry, &mut self.body);
        self.count += 1;
        if self.body.len() >= TABLE_BLOCK_BYTES {
            self.full.push((std::mem::take(&mut self.count), std::mem::take(&mut self.body)));
        }
    }

    pub(crate) fn finish(mut self) -> Vec<(u32, Vec<u8>)> {
        if self.count > 0 {
            self.full.push((self.count, self.body));
        }
        self.full
    }
}

/// Bytes of blocks with their headers.
pub(crate) fn table_bytes(blocks: &[(u32, Vec<u8>)]) -> u64 {
    blocks.iter().map(|(_, body)| (body.len() + BlockHeader::BYTES) as u64).sum()
}

/// Bytes of the head of a new store's first journal.
pub(crate) fn new_head_bytes() -> u64 {
    FrameHeader::BYTES as u64 + table_bytes(&topic_table(0, &[]))
}
