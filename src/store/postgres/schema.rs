//! The schema, the row that names the store, and what the server must be set to.

use std::time::Duration;

use siphasher::sip128::SipHasher13;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config, Row};
use tracing::{info, warn};

use super::connector::connect;
use super::fault::sentence;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::DATABASE_MIGRATION_TRIES_MAX;

/// The migrations, in order. What was released is never changed; a new version is one more.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001-events.sql"), include_str!("migrations/0002-consumers.sql")];
/// The table of those that were carried out.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS sekali_schema (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
/// Pause before a migration is tried again that another node was carrying out too.
const PAUSE: Duration = Duration::from_millis(200);
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

/// Sixteen bytes of the type `uuid`.
pub(crate) struct Uuid(pub(crate) u128);

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

/// Checks the server, brings the schema to what this program knows, and reads what names the store.
///
/// # Errors
/// `Unusable`: what is wrong, and what to do.
pub(crate) async fn prepare(config: &Config, durability: Durability, must_exist: bool) -> Result<Store> {
    let (mut client, connection) = connect(config).await?;
    let prepared = async {
        let (version, encoding): (i32, String) = {
            let row = client
                .query_one(
                    "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')",
                    &[],
                )
                .await
                .map_err(|e| unusable(&sentence(&e)))?;
            (row.get(0), row.get(1))
        };
        if version < SERVER_VERSION_MIN {
            return Err(unusable("the server is older than PostgreSQL 14: upgrade it"));
        }
        if encoding != "UTF8" {
            let message = format!("the database has the encoding {encoding}: create one with ENCODING 'UTF8' TEMPLATE template0");
            return Err(unusable(&message));
        }
        let settings = client.query_one(SETTINGS, &[]).await.map_err(|e| unusable(&sentence(&e)))?;
        if let Some(fault) = fault_of_settings(&settings, durability) {
            return Err(unusable(fault));
        }
        migrate(&mut client, must_exist).await?;
        read_store(&client).await
    }
    .await;
    connection.abort();
    prepared
}

/// What [`fault_of_settings`] looks at.
pub(crate) const SETTINGS: &str = "
    SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
           current_setting('synchronous_standby_names'), pg_is_in_recovery()";

/// What of the server's settings would break the promise, in a sentence that says what to set.
pub(crate) fn fault_of_settings(row: &Row, durability: Durability) -> Option<&'static str> {
    let settings: [String; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    let [fsync, full_page_writes, synchronous_commit, standbys] = settings.each_ref().map(String::as_str);
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
    } else if !["on", "remote_apply"].contains(&synchronous_commit) {
        "something between this program and the server keeps it from setting synchronous_commit to on for its \
         sessions: connect to the server itself, or set synchronous_commit = on there"
    } else {
        return None;
    })
}

/// Brings the schema to the newest version that this program knows.
async fn migrate(client: &mut Client, must_exist: bool) -> Result<()> {
    let newest = MIGRATIONS.len() as i64;
    for tried in 1.. {
        match version(client).await? {
            None if must_exist => {
                return Err(unusable("it holds no store, and must_exist is set: is it the right one?"));
            }
            None => warn!("there is no store in this database: one is made"),
            Some(version) if version > newest => return Err(newer(version)),
            Some(version) if version == newest => return Ok(()),
            Some(version) => info!(version, newest, "the schema is brought up to date"),
        }
        if let Err(e) = carry_out(client).await {
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
async fn carry_out(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(TABLE).await?;
    transaction.batch_execute("LOCK TABLE sekali_schema IN EXCLUSIVE MODE").await?;
    let row = transaction.query_one("SELECT coalesce(max(version), 0) FROM sekali_schema", &[]).await?;
    let present: i64 = row.get(0);
    for (version, statements) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > present) {
        transaction.batch_execute(statements).await?;
        transaction.execute("INSERT INTO sekali_schema (version) VALUES ($1)", &[&version]).await?;
    }
    transaction.commit().await
}

/// The version of the schema; `None` where there is none.
async fn version(client: &Client) -> Result<Option<i64>> {
    let failed = |e: tokio_postgres::Error| unusable(&sentence(&e));
    let row =
        client.query_one("SELECT to_regclass('sekali_schema') IS NOT NULL", &[]).await.map_err(failed)?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_one("SELECT max(version) FROM sekali_schema", &[]).await.map_err(failed)?;
    Ok(row.get(0))
}

/// What names the store of a database that is not changed.
///
/// # Errors
/// `Unusable`: there is no store of this version in it.
pub(crate) async fn existing(client: &Client) -> Result<Store> {
    let newest = MIGRATIONS.len() as i64;
    match version(client).await? {
        None => Err(unusable("it holds no store: is it the right one?")),
        Some(version) if version > newest => Err(newer(version)),
        Some(version) if version < newest => {
            Err(unusable("its schema is that of an older version: start a node of this one first"))
        }
        Some(_) => read_store(client).await,
    }
}

/// A schema that this program does not know.
fn newer(version: i64) -> Error {
    let newest = MIGRATIONS.len();
    unusable(&format!(
        "its schema has version {version}, and this program knows {newest} at most: use the newer program"
    ))
}

async fn read_store(client: &Client) -> Result<Store> {
    let row = client
        .query_one(
            "SELECT store_id, hash_key, slots, (SELECT count(*) FROM sekali_slots), is_filling, arrival_slack
             FROM sekali_store",
            &[],
        )
        .await
        .map_err(|e| unusable(&format!("the row that names the store can't be read: {}", sentence(&e))))?;
    let (Uuid(id), Uuid(key), slots, rows): (Uuid, Uuid, i16, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let slots = usize::try_from(slots).unwrap_or_default();
    if slots == 0 || i64::try_from(slots) != Ok(rows) {
        let message =
            format!("it must have {slots} slots and has {rows}: is it the right database, restored whole?");
        return Err(unusable(&message));
    }
    Ok(Store { id, key, slots, is_filling: row.get(4), arrival_slack: row.get(5) })
}

pub(crate) fn unusable(why: &str) -> Error {
    Error::new(ErrorKind::Unusable, format!("the database can't be used: {why}"))
}
