//! What may be shown: what a later acknowledged commit covers.
//!
//! A primary shows what it has committed. Not all of it need be on a standby: a wait for standbys
//! may have been cancelled, and a primary that crashed and came back shows what it never
//! acknowledged. But standbys take the log in order, so a commit that was acknowledged covers all
//! that was visible on its server before it began. A read therefore is made first, and given out once
//! its newest part is covered, if the primary is the one that it was before the read. If no answer of
//! this node covers it, the node commits something of its own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::DATABASE_COVER_SECONDS;
use crate::store::Totals;
use crate::store::postgres::connect::connection::{Connections, Lease, Reader, Statement};
use crate::store::postgres::connect::fault::Fate;
use crate::store::postgres::connect::primary::PrimaryNumber;
use crate::sync;

/// Changes the row of a node, which is made with the first change.
const BEAT: Statement = (
    "cover",
    "
    INSERT INTO sekali_nodes AS n (node, beats, at) VALUES ($1, 1, clock_timestamp())
    ON CONFLICT (node) DO UPDATE SET beats = n.beats + 1, at = excluded.at",
);

/// The rows of a database's slots.
const SLOTS: Statement = (
    "slots",
    "
    SELECT slot, next_seq, commits, next_topic, duplicates, conflicts, rejected FROM sekali_slots ORDER BY slot",
);

/// What a slot's row had when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotRow {
    pub(crate) slot: usize,
    pub(crate) next_seq: i64,
    pub(crate) commits: i64,
    pub(crate) next_topic: i32,
    pub(crate) totals: Totals,
}

/// What acknowledged commits cover of one slot.
#[derive(Debug, Default)]
struct Covered {
    next_seq: AtomicI64,
    commits: AtomicI64,
    topics: AtomicI64,
}

