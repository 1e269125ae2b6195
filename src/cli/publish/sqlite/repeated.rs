//! Ids that several rows of a table of events have. Of such an id the first event is the one to be
//! moved, and what the service says of the others is no news.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use rusqlite::Connection;

use super::names::{EVENT_ID, TOPIC};
use super::rows::{Event, text};
use super::schema::{Reading, quoted};

/// Such ids, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    hasher: RandomState,
    ids: HashSet<u64>,
}

impl Repeated {
    pub(super) fn find(database: &Connection, reading: &Reading) -> rusqlite::Result<Self> {
        let (topic, event_id) = (reading.column(TOPIC), reading.column(EVENT_ID));
        let query = format!(
            "SELECT {topic}, {event_id} FROM {} GROUP BY CAST({topic} AS TEXT), CAST({event_id} AS TEXT) \
             HAVING COUNT(*) > 1",
            quoted(&reading.table)
        );
        let mut repeated = Self::default();
        let mut statement = database.prepare(&query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // What can't be an id is refused, however often it is there.
            let id = (text(TOPIC, row.get_ref(0)?), text(EVENT_ID, row.get_ref(1)?));
            if let (Ok(Some(topic)), Ok(Some(event_id))) = id {
                repeated.ids.insert(repeated.hasher.hash_one((topic, event_id)));
            }
        }
        Ok(repeated)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether an event's id was there before. `seen` holds those that were.
    pub(super) fn is_again(&self, event: &Event, seen: &mut HashSet<u64>) -> bool {
        let Some((topic, event_id)) = event.id() else { return false };
        if self.is_empty() {
            return false;
        }
        let id = self.hasher.hash_one((topic, event_id));
        self.ids.contains(&id) && !seen.insert(id)
    }
}
