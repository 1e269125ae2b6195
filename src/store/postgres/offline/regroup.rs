//! Moving slots between the databases of a store, until each is where the configuration says.
//!
//! | step | the old database | the new one | after a kill |
//! |---|---|---|---|
//! | give up | `sekali_slots` → `sekali_leaving` | nothing | the slot takes no events anywhere; goes on |
//! | copy | is read | one transaction: all rows, compared, then `sekali_slots` | as before, or as after |
//! | remove | all rows go, then `sekali_leaving` | owns the slot | the old rows are without effect; goes on |
//!
//! Only a row of `sekali_slots` lets a slot take events, so no two databases ever own it. Each step
//! begins once what it rests on is where a commit must be, as its own server has confirmed over the
//! same connection. A node that still runs stops, as its database has other slots than before.

use std::pin::pin;
use std::sync::Arc;

use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Row;

use crate::clock::SystemClock;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::store::postgres::connect::connection::{Connections, Lease, Statement};
use crate::store::postgres::connect::fault::{Fate, sentence};
use crate::store::postgres::connect::identity::Uuid;
use crate::store::postgres::connect::options::Options;
use crate::store::postgres::node::group::Group;
use crate::store::postgres::open::owners::{check_owners, one_store, owner};
use crate::store::postgres::open::schema::{State, Store, unusable};
use crate::store::postgres::open::site::{Site, lasting};
use crate::sync;

const GIVE_UP: Statement = (
    "regroup",
    "
    WITH given AS (DELETE FROM sekali_slots WHERE slot = $1 RETURNING *)
    INSERT INTO sekali_leaving
        (slot, next_topic, commits, next_seq, duplicates, conflicts, rejected, last_received_at, target)
    SELECT slot, next_topic, commits, next_seq, duplicates, conflicts, rejected, last_received_at, $2::uuid FROM given",
);

/// What a slot that was given up had.
const LEAVING: &str = "SELECT next_seq, next_topic FROM sekali_leaving WHERE slot = $1";

const OWNED: &str = "SELECT FROM sekali_slots WHERE slot = $1";

const SLACK: &str = "UPDATE sekali_store SET arrival_slack = greatest(arrival_slack, $1)";

const COMMIT: Statement = ("regroup", "COMMIT");

/// Tables with rows of slots, and their columns; the last row to come makes the new database the
/// owner.
const TABLES: [(&str, &str); 4] = [
    ("sekali_topics", "topic_id, slot, name"),
    (
        "sekali_topic_counts",
        "next_offset, duplicates, conflicts, first_received_at, last_received_at, topic_id, slot",
    ),
    ("sekali_ids", "seq, topic_offset, received_at, digest, topic_id, slot, event_id"),
    ("sekali_events", "seq, topic_offset, received_at, topic_id, slot, event_id, timestamp, source, payload"),
];
const SLOT_COLUMNS: &str =
    "slot, next_topic, commits, next_seq, duplicates, conflicts, rejected, last_received_at";

/// A slot that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its number.
    pub slot: usize,
    /// How many events it has.
    pub events: u64,
    /// The database that it was in.
    pub from: String,
    /// The database that it is in.
    pub to: String,
}

/// Moves each slot into the database that `options` name for it; `told` hears of each. It can be
/// begun again after it was interrupted at any place.
///
/// # Errors
/// `Unusable`: the databases are not all of one store. `Io`, `Unsure`, `Overloaded`: run it again.
/// `Corrupt`: what was copied is not what was there; the old database still has it.
pub async fn regroup(options: &Options, told: &mut dyn FnMut(&Moved)) -> Result<()> {
    let (mut sites, away) = Site::all(options.ordered(), options.durability).await?;
    if let Some((_, e)) = away.first() {
        return Err(lasting(e));
    }
    let (store, home) = one_store(&sites)?;
    let is_whole = sites[home].state.as_ref().is_some_and(|state| state.is_whole);
    if !is_whole || store.is_filling {
        return Err(unusable("the store is still being made or filled: finish that first"));
    }
    check_ways(&sites, &store)?;
    for site in sites.iter_mut().filter(|site| site.state.is_none()) {
        site.make(Some(&store), &[]).await?;
    }
    let ends: Vec<End> = sites.iter().map(|site| End::of(site, options, &store)).collect::<Result<_>>()?;
    // What an earlier run has copied is removed first: its slot may have to go on.
    for (from, to, slot) in left_over(&sites) {
        remove(&ends[from], &ends[to], slot).await?;
    }
    for (from, to, slot) in ways(&sites) {
        let (from, to) = (&ends[from], &ends[to]);
        give_up(from, to, slot).await?;
        let events = copy(from, to, slot, &store).await?;
        remove(from, to, slot).await?;
        told(&Moved { slot, events, from: from.name.clone(), to: to.name.clone() });
    }
    let sites = Site::existing(options.ordered(), options.durability).await?;
    check_owners(&sites, &[], store.slots)
}

