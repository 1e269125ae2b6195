//! The head of a generation's journal: the state of every topic and every consumer, so that nothing
//! before it need be read.

use std::path::Path;

use super::consumers::Consumers;
use super::topic::Topics;
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

/// Most bytes of the table in one frame.
const FRAME_BYTES: usize = 4 << 20;
/// Zeros that the first journal of a store, or of a repair, begins with.
const FIRST_BYTES: u64 = 256 << 10;
/// Bytes of entries at which a block ends.
const TABLE_BLOCK_BYTES: usize = 60 << 10;

/// Makes the journal of a generation, with zeros and its head, durably.
pub(crate) fn begin_journal(
    disk: &dyn Disk,
    data_dir: &Path,
    store_id: [u8; 16],
    entry: &Entry,
    table: &[TableBlock],
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
    table: &[TableBlock],
) -> Result<Vec<FrameHeader>> {
    let mut headers = Vec::new();
    let mut chunks: Vec<&[TableBlock]> = table.chunks(FRAME_BYTES / TABLE_BLOCK_BYTES).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    for chunk in chunks {
        builder.clear();
        for block in chunk {
            builder.push(block.kind, block.count, &block.body);
        }
        let at = chain.at;
        let (header, bytes) = builder.finish(FrameKind::Topics, chain);
        file.write_all_at(bytes, at).during("write to", path)?;
        headers.push(header);
    }
    file.sync().during("sync", path)?;
    Ok(headers)
}

/// The states of all topics, and then of all consumers, whose positions are in these topics.
pub(crate) fn state_table(topics: &Topics, consumers: &Consumers) -> Vec<TableBlock> {
    let mut entries = EntryBlocks::new(BlockKind::Topics);
    let rejected = topics.rejected();
    let store = CounterEntry { topic: b"", duplicates: 0, conflicts: 0, rejected };
    entries.push(&TopicEntry { counters: store, next_offset: 0, first_received_at: 0, last_received_at: 0 });
    for topic in topics.sorted() {
        entries.push(&topic.entry());
    }
    let mut table = entries.finish();
    let mut entries = EntryBlocks::new(BlockKind::Consumers);
    for consumer in consumers.after(None, usize::MAX) {
        consumer.each_entry(topics, |entry| entries.push(entry));
    }
    table.extend(entries.finish());
    table
}

/// The table of a new store.
pub(crate) fn empty_table() -> Vec<TableBlock> {
    state_table(&Topics::new(&[]), &Consumers::default())
}

/// A block of entries, without its header.
#[derive(Debug)]
pub(crate) struct TableBlock {
    pub(crate) kind: BlockKind,
    pub(crate) count: u32,
    pub(crate) body: Vec<u8>,
}

/// Entries packed into blocks of bounded size.
pub(crate) struct EntryBlocks {
    kind: BlockKind,
    full: Vec<TableBlock>,
    count: u32,
    body: Vec<u8>,
}

impl EntryBlocks {
    /// None yet; they go to blocks of this kind.
    pub(crate) fn new(kind: BlockKind) -> Self {
        Self { kind, full: Vec::new(), count: 0, body: Vec::new() }
    }

    pub(crate) fn push<T: bincode::Encode>(&mut self, entry: &T) {
        encode_varied(entry, &mut self.body);
        self.count += 1;
        if self.body.len() >= TABLE_BLOCK_BYTES {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let (count, body) = (std::mem::take(&mut self.count), std::mem::take(&mut self.body));
        self.full.push(TableBlock { kind: self.kind, count, body });
    }

    pub(crate) fn finish(mut self) -> Vec<TableBlock> {
        if self.count > 0 {
            self.end_block();
        }
        self.full
    }
}

/// Bytes of blocks with their headers.
pub(crate) fn table_bytes(blocks: &[TableBlock]) -> u64 {
    blocks.iter().map(|block| (block.body.len() + BlockHeader::BYTES) as u64).sum()
}

/// Bytes of the head of a new store's first journal.
pub(crate) fn new_head_bytes() -> u64 {
    FrameHeader::BYTES as u64 + table_bytes(&empty_table())
}
