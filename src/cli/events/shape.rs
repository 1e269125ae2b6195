//! How events are shown: lines of JSON for programs, a table for people.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::table::{Table, shortened};

/// Characters of a payload that are shown in a table.
const PAYLOAD_CHARS: usize = 60;

#[derive(Debug)]
pub(super) enum Shape {
    Lines,
    Table(Table<6>),
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
    pub(super) fn table() -> Self {
        Self::Table(Table::new(["received_at", "topic", "offset", "event_id", "source", "payload"]))
    }

    /// Writes events, each a JSON text.
    pub(super) fn write<'e>(
        &mut self,
        out: &mut impl Write,
        events: impl Iterator<Item = &'e str>,
    ) -> io::Result<()> {
        let Self::Table(table) = self else {
            for event in events {
                // Between tokens a blank is as good as a line's end.
                writeln!(out, "{}", event.replace(['\n', '\r'], " "))?;
            }
            return Ok(());
        };
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
        table.write(out, &rows)
    }
}