/// A database as this command uses it.
struct End {
    name: String,
    state: State,
    group: Group,
}

impl End {
    fn of(site: &Site, options: &Options, store: &Store) -> Result<Self> {
        let database = site.database.clone();
        let state = site.state.clone().ok_or_else(|| unusable("it holds no store"))?;
        let connections = Connections::new(
            &database.connections,
            options.durability,
            Metrics::default(),
            Arc::new(SystemClock),
        )?;
        connections.prove(state.identity());
        let random = |e| Error::new(ErrorKind::Unusable, format!("the system has no random number: {e}"));
        let node = (sync::random_u64().map_err(random)? >> 1) as i64;
        let name = database.name.clone();
        Ok(Self { name, state, group: Group::new(database, store.slots, connections, node) })
    }

    /// Carries out a statement that commits.
    async fn commit(
        &self,
        lease: Lease,
        statement: Statement,
        slot: i16,
        target: Option<Uuid>,
    ) -> Result<()> {
        let done = match target {
            Some(target) => self.group.connections.commit(lease, statement, &[&slot, &target]).await,
            None => self.group.connections.commit(lease, statement, &[]).await,
        };
        done.map(drop).map_err(|fate| match fate {
            Fate::Undecided(why) | Fate::Unknown(why) => self.failed(&why),
            Fate::Refused(e) => self.failed(&e.to_string()),
        })
    }

    /// What went wrong here, after which the command can be begun again.
    fn failed(&self, why: &str) -> Error {
        let message = format!("{}: {why}; nothing is lost, run this again to go on", self.name);
        Error::new(ErrorKind::Io, message)
    }

    fn refused(&self, e: &tokio_postgres::Error) -> Error {
        self.failed(&sentence(e))
    }

    /// Proves that what this connection has shown is where a commit must be.
    async fn prove(&self, lease: Lease) -> Result<()> {
        let proven = self.group.coverage.commit_by(&self.group.connections, lease).await;
        proven.map_err(|e| self.failed(&e.to_string()))
    }
}

/// Checks each slot before anything is changed: it is in one of the databases, or on its way to the
/// one that is meant.
fn check_ways(sites: &[Site], store: &Store) -> Result<()> {
    for slot in 0..store.slots {
        let meant = sites.iter().find(|site| site.database.slots.contains(&slot));
        if meant.is_none() {
            return Err(unusable(&format!("no database is named for slot {slot}")));
        }
        if owner(sites, slot, store.slots)?.is_some() {
            continue;
        }
        let number = |site: &Site| site.state.as_ref().map(|state| state.database);
        let leaves = sites.iter().find_map(|site| Some((site, site.leaving(slot)?)));
        if let Some((from, target)) = leaves.filter(|(_, target)| meant.and_then(number) != Some(*target)) {
            let to = sites.iter().find(|site| number(site) == Some(target));
            let to = to.map_or("a database that is not named".to_owned(), |to| to.database.name.clone());
            let why = format!(
                "slot {slot} is on its way from {} to {to}: name that for it, finish this move, then begin another",
                from.database.name
            );
            return Err(unusable(&why));
        }
    }
    Ok(())
}

/// Slots that have come to their new database while the old one still has their rows.
fn left_over(sites: &[Site]) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    for (from, site) in sites.iter().enumerate() {
        for (slot, _) in site.state.iter().flat_map(|state| &state.leaving) {
            let owner = sites.iter().position(|site| site.owns(*slot));
            found.extend(owner.map(|to| (from, to, *slot)));
        }
    }
    found
}

/// Slots that are not where they are meant to be, each with the place that it is in, or leaves, and
/// the place that is meant.
fn ways(sites: &[Site]) -> Vec<(usize, usize, usize)> {
    let mut ways = Vec::new();
    for (to, site) in sites.iter().enumerate() {
        for slot in site.database.slots.iter().filter(|slot| !site.owns(**slot)) {
            let has = |site: &Site| site.owns(*slot);
            let from = sites.iter().position(has);
            let from = from.or_else(|| sites.iter().position(|site| site.leaving(*slot).is_some()));
            ways.extend(from.map(|from| (from, to, *slot)));
        }
    }
    ways.sort_by_key(|way| way.2);
    ways
}

/// Has the old database take no more events of a slot.
async fn give_up(from: &End, to: &End, slot: usize) -> Result<()> {
    let lease = from.group.connections.write().await?;
    from.commit(lease, GIVE_UP, slot as i16, Some(Uuid(to.state.database))).await
}

