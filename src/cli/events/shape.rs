//! How events are shown: lines of JSON for programs, a table for people.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::table::{self, shortened};

/// Characters of a payload that are shown in a table.
const PAYLOAD_CHARS: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Lines,
    Table,
}

#[derive(Deserialize)]
struct Event {
    topic: String,
    event_id: String,
    source: String,
    payload: Box<RawValue>,
    offset: u64,
    received_at: String,
}

impl Shape {
    /// Writes events, each a JSON text.
    pub(super) fn write<'e>(
        self,
        out: &mut impl Write,
        events: impl Iterator<Item = &'e str>,
    ) -> io::Result<()> {
        if self == Self::Lines {
            for event in events {
                // Between tokens a blank is as good as a line's end.
                writeln!(out, "{}", event.replace(['\n', '\r'], " "))?;
            }
            return Ok(());
        }
        let events = events.filter_map(|text| serde_json::from_str::<Event>(text).ok());
        let rows: Vec<_> = events
            .map(|event| {
                [
                    event.received_at,
                    event.topic,
                    event.offset.to_string(),
                    event.event_id,
                    event.source,
                    shortened(event.payload.get(), PAYLOAD_CHARS),
                ]
            })
            .collect();
        table::write(out, ["received_at", "topic", "offset", "event_id", "source", "payload"], &rows)
    }
}
