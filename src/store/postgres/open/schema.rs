//! The schema, the row that names the store, and what the server must be set to.

use std::pin::pin;
use std::time::Duration;

use siphasher::sip128::SipHasher13;
use tokio_postgres::{Client, Row};
use tracing::{info, warn};

use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{DATABASE_MIGRATION_TRIES_MAX, DATABASE_SLOTS};
use crate::store::postgres::connect::fault::sentence;
use crate::store::postgres::connect::identity::{Identity, STANDBYS, Uuid};
use crate::sync;

/// The migrations, in order. What was released is never changed; a new version is one more.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001-events.sql"),
    include_str!("../migrations/0002-consumers.sql"),
    include_str!("../migrations/0003-filled-from.sql"),
];
/// The newest version of the schema that this program knows.
pub(crate) const NEWEST: i64 = MIGRATIONS.len() as i64;
/// The table of those that were carried out.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS sekali_schema (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
/// Pause before a migration is tried again that another node was carrying out too.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a commit may take before it is said that a start waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The oldest server that has all that the schema and the sessions use.
const SERVER_VERSION_MIN: i32 = 140_000;

/// What the row has that names the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) id: u128,
    /// The key of the hash by which topics have slots.
    pub(crate) key: u128,
    pub(crate) slots: usize,
    /// Events of another store are being moved here.
    pub(crate) is_filling: bool,
    /// Most microseconds by which an event of a slot has arrived before one with a lower number.
    /// Nodes add none; events that were moved here may have it.
    pub(crate) arrival_slack: i64,
}

impl Store {
    /// Whether both are read from databases of one store.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.id, self.key, self.slots) == (other.id, other.key, other.slots)
    }

    /// Half of its id, as cursors have it.
    pub(crate) fn half(&self) -> u64 {
        self.id as u64
    }

    /// A topic's hash, of which the slot and cursors are made. It is keyed, so that no sender can
    /// aim at one slot.
    pub(crate) fn hash(&self, topic: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.key.to_be_bytes()).hash(topic).as_u128() as u64
    }

    /// The slot of a topic.
    pub(crate) fn slot(&self, topic: &[u8]) -> usize {
        (self.hash(topic) % self.slots as u64) as usize
    }
}

/// What a database says of itself.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// The number of this database.
    pub(crate) database: u128,
    /// Consumers are kept in it.
    pub(crate) is_home: bool,
    /// All databases of the store were made; only the home knows.
    pub(crate) is_whole: bool,
    /// The slots that it owns, in order.
    pub(crate) owned: Vec<usize>,
    /// The slots that it has given up, each with the number of the database that gets it.
    pub(crate) leaving: Vec<(usize, u128)>,
}

impl State {
    /// By what the database is known again.
    pub(crate) fn identity(&self) -> Identity {
        Identity { store: self.store.id, key: self.store.key, database: self.database }
    }
}

/// What an empty database becomes.
pub(crate) struct New<'s> {
    /// The store that it becomes part of; without one it is the home of a new store.
    pub(crate) part_of: Option<&'s Store>,
    /// The slots that it owns.
    pub(crate) owned: &'s [usize],
}

/// Checks whether a server can keep the promise.
///
/// # Errors
/// `Unusable`: what is wrong, and what to do.
pub(crate) async fn check_server(client: &Client, durability: Durability) -> Result<()> {
    let query = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')";
    let row = client.query_one(query, &[]).await.map_err(|e| unusable(&sentence(&e)))?;
    let (version, encoding): (i32, String) = (row.get(0), row.get(1));
    if version < SERVER_VERSION_MIN {
        return Err(unusable("the server is older than PostgreSQL 14: upgrade it"));
    }
    if encoding != "UTF8" {
        let message =
            format!("it has the encoding {encoding}: create one with ENCODING 'UTF8' TEMPLATE template0");
        return Err(unusable(&message));
    }
    let settings = client.query_one(SETTINGS, &[]).await.map_err(|e| unusable(&sentence(&e)))?;
    fault_of_settings(&settings, durability).map_or(Ok(()), |fault| Err(unusable(fault)))
}

/// What [`fault_of_settings`] looks at.
pub(crate) const SETTINGS: &str = "
    SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
           current_setting('synchronous_standby_names'), pg_is_in_recovery()";

/// What of the server's settings would break the promise, in a sentence that says what to set.
pub(crate) fn fault_of_settings(row: &Row, durability: Durability) -> Option<&'static str> {
    let settings: [String; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    let [fsync, full_page_writes, synchronous_commit, standbys] = settings.each_ref().map(String::as_str);
    // As each session is set.
    let are_kept = match durability {
        Durability::Replicated => ["on", "remote_apply"].contains(&synchronous_commit),
        Durability::Local => synchronous_commit == "local",
    };
    Some(if row.get(4) {
        "the server is a standby: name the primary too, or all servers"
    } else if fsync != "on" {
        "fsync is off, so a power cut takes answered events: set fsync = on"
    } else if full_page_writes != "on" {
        "full_page_writes is off, so a power cut can damage what is stored: set full_page_writes = on"
    } else if durability == Durability::Replicated && standbys.trim().is_empty() {
        "synchronous_standby_names is empty, so the loss of one machine takes answered events: set it to something \
         like ANY 1 (a, b) (Patroni: synchronous_mode: quorum, synchronous_mode_strict: true), or say that one \
         server is meant with --store-durability local"
    } else if !are_kept {
        "something between this program and the server keeps it from setting synchronous_commit for its sessions: \
         connect to the server itself"
    } else {
        return None;
    })
}

