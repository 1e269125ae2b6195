//! Events that can still be read in what is given up, as they are published again.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::disk::DiskFile;
use crate::error::{During, Error, ErrorKind, Result};
use crate::event::timestamp;
use crate::store::local::format::block::Block;
use crate::store::local::format::codec::BlockKind;

/// Shows the blocks with events, of a part of a journal, whose checksum is right.
pub(super) fn each_block(
    file: &dyn DiskFile,
    path: &Path,
    (from, to): (u64, u64),
    mut show: impl FnMut(&Block<'_>),
) -> Result<()> {
    let len = file.len().during("measure", path)?.min(to);
    let mut bytes = vec![0; usize::try_from(len.saturating_sub(from)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from).during("read", path)?;
    let mut rest = &*bytes;
    while !rest.is_empty() {
        let at = to.min(len) - rest.len() as u64;
        let step = match Block::open(rest, at, path) {
            Ok(block) => {
                if block.kind == BlockKind::Events {
                    show(&block);
                }
                block.length as usize
            }
            Err(_) => 1,
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(())
}

/// The events of a block, as they are published again.
pub(super) struct Lines {
    pub(super) topic: String,
    pub(super) first_offset: u64,
    pub(super) json: Vec<u8>,
}

impl Lines {
    pub(super) fn of(block: &Block<'_>) -> Result<Self> {
        let body = block.body()?;
        let events = body.events()?;
        let head = events.head;
        let topic = block.text(head.topic, "a topic")?;
        let mut json = Vec::new();
        for event in events {
            let (_, event) = event?;
            let text = |bytes| block.text(bytes, "an event");
            let not_json = |_| block.corrupt("a payload or a timestamp is not JSON");
            let mut timestamp = Vec::new();
            timestamp::push_json(text(event.timestamp)?, &mut timestamp);
            let line = Salvaged {
                topic,
                event_id: text(event.event_id)?,
                timestamp: serde_json::from_slice(&timestamp).map_err(not_json)?,
                source: text(event.source)?,
                payload: serde_json::from_str(text(event.payload)?).map_err(not_json)?,
            };
            serde_json::to_writer(&mut json, &line)
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write JSON: {e}")))?;
            json.push(b'\n');
        }
        Ok(Self { topic: topic.to_owned(), first_offset: head.first_offset, json })
    }
}

/// An event as it is published.
#[derive(Serialize)]
struct Salvaged<'a> {
    topic: &'a str,
    event_id: &'a str,
    timestamp: &'a RawValue,
    source: &'a str,
    payload: &'a RawValue,
}
