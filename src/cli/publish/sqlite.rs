//! The database of the Python original: a table of processed events, and one of ids that were seen.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{Exit, Failure, say};
use super::sender::Sender;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Moving over from the Python original")]
pub(super) struct Database {
    /// Publish the events of this SQLite database, and check that all have arrived
    #[arg(long, value_name = "DATABASE")]
    sqlite: Option<PathBuf>,
    /// Its table of events
    #[arg(long, value_name = "NAME", default_value = "processed_events", requires = "sqlite")]
    table: String,
    /// Its table of ids that were seen; looked at if it is there
    #[arg(long, value_name = "NAME", default_value = "dedup", requires = "sqlite")]
    dedup_table: String,
    /// Column of a field, where the two have different names; the fields are topic, event_id, timestamp, source, payload
    #[arg(long = "column", value_name = "FIELD=NAME", requires = "sqlite", value_parser = column)]
    columns: Vec<(usize, String)>,
}

const FIELDS: [&str; 5] = ["topic", "event_id", "timestamp", "source", "payload"];

fn column(text: &str) -> Result<(usize, String), String> {
    let (field, name) = text.split_once('=').ok_or("use FIELD=NAME")?;
    let field = FIELDS.iter().position(|known| *known == field);
    let field = field.ok_or_else(|| format!("the fields are {}", FIELDS.join(", ")))?;
    Ok((field, name.to_owned()))
}

/// An event as it is sent; what the row has not is left out, and refused by name.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

impl Database {
    pub(super) fn path(&self) -> Option<&Path> {
        self.sqlite.as_deref()
    }

    /// Gives all rows to `sender`, and compares the counts.
    pub(super) fn feed(&self, sender: &mut Sender) -> Result<(), Failure> {
        let Some(path) = &self.sqlite else { return Ok(()) };
        let unreadable =
            |e: rusqlite::Error| Failure::new(Exit::Fault, format!("cannot read {}: {e}", path.display()));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags).map_err(unreadable)?;
        // All that follows is of one moment.
        database.execute_batch("BEGIN").map_err(unreadable)?;
        // All that may be wrong with the tables is found before anything is sent.
        let ids = self.count(&database, &self.distinct()).map_err(unreadable)?;
        let without = match self.has_dedup(&database).map_err(unreadable)? {
            true => {
                let seen_only = self.seen_only(&database).map_err(unreadable)?;
                self.count(&database, &seen_only).map_err(unreadable)?
            }
            false => 0,
        };
        let rows = self.send(&database, sender, &unreadable)?;
        sender.flush()?;
        self.compare(sender, rows, ids, without)
    }

    fn compare(&self, sender: &mut Sender, rows: u64, ids: u64, without: u64) -> Result<(), Failure> {
        let totals = sender.totals();
        if without > 0 {
            say(format_args!(
                "{without} ids of {} have no event in {}: they can't be moved, and what comes under them again is stored",
                self.dedup_table, self.table
            ));
        }
        if totals.received.saturating_add(totals.rejected) != rows || totals.unique_processed > ids {
            let sentence = format!(
                "{rows} rows with {ids} ids were read, but {} were answered, {} of them as new: run it again",
                totals.received, totals.unique_processed
            );
            return Err(Failure::new(Exit::Fault, sentence));
        }
        if totals.rejected > 0 {
            let moved = totals.received;
            return Err(Failure::new(Exit::Fault, format!("not all is moved: {moved} of {rows} events are")));
        }
        say(format_args!("verified: all {rows} events with {ids} ids are stored"));
        Ok(())
    }

    fn send(
        &self,
        database: &Connection,
        sender: &mut Sender,
        unreadable: &impl Fn(rusqlite::Error) -> Failure,
    ) -> Result<u64, Failure> {
        let columns: Vec<_> = (0..FIELDS.len()).map(|field| self.column(field)).collect();
        let query = format!("SELECT {} FROM {}", columns.join(", "), quoted(&self.table));
        let mut statement = database.prepare(&query).map_err(unreadable)?;
        let mut rows = statement.query([]).map_err(unreadable)?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(unreadable)? {
            number += 1;
            let text = |field: usize| row.get_ref(field).map(text).map_err(unreadable);
            let payload = text(4)?;
            let Ok(payload) = payload.as_deref().map(serde_json::from_str).transpose() else {
                sender.refuse(number, "payload: the column holds no JSON");
                continue;
            };
            let event = Event {
                topic: text(0)?,
                event_id: text(1)?,
                timestamp: text(2)?,
                source: text(3)?.unwrap_or_default(),
                payload,
            };
            match serde_json::to_vec(&event) {
                Ok(line) => sender.take(number, &line)?,
                Err(e) => sender.refuse(number, &e.to_string()),
            }
        }
        Ok(number)
    }

    fn count(&self, database: &Connection, selection: &str) -> rusqlite::Result<u64> {
        database
            .query_row(&format!("SELECT COUNT(*) FROM ({selection})"), [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
    }

    fn has_dedup(&self, database: &Connection) -> rusqlite::Result<bool> {
        let query = "SELECT COUNT(*) FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1";
        database.query_row(query, [&self.dedup_table], |row| row.get::<_, i64>(0)).map(|count| count > 0)
    }

    /// Ids that were seen, and of which there is no event.
    fn seen_only(&self, database: &Connection) -> rusqlite::Result<String> {
        let (topic, event_id) = (self.dedup_column(database, 0)?, self.dedup_column(database, 1)?);
        let seen = format!("SELECT {topic}, {event_id} FROM {}", quoted(&self.dedup_table));
        Ok(format!("{seen} EXCEPT {}", self.distinct()))
    }

    fn distinct(&self) -> String {
        format!("SELECT DISTINCT {}, {} FROM {}", self.column(0), self.column(1), quoted(&self.table))
    }

    /// The table of ids may have the field's own name where the table of events has another one.
    fn dedup_column(&self, database: &Connection, field: usize) -> rusqlite::Result<String> {
        let query = "SELECT COUNT(*) FROM pragma_table_info(?1) WHERE name = ?2 COLLATE NOCASE";
        let names = (&self.dedup_table, FIELDS[field]);
        let has_own = database.query_row(query, names, |row| row.get::<_, i64>(0))? > 0;
        Ok(if has_own { quoted(FIELDS[field]) } else { self.column(field) })
    }

    fn column(&self, field: usize) -> String {
        let named = self.columns.iter().rev().find(|(of, _)| *of == field).map(|(_, name)| name.as_str());
        quoted(named.unwrap_or(FIELDS[field]))
    }
}

/// A name in SQL. In double quotes SQLite would take an unknown name for a string.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A column's value as text, as Python would show it; `None` if it is NULL.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}