/// Brings the schema to the newest version that this program knows, and makes what is `new` of a
/// database that is empty.
///
/// # Errors
/// `Unusable`: the version is newer, or the server refuses it.
pub(crate) async fn migrate(client: &mut Client, new: &New<'_>) -> Result<()> {
    let newest = NEWEST;
    for tried in 1.. {
        match version(client).await? {
            None => {}
            Some(version) if version > newest => return Err(newer(version)),
            Some(version) if version == newest => return Ok(()),
            Some(version) => info!(version, newest, "the schema is brought up to date"),
        }
        if let Err(e) = carry_out(client, new).await {
            // Another node that has started at the same time was first.
            if tried >= DATABASE_MIGRATION_TRIES_MAX {
                return Err(unusable(&format!("its schema can't be made: {}", sentence(&e))));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Carries out what is missing, all of it or nothing; other nodes wait.
async fn carry_out(client: &mut Client, new: &New<'_>) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(TABLE).await?;
    transaction.batch_execute("LOCK TABLE sekali_schema IN EXCLUSIVE MODE").await?;
    let row = transaction.query_one("SELECT coalesce(max(version), 0) FROM sekali_schema", &[]).await?;
    let present: i64 = row.get(0);
    for (version, statements) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > present) {
        transaction.batch_execute(statements).await?;
        transaction.execute("INSERT INTO sekali_schema (version) VALUES ($1)", &[&version]).await?;
    }
    if present == 0 {
        let (id, key) = (new.part_of.map(|store| Uuid(store.id)), new.part_of.map(|store| Uuid(store.key)));
        let slots = new.part_of.map_or(DATABASE_SLOTS, |store| store.slots) as i16;
        let owned: Vec<i16> = new.owned.iter().map(|slot| *slot as i16).collect();
        let name = "INSERT INTO sekali_store (store_id, hash_key, slots, is_home)
                    VALUES (coalesce($1::uuid, gen_random_uuid()), coalesce($2::uuid, gen_random_uuid()), $3, $1 IS NULL)";
        transaction.execute(name, &[&id, &key, &slots]).await?;
        let own = "INSERT INTO sekali_slots (slot) SELECT unnest($1::smallint[])";
        transaction.execute(own, &[&owned]).await?;
    }
    let standbys = transaction.query_one(STANDBYS, &[]).await?.get(0);
    confirmed(standbys, transaction.commit()).await
}

/// Waits for a commit, and says for whom it waits if that takes long.
pub(crate) async fn confirmed<T>(standbys: String, commit: impl Future<Output = T>) -> T {
    let mut commit = pin!(commit);
    if let Some(done) = sync::timeout(PATIENCE, &mut commit).await {
        return done;
    }
    warn!(
        synchronous_standby_names = standbys,
        "the database does not confirm what was committed: this start waits for its synchronous standbys"
    );
    commit.await
}

/// The version of the schema; `None` where there is none.
///
/// # Errors
/// `Unusable`: the server refuses it.
pub(crate) async fn version(client: &Client) -> Result<Option<i64>> {
    let failed = |e: tokio_postgres::Error| unusable(&sentence(&e));
    let row =
        client.query_one("SELECT to_regclass('sekali_schema') IS NOT NULL", &[]).await.map_err(failed)?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_one("SELECT max(version) FROM sekali_schema", &[]).await.map_err(failed)?;
    Ok(row.get(0))
}

/// What a database says of itself, which is not changed; `None` if it is empty.
///
/// # Errors
/// `Unusable`: its store is of another version.
pub(crate) async fn existing(client: &Client) -> Result<Option<State>> {
    let newest = NEWEST;
    match version(client).await? {
        None => Ok(None),
        Some(version) if version > newest => Err(newer(version)),
        Some(version) if version < newest => {
            Err(unusable("its schema is that of an older version: start a node of this one first"))
        }
        Some(_) => state(client).await.map(Some),
    }
}

/// A schema that this program does not know.
fn newer(version: i64) -> Error {
    unusable(&format!(
        "its schema has version {version}, and this program knows {NEWEST} at most: use the newer program"
    ))
}

/// What a database with a store says of itself.
///
/// # Errors
/// `Unusable`: it can't be read.
pub(crate) async fn state(client: &Client) -> Result<State> {
    let failed = |e| unusable(&format!("the row that names the store can't be read: {}", sentence(&e)));
    let name = "SELECT store_id, hash_key, slots, is_filling, arrival_slack, database_id, is_home, is_whole
                FROM sekali_store";
    let row = client.query_one(name, &[]).await.map_err(failed)?;
    let (Uuid(id), Uuid(key), slots): (Uuid, Uuid, i16) = (row.get(0), row.get(1), row.get(2));
    let slots = usize::try_from(slots).unwrap_or_default();
    let number = |row: &Row| usize::try_from(row.get::<_, i16>(0)).unwrap_or_default();
    let owned = "SELECT slot FROM sekali_slots ORDER BY slot";
    let owned = client.query(owned, &[]).await.map_err(failed)?;
    let leaving = client.query("SELECT slot, target FROM sekali_leaving", &[]).await.map_err(failed)?;
    Ok(State {
        store: Store { id, key, slots, is_filling: row.get(3), arrival_slack: row.get(4) },
        database: row.get::<_, Uuid>(5).0,
        is_home: row.get(6),
        is_whole: row.get(7),
        owned: owned.iter().map(number).collect(),
        leaving: leaving.iter().map(|row| (number(row), row.get::<_, Uuid>(1).0)).collect(),
    })
}

pub(crate) fn unusable(why: &str) -> Error {
    Error::new(ErrorKind::Unusable, format!("the database can't be used: {why}"))
}
