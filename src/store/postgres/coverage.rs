//! What may be shown: what a later acknowledged commit covers.
//!
//! A primary shows what it has committed. Not all of it need be on a standby: a wait for standbys
//! may have been cancelled, and a primary that crashed and came back shows what it never
//! acknowledged. But standbys take the log in order, so a commit that was acknowledged covers all
//! that was visible before it began. A read therefore is made first, and given out once its newest
//! part is covered. If no answer of this node covers it, the node commits something of its own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::connection::{Connections, Lease, Reader, Statement};
use super::fault::Fate;
use super::schema::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::DATABASE_COVER_SECONDS;
use crate::store::Totals;
use crate::sync;

/// Changes the row of a node, which is made with the first change.
const BEAT: Statement = (
    "cover",
    "
    INSERT INTO sekali_nodes AS n (node, beats, at) VALUES ($1, 1, clock_timestamp())
    ON CONFLICT (node) DO UPDATE SET beats = n.beats + 1, at = excluded.at",
);

/// The rows of all slots.
const SLOTS: Statement = (
    "slots",
    "
    SELECT slot, next_seq, commits, next_topic, duplicates, conflicts, rejected FROM sekali_slots ORDER BY slot",
);

/// What a slot's row had when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotRow {
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

/// What acknowledged commits cover, by slot.
#[derive(Debug)]
pub(crate) struct Coverage {
    node: i64,
    slots: Vec<Covered>,
    /// Held by the one who commits; those who wait take part in what begins after they came.
    turn: Mutex<()>,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Coverage {
    pub(crate) fn new(store: &Store, node: i64) -> Self {
        let slots = (0..store.slots).map(|_| Covered::default()).collect();
        Self { node, slots, turn: Mutex::default(), begun: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// An acknowledged commit covers this much of a slot.
    pub(crate) fn note(&self, slot: usize, row: &SlotRow) {
        let Some(covered) = self.slots.get(slot) else { return };
        covered.next_seq.fetch_max(row.next_seq, Ordering::SeqCst);
        covered.commits.fetch_max(row.commits, Ordering::SeqCst);
        covered.topics.fetch_max(row.next_topic.into(), Ordering::SeqCst);
    }

    /// Topics that there are, as far as this node knows.
    pub(crate) fn topics(&self) -> usize {
        let sum: i64 = self.slots.iter().map(|covered| covered.topics.load(Ordering::SeqCst)).sum();
        usize::try_from(sum).unwrap_or_default()
    }

    /// Events that there are, as far as this node knows.
    pub(crate) fn stored(&self) -> i64 {
        self.slots.iter().map(|covered| covered.next_seq.load(Ordering::SeqCst)).sum()
    }

    /// What is covered now, as numbers of statements and events.
    pub(crate) fn present(&self) -> Vec<(i64, i64)> {
        let read = |number: &AtomicI64| number.load(Ordering::SeqCst);
        self.slots.iter().map(|covered| (read(&covered.commits), read(&covered.next_seq))).collect()
    }

    /// Whether an event of a slot is covered.
    fn has_event(&self, slot: usize, seq: i64) -> bool {
        self.slots.get(slot).is_some_and(|covered| seq < covered.next_seq.load(Ordering::SeqCst))
    }

    /// Waits until these events, each by its slot and number, are covered.
    ///
    /// # Errors
    /// Those of [`Coverage::commit`].
    pub(crate) async fn events(
        &self,
        connections: &Connections,
        events: impl Iterator<Item = (usize, i64)>,
    ) -> Result<()> {
        let open: Vec<(usize, i64)> = events.filter(|(slot, seq)| !self.has_event(*slot, *seq)).collect();
        if open.is_empty() {
            return Ok(());
        }
        self.commit(connections).await?;
        for (slot, seq) in open {
            self.note(slot, &SlotRow { next_seq: seq + 1, ..SlotRow::default() });
        }
        Ok(())
    }

    /// All slots' rows, once what they say is covered.
    ///
    /// # Errors
    /// `Overloaded`, and those of [`Coverage::commit`].
    pub(crate) async fn rows(&self, connections: &Connections) -> Result<Vec<SlotRow>> {
        // Before the rows are read: other answers may come meanwhile.
        let present = self.present();
        let rows = {
            let client = connections.read().await?;
            read_rows(&client).await?
        };
        if behind(&present, &rows).is_some() {
            connections.forget();
            let message = "another server has become the primary of the database; retry later";
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        let is_open = |(covered, row): (&Covered, &SlotRow)| {
            row.commits > covered.commits.load(Ordering::SeqCst)
                || row.next_seq > covered.next_seq.load(Ordering::SeqCst)
        };
        if self.slots.iter().zip(&rows).any(is_open) {
            self.commit(connections).await?;
        }
        rows.iter().enumerate().for_each(|(slot, row)| self.note(slot, row));
        Ok(rows)
    }

    /// Commits something that covers all that was visible when this was called.
    ///
    /// # Errors
    /// `Unsure`: the standbys did not answer; `Overloaded`: the database did not.
    pub(crate) async fn commit(&self, connections: &Connections) -> Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        let turn = self.turn.lock().await;
        if self.done.load(Ordering::SeqCst) > begun {
            return Ok(());
        }
        self.carry_out(connections, connections.cover(), turn).await
    }

    /// The same by this connection, whatever others commit: then its server is the primary.
    ///
    /// # Errors
    /// As for [`Coverage::commit`].
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

/// The totals of all slots.
pub(crate) fn total(rows: &[SlotRow]) -> Totals {
    rows.iter().fold(Totals::default(), |sum, SlotRow { totals, .. }| Totals {
        unique_processed: sum.unique_processed + totals.unique_processed,
        duplicate_dropped: sum.duplicate_dropped + totals.duplicate_dropped,
        conflicts: sum.conflicts + totals.conflicts,
        rejected: sum.rejected + totals.rejected,
    })
}

/// All slots' rows, of which the newest part may not be covered.
///
/// # Errors
/// `Overloaded`, `Corrupt`.
pub(crate) async fn read_rows(client: &Reader) -> Result<Vec<SlotRow>> {
    let rows = client.rows(SLOTS, &[]).await?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let row = |(place, row): (usize, &tokio_postgres::Row)| {
        if usize::try_from(row.get::<_, i16>(0)) != Ok(place) {
            let message = format!("this is not the store's database: slot {place} is missing");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let totals = Totals {
            unique_processed: count(row.get(1)),
            duplicate_dropped: count(row.get(4)),
            conflicts: count(row.get(5)),
            rejected: count(row.get(6)),
        };
        Ok(SlotRow { next_seq: row.get(1), commits: row.get(2), next_topic: row.get(3), totals })
    };
    rows.iter().enumerate().map(row).collect()
}

/// A slot whose row has less than what was covered before it was read, as numbers of statements and events.
pub(crate) fn behind(covered: &[(i64, i64)], rows: &[SlotRow]) -> Option<usize> {
    let is_behind =
        |(covered, row): (&(i64, i64), &SlotRow)| row.commits < covered.0 || row.next_seq < covered.1;
    covered.iter().zip(rows).position(is_behind)
}

fn uncovered(kind: ErrorKind, why: &str) -> Error {
    let message = format!("the database does not confirm what it commits ({why}); retry later");
    Error::new(kind, message)
}
