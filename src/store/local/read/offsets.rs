//! Where all topics were when an event was stored: the offset of the next event of each.
//!
//! The head of each generation has that for its first event; from there on the journal is read. So
//! it costs no more than reading one generation, which is done in steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::event::pattern::TopicPatterns;
use crate::limits::SCAN_BYTES;
use crate::store::local::format::block::Block;
use crate::store::local::format::codec::BlockKind;
use crate::store::local::format::reader::Frames;
use crate::store::local::shared::Shared;

/// The offsets of topics before an event, as far as they were read.
pub(crate) struct OffsetsBefore {
    /// Number of the event.
    event: u64,
    topics: Arc<TopicPatterns>,
    /// `None` when all is read.
    frames: Option<Frames>,
    offsets: BTreeMap<u32, u64>,
}

impl OffsetsBefore {
    /// Those of the topics that these patterns mean.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn new(shared: &Shared, event: u64, topics: Arc<TopicPatterns>) -> Result<Self> {
        let generations = shared.generations();
        let at = generations.partition_point(|generation| generation.first_event <= event);
        let generation = at.checked_sub(1).and_then(|at| generations.get(at));
        let frames = generation.map(|generation| generation.frames()).transpose()?;
        Ok(Self { event, topics, frames, offsets: BTreeMap::new() })
    }

    /// Reads on; the offsets by the topics' numbers, once all is read.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn step(&mut self, shared: &Shared) -> Result<Option<BTreeMap<u32, u64>>> {
        let mut read_bytes = 0;
        while let Some(mut frames) = self.frames.take() {
            if read_bytes >= SCAN_BYTES {
                self.frames = Some(frames);
                return Ok(None);
            }
            let Some(frame) = frames.next()? else { break };
            if frame.header.first_event >= self.event && frame.header.events > 0 {
                break;
            }
            read_bytes += frame.bytes.len();
            let mut number = frame.header.first_event;
            for block in frame.blocks() {
                self.take(shared, &block, number)?;
                if block.kind == BlockKind::Events {
                    number += u64::from(block.count);
                }
            }
            self.frames = Some(frames);
        }
        Ok(Some(std::mem::take(&mut self.offsets)))
    }

    /// Takes in what a block says; `number` is that of its first event.
    fn take(&mut self, shared: &Shared, block: &Block<'_>, number: u64) -> Result<()> {
        match block.kind {
            BlockKind::Topics => {
                for entry in block.body()?.topics() {
                    let entry = entry?;
                    self.set(shared, entry.counters.topic, entry.next_offset);
                }
            }
            BlockKind::Events if number < self.event => {
                let body = block.body()?;
                let head = body.events()?.head;
                let count = u64::from(block.count).min(self.event - number);
                self.set(shared, head.topic, head.first_offset + count);
            }
            _ => {}
        }
        Ok(())
    }

    fn set(&mut self, shared: &Shared, topic: &[u8], next_offset: u64) {
        if next_offset == 0 || !self.topics.matches(topic) {
            return;
        }
        let topic = std::str::from_utf8(topic).ok().and_then(|name| shared.topics.get(name));
        if let Some(topic) = topic {
            self.offsets.insert(topic.number, next_offset);
        }
    }
}