/// Copies all rows of a slot in one transaction, at whose end the new database owns it; how many
/// events it has.
async fn copy(from: &End, to: &End, slot: usize, store: &Store) -> Result<u64> {
    let (number, source) = (slot as i16, from.group.connections.cover().await?);
    let target = to.group.connections.write().await?;
    let (old, new) = (source.client()?, target.client()?);
    let row = old.query_opt(LEAVING, &[&number]).await.map_err(|e| from.refused(&e))?;
    let gone = || from.failed(&format!("slot {slot} is not on its way any more: another command moves it"));
    let row = row.ok_or_else(gone)?;
    let (next_seq, next_topic): (i64, i64) = (row.get(0), row.get::<_, i32>(1).into());
    new.batch_execute("BEGIN").await.map_err(|e| to.refused(&e))?;
    // It waits for what an earlier run that was killed has left under way, which may have done it
    // all.
    new.execute(SLACK, &[&store.arrival_slack]).await.map_err(|e| to.refused(&e))?;
    if new.query_opt(OWNED, &[&number]).await.map_err(|e| to.refused(&e))?.is_some() {
        return Ok(next_seq.unsigned_abs());
    }
    for (table, columns) in TABLES {
        pour((from, old), (to, new), slot, (table, columns), table).await?;
    }
    let (there, here) = (sums(from, old, number).await?, sums(to, new, number).await?);
    let counts: Vec<i64> = there.iter().map(|(count, _)| *count).collect();
    if there != here || counts != [next_topic, next_topic, next_seq, next_seq] {
        let message = format!(
            "slot {slot} of {} has other rows than its counts say, or than were copied: `sekali verify` says more of a \
             store whose slots are in their places",
            from.name
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    pour((from, old), (to, new), slot, ("sekali_leaving", SLOT_COLUMNS), "sekali_slots").await?;
    // The server that all this was read from is the primary, and its standbys have it.
    from.prove(source).await?;
    to.commit(target, COMMIT, number, None).await?;
    Ok(next_seq.unsigned_abs())
}

/// Copies the rows of a slot from one table into another.
async fn pour(
    (from, old): (&End, &deadpool_postgres::ClientWrapper),
    (to, new): (&End, &deadpool_postgres::ClientWrapper),
    slot: usize,
    (table, columns): (&str, &str),
    into: &str,
) -> Result<()> {
    let out = format!("COPY (SELECT {columns} FROM {table} WHERE slot = {slot}) TO STDOUT (FORMAT binary)");
    let rows = old.copy_out(&out).await.map_err(|e| from.refused(&e))?;
    let text = format!("COPY {into} ({columns}) FROM STDIN (FORMAT binary)");
    let (mut rows, sink) = (pin!(rows), new.copy_in(&text).await.map_err(|e| to.refused(&e))?);
    let mut sink = pin!(sink);
    while let Some(bytes) = rows.try_next().await.map_err(|e| from.refused(&e))? {
        sink.send(bytes).await.map_err(|e| to.refused(&e))?;
    }
    sink.finish().await.map(drop).map_err(|e| to.refused(&e))
}

/// Of each table, how many rows it has of a slot, and a sum over all that they hold.
async fn sums(end: &End, client: &deadpool_postgres::ClientWrapper, slot: i16) -> Result<Vec<(i64, String)>> {
    let mut sums = Vec::new();
    for (table, columns) in TABLES {
        let query = format!(
            "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)), 0)::text
             FROM (SELECT {columns} FROM {table} WHERE slot = $1) r"
        );
        let row: Row = client.query_one(&query, &[&slot]).await.map_err(|e| end.refused(&e))?;
        sums.push((row.get(0), row.get(1)));
    }
    Ok(sums)
}

/// Removes a slot from the old database, once the new one surely has it.
async fn remove(from: &End, to: &End, slot: usize) -> Result<()> {
    let lease = to.group.connections.cover().await?;
    let owned = lease.client()?.query_opt(OWNED, &[&(slot as i16)]).await.map_err(|e| to.refused(&e))?;
    if owned.is_none() {
        return Err(to.failed(&format!("it does not have slot {slot}")));
    }
    to.prove(lease).await?;
    let tables = TABLES.map(|(table, _)| table);
    let mut statements = String::new();
    for table in tables.into_iter().chain(["sekali_attempts", "sekali_leaving"]) {
        statements.push_str(&format!("DELETE FROM {table} WHERE slot = {slot};"));
    }
    let mut lease = from.group.connections.write().await?;
    lease.client()?.batch_execute(&statements).await.map_err(|e| from.refused(&e))?;
    lease.give_back();
    Ok(())
}
