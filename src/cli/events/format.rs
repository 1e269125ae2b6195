//! How events are rendered: lines of JSON for programs, a table for people.

use std::io::IsTerminal;

use crate::cli::client::answers::Event;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::text::{harmless, shortened};

/// Columns of a payload that are rendered in a table.
const PAYLOAD_WIDTH: usize = 60;

/// Which events were asked for; `None` means any.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) topic: Option<String>,
    pub(super) source: Option<String>,
}

impl Asked {
    /// A sentence if an event is another one.
    fn check(&self, event: &Event<'_>) -> Result<(), String> {
        let is = |asked: &Option<String>, given: &str| asked.as_ref().is_none_or(|asked| asked == given);
        if !is(&self.topic, &event.topic) {
            return Err("an event of another topic".to_owned());
        }
        if is(&self.source, &event.source) { Ok(()) } else { Err("an event of another source".to_owned()) }
    }
}

#[derive(Debug)]
pub(super) enum Format {
    /// What a file or a program gets is what is stored; a terminal gets the same JSON in other
    /// words.
    Lines {
        is_terminal: bool,
    },
    Table(Box<Table<6>>),
}

impl Format {
    pub(super) fn table() -> Self {
        Self::Table(Box::new(Table::new(["received_at", "topic", "offset", "event_id", "source", "payload"])))
    }

    pub(super) fn lines(out: &impl IsTerminal) -> Self {
        Self::Lines { is_terminal: out.is_terminal() }
    }

    /// Events, each a JSON text, as they are rendered.
    ///
    /// # Errors
    /// One of them is no event, or not one that was asked for: a sentence.
    pub(super) fn render<'e>(
        &mut self,
        events: impl Iterator<Item = &'e str>,
        asked: &Asked,
    ) -> Result<String, String> {
        let mut rendered = String::new();
        let mut rows = Vec::new();
        for text in events {
            let event: Event<'_> = serde_json::from_str(text).map_err(|e| e.to_string())?;
            asked.check(&event)?;
            match self {
                Self::Lines { is_terminal } => {
                    // Between tokens a blank is as good as a line's end.
                    let line = text.replace(['\n', '\r'], " ");
                    rendered.push_str(&if *is_terminal { harmless(&line) } else { line.into() });
                    rendered.push('\n');
                }
                Self::Table(_) => rows.push([
                    event.received_at.into_owned(),
                    event.topic.into_owned(),
                    event.offset.to_string(),
                    event.event_id.into_owned(),
                    event.source.into_owned(),
                    shortened(&harmless(event.payload.get()), PAYLOAD_WIDTH).into_owned(),
                ]),
            }
        }
        if let Self::Table(table) = self {
            rendered = table.render(&rows);
        }
        Ok(rendered)
    }
}
