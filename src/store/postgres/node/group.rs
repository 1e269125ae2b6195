//! One of the databases of a store, as this node knows it: its slots, its connections, and what is
//! wrong with it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::types::ToSql;
use tracing::{info, warn};

use super::coverage::{Coverage, SlotRow, total};
use super::topic_names::TopicId;
use crate::config::Slots;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Totals;
use crate::store::postgres::connect::connection::{Connections, Reader, Statement};
use crate::store::postgres::connect::options::Database;
use crate::store::postgres::connect::primary::PrimaryNumber;
use crate::store::postgres::open::schema::NEWEST;
use crate::sync::Mutex;

/// Where topics end, and what their slots had then, all as of one moment.
const ENDS: Statement = (
    "topics",
    "
    SELECT t.slot, s.next_seq, s.commits, c.next_offset
    FROM unnest($1::smallint[], $2::integer[]) WITH ORDINALITY t (slot, topic_id, ord)
    CROSS JOIN LATERAL (SELECT * FROM sekali_slots i WHERE i.slot = t.slot LIMIT 1) s
    CROSS JOIN LATERAL (SELECT * FROM sekali_topic_counts i
                        WHERE i.slot = t.slot AND i.topic_id = t.topic_id LIMIT 1) c
    ORDER BY t.ord",
);

/// What is wrong with a database, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It does not answer, or its standbys don't: whoever asks finds out.
    Silent(String),
    /// It answers, but no longer promises what it must: nothing is sent to it.
    Unsafe(String),
}

impl Trouble {
    fn why(&self) -> &str {
        let (Self::Silent(why) | Self::Unsafe(why)) = self;
        why
    }
}

/// A database with its slots.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) database: Database,
    /// Its slots, in order.
    pub(crate) slots: Vec<usize>,
    pub(crate) connections: Connections,
    pub(crate) coverage: Coverage,
    /// As they were when it was looked at last.
    totals: Mutex<Totals>,
    /// What is wrong with it, while something is.
    trouble: Mutex<Option<Trouble>>,
    /// Standbys that commits may wait for; `None` if that can't be seen.
    standbys: Mutex<Option<i64>>,
    /// It was said that its schema is newer than this program.
    is_newer_told: AtomicBool,
}

impl Group {
    /// This database of a store that has `slots_total`.
    pub(crate) fn new(database: Database, slots_total: usize, connections: Connections, node: i64) -> Self {
        Self {
            slots: database.slots.clone(),
            database,
            connections,
            coverage: Coverage::new(slots_total, node),
            totals: Mutex::default(),
            trouble: Mutex::new(None),
            standbys: Mutex::new(None),
            is_newer_told: AtomicBool::new(false),
        }
    }

    /// Commits something that covers all that it showed when this was called, and that was read after
    /// `primary` was.
    ///
    /// # Errors
    /// `Unsure`, `Overloaded`.
    pub(crate) async fn commit(&self, primary: PrimaryNumber) -> Result<()> {
        self.coverage.commit(&self.connections, primary).await
    }

    /// The rows of its slots, once what they say is covered.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`, `Corrupt`.
    pub(crate) async fn rows(&self) -> Result<Vec<SlotRow>> {
        self.coverage.rows(&self.connections, &self.slots).await
    }

    /// Waits until these events, each by its slot and number, are covered. `primary` is what it was
    /// before they were read.
    ///
    /// # Errors
    /// `Unsure`, `Overloaded`.
    pub(crate) async fn cover(&self, primary: PrimaryNumber, events: Vec<(i16, i64)>) -> Result<()> {
        let events = events.into_iter().map(|(slot, seq)| (usize::try_from(slot).unwrap_or_default(), seq));
        self.coverage.events(&self.connections, primary, events).await
    }

    /// The rows of a statement that reads.
    ///
    /// # Errors
    /// `Overloaded`, or what the server has against it.
    pub(crate) async fn read(
        &self,
        statement: Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        let client: Reader = self.connections.read().await?;
        client.rows(statement, parameters).await
    }

    /// The offsets after the last events of these topics of its slots, once they are covered. If
    /// one is below what is `expected`, the server has proven that it is the primary.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`; `Corrupt`: it has no such topic.
    pub(crate) async fn ends(&self, topics: &[TopicId], expected: &[i64]) -> Result<Vec<i64>> {
        let (present, primary) = (self.coverage.present(), self.connections.primary());
        let client = self.connections.read().await?;
        let (slots, ids): (Vec<i16>, Vec<i32>) = topics.iter().copied().unzip();
        let rows = client.rows(ENDS, &[&slots, &ids]).await?;
        if rows.len() != topics.len() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the database lacks a topic that it had a moment ago",
            ));
        }
        let ends: Vec<i64> = rows.iter().map(|row| row.get(3)).collect();
        match ends.iter().zip(expected).any(|(end, expected)| end < expected) {
            true => self.coverage.commit_by(&self.connections, client.into_lease()).await?,
            // What covers them may need it.
            false => drop(client),
        }
        let slot = |row: &tokio_postgres::Row| SlotRow {
            slot: usize::try_from(row.get::<_, i16>(0)).unwrap_or_default(),
            next_seq: row.get(1),
            commits: row.get(2),
            ..SlotRow::default()
        };
        let rows: Vec<SlotRow> = rows.iter().map(slot).collect();
        self.coverage.confirm(&self.connections, primary, &present, &rows).await?;
        Ok(ends)
    }

    /// It was looked at, and what it shows is covered.
    pub(crate) fn looked(&self, rows: &[SlotRow]) {
        rows.iter().for_each(|row| self.coverage.note(row));
        *self.totals.lock() = total(rows);
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.totals.lock()
    }

    /// So many standbys are connected that commits may wait for.
    pub(crate) fn set_standbys(&self, standbys: Option<i64>) {
        *self.standbys.lock() = standbys;
    }

    pub(crate) fn standbys(&self) -> Option<i64> {
        *self.standbys.lock()
    }

    /// Its schema has this version. A newer one than this program knows only adds to what it uses, so
    /// that nodes can be upgraded one by one.
    pub(crate) fn set_version(&self, version: i64) {
        if version > NEWEST && !self.is_newer_told.swap(true, Ordering::SeqCst) {
            warn!(
                "the schema of slots {} has version {version}, and this program knows {NEWEST}: it goes on, and does \
                 not start again beside it; upgrade it",
                self.names()
            );
        }
    }

    /// What is wrong from now on; `None` if nothing is.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        let mut present = self.trouble.lock();
        match (&trouble, &*present) {
            (Some(trouble), before) if before.as_ref() != Some(trouble) => {
                warn!("not ready: {}", self.described(trouble));
            }
            (None, Some(_)) => info!("ready again: slots {}", self.names()),
            _ => {}
        }
        *present = trouble;
    }

    /// Whether something is wrong with it.
    pub(crate) fn has_trouble(&self) -> bool {
        self.trouble.lock().is_some()
    }

    /// What is wrong with it, in a sentence.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|trouble| self.described(trouble))
    }

    fn described(&self, trouble: &Trouble) -> String {
        format!("slots {}: {}", self.names(), trouble.why())
    }

    fn names(&self) -> Slots {
        self.slots.iter().copied().collect()
    }

    /// An error if what is answered now would not be kept.
    pub(crate) fn check_promise(&self) -> Result<()> {
        match &*self.trouble.lock() {
            Some(trouble @ Trouble::Unsafe(_)) => {
                let message = format!("no events are taken while {}", trouble.why());
                Err(Error::new(ErrorKind::Overloaded, message))
            }
            _ => Ok(()),
        }
    }
}