/// What acknowledged commits of a database cover, by slot.
#[derive(Debug)]
pub(crate) struct Coverage {
    node: i64,
    /// Of each slot of the store; those of other databases stay as they were made.
    slots: Vec<Covered>,
    /// Held by the one who commits; those who wait take part in what begins after they came.
    turn: Mutex<()>,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Coverage {
    /// For a database of a store with so many slots.
    pub(crate) fn new(slots: usize, node: i64) -> Self {
        let slots = (0..slots).map(|_| Covered::default()).collect();
        Self { node, slots, turn: Mutex::default(), begun: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// An acknowledged commit covers this much of a slot.
    pub(crate) fn note(&self, row: &SlotRow) {
        let Some(covered) = self.slots.get(row.slot) else { return };
        covered.next_seq.fetch_max(row.next_seq, Ordering::SeqCst);
        covered.commits.fetch_max(row.commits, Ordering::SeqCst);
        covered.topics.fetch_max(row.next_topic.into(), Ordering::SeqCst);
    }

    /// Topics that are covered, by slot: those with lower numbers.
    pub(crate) fn topics_by_slot(&self) -> Vec<i64> {
        self.slots.iter().map(|covered| covered.topics.load(Ordering::SeqCst)).collect()
    }

    /// Topics that there are, as far as this node knows.
    pub(crate) fn topics(&self) -> usize {
        usize::try_from(self.topics_by_slot().iter().sum::<i64>()).unwrap_or_default()
    }

    /// Events that there are, as far as this node knows.
    pub(crate) fn stored(&self) -> i64 {
        self.slots.iter().map(|covered| covered.next_seq.load(Ordering::SeqCst)).sum()
    }

    /// The number after the last event of a slot that this node knows of.
    pub(crate) fn next_seq(&self, slot: usize) -> i64 {
        self.slots.get(slot).map_or(0, |covered| covered.next_seq.load(Ordering::SeqCst))
    }

    /// What is covered now, as numbers of statements and events.
    pub(crate) fn present(&self) -> Vec<(i64, i64)> {
        let read = |number: &AtomicI64| number.load(Ordering::SeqCst);
        self.slots.iter().map(|covered| (read(&covered.commits), read(&covered.next_seq))).collect()
    }

    /// Whether an event of a slot is covered.
    fn has_event(&self, slot: usize, seq: i64) -> bool {
        seq < self.next_seq(slot)
    }

    /// Waits until these events, each by its slot and number, are covered. `primary` is what it was
    /// before they were read.
    ///
    /// # Errors
    /// Those of [`Coverage::commit`].
    pub(crate) async fn events(
        &self,
        connections: &Connections,
        primary: PrimaryNumber,
        events: impl Iterator<Item = (usize, i64)>,
    ) -> Result<()> {
        let open: Vec<(usize, i64)> = events.filter(|(slot, seq)| !self.has_event(*slot, *seq)).collect();
        if open.is_empty() {
            return is_still(connections, primary);
        }
        self.commit(connections, primary).await?;
        for (slot, seq) in open {
            self.note(&SlotRow { slot, next_seq: seq + 1, ..SlotRow::default() });
        }
        Ok(())
    }

    /// The rows of these slots, which must be all of the database, once what they say is covered.
    ///
    /// # Errors
    /// `Overloaded`, `Corrupt`, and those of [`Coverage::commit`].
    pub(crate) async fn rows(&self, connections: &Connections, slots: &[usize]) -> Result<Vec<SlotRow>> {
        // Before the rows are read: other answers may come meanwhile.
        let (present, primary) = (self.present(), connections.primary());
        let rows = {
            let client = connections.read().await?;
            read_rows(&client, slots).await?
        };
        self.confirm(connections, primary, &present, &rows).await?;
        Ok(rows)
    }

    /// Waits until what rows say is covered that were read after `present` and `primary` were.
    ///
    /// # Errors
    /// `Overloaded`, and those of [`Coverage::commit`].
    pub(crate) async fn confirm(
        &self,
        connections: &Connections,
        primary: PrimaryNumber,
        present: &[(i64, i64)],
        rows: &[SlotRow],
    ) -> Result<()> {
        if behind(present, rows).is_some() {
            connections.forget();
            return Err(another_primary());
        }
        let is_open = |row: &SlotRow| {
            let covered = &self.slots[row.slot];
            row.commits > covered.commits.load(Ordering::SeqCst)
                || row.next_seq > covered.next_seq.load(Ordering::SeqCst)
        };
        match rows.iter().any(is_open) {
            true => self.commit(connections, primary).await?,
            false => is_still(connections, primary)?,
        }
        rows.iter().for_each(|row| self.note(row));
        Ok(())
    }

    /// Commits something that covers all that was visible when this was called, and read after
    /// `primary` was.
    ///
    /// # Errors
    /// `Unsure`: the standbys did not answer; `Overloaded`: the database did not, or another server has
    /// become the primary.
    pub(crate) async fn commit(&self, connections: &Connections, primary: PrimaryNumber) -> Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        let turn = self.turn.lock().await;
        if self.done.load(Ordering::SeqCst) <= begun {
            self.carry_out(connections, connections.cover(), turn).await?;
        }
        is_still(connections, primary)
    }

    /// The same by this connection, whatever others commit: then its server is the primary.
    ///
    /// # Errors
    /// `Unsure`, `Overloaded`.
    pub(crate) async fn commit_by(&self, connections: &Connections, lease: Lease) -> Result<()> {
        let turn = self.turn.lock().await;
        self.carry_out(connections, std::future::ready(Ok(lease)), turn).await
    }

    async fn carry_out(
        &self,
        connections: &Connections,
        lease: impl Future<Output = Result<Lease>>,
        _turn: MutexGuard<'_, ()>,
    ) -> Result<()> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let patience = Duration::from_secs(DATABASE_COVER_SECONDS);
        match sync::timeout(patience, self.beat(connections, lease)).await {
            Some(Ok(())) => {
                self.done.store(number, Ordering::SeqCst);
                Ok(())
            }
            Some(Err(why)) => Err(uncovered(ErrorKind::Overloaded, &why)),
            None => Err(uncovered(ErrorKind::Unsure, "its standbys have not answered in time")),
        }
    }

    async fn beat(
        &self,
        connections: &Connections,
        lease: impl Future<Output = Result<Lease>>,
    ) -> Result<(), String> {
        let lease = lease.await.map_err(|e| e.to_string())?;
        match connections.commit(lease, BEAT, &[&self.node]).await {
            Ok(_) => Ok(()),
            Err(Fate::Undecided(why) | Fate::Unknown(why)) => Err(why),
            Err(Fate::Refused(e)) => Err(e.to_string()),
        }
    }
}

/// The totals of these slots.
pub(crate) fn total(rows: &[SlotRow]) -> Totals {
    rows.iter().fold(Totals::default(), |sum, row| sum.plus(row.totals))
}

/// The rows of these slots, which must be all of the database; their newest part may not be
/// covered.
///
/// # Errors
/// `Overloaded`; `Corrupt`: the database has other slots.
pub(crate) async fn read_rows(client: &Reader, slots: &[usize]) -> Result<Vec<SlotRow>> {
    let rows: Vec<SlotRow> = client.rows(SLOTS, &[]).await?.iter().map(slot_row).collect();
    if rows.iter().map(|row| row.slot).eq(slots.iter().copied()) {
        return Ok(rows);
    }
    let lacks = slots.iter().find(|slot| rows.iter().all(|row| row.slot != **slot));
    let what =
        lacks.map_or("it has more slots than it had".to_owned(), |slot| format!("slot {slot} is missing"));
    let message = format!("this is no longer the database that it was: {what}; was a slot moved?");
    Err(Error::new(ErrorKind::Corrupt, message))
}

fn slot_row(row: &tokio_postgres::Row) -> SlotRow {
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let totals = Totals {
        unique_processed: count(row.get(1)),
        duplicate_dropped: count(row.get(4)),
        conflicts: count(row.get(5)),
        rejected: count(row.get(6)),
    };
    let slot = usize::try_from(row.get::<_, i16>(0)).unwrap_or(usize::MAX);
    SlotRow { slot, next_seq: row.get(1), commits: row.get(2), next_topic: row.get(3), totals }
}

/// A slot whose row has less than what was covered before it was read, as numbers of statements and
/// events.
pub(crate) fn behind(covered: &[(i64, i64)], rows: &[SlotRow]) -> Option<usize> {
    let is_behind = |row: &&SlotRow| {
        covered.get(row.slot).is_some_and(|covered| row.commits < covered.0 || row.next_seq < covered.1)
    };
    rows.iter().find(is_behind).map(|row| row.slot)
}

/// What was covered is what was read.
fn is_still(connections: &Connections, primary: PrimaryNumber) -> Result<()> {
    if connections.primary() == primary { Ok(()) } else { Err(another_primary()) }
}

/// What was read is not there any more.
pub(crate) fn another_primary() -> Error {
    Error::new(ErrorKind::Overloaded, "another server has become the primary of the database; retry later")
}

fn uncovered(kind: ErrorKind, why: &str) -> Error {
    let message = format!("the database does not confirm what it commits ({why}); retry later");
    Error::new(kind, message)
}
