//! Connections to the database: two pools of them, and when one is given up.

use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::future;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};

use super::connector::{Connector, set_session};
use super::fault::{Fate, read_failed, silent, unreachable};
use super::identity::{IDENTITY, Identity, SERVER, STANDBYS};
use super::primary::{Primary, PrimaryNumber};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    DATABASE_CONNECT_SECONDS, DATABASE_READS_MAX, DATABASE_SILENCE_SECONDS, DATABASE_WRITES_MAX,
};
use crate::metrics::Metrics;
use crate::sync;

/// What is wrong with a database that has another identity than it had.
pub(crate) const REPLACED: &str = "another one has taken its place since this node was started";

/// Connections in use, for those that write and those that read: a primary that waits for its
/// standbys keeps only the first waiting.
#[derive(Clone)]
pub(crate) struct Connections {
    writes: Pool,
    reads: Pool,
    /// Warnings that the server has sent. A commit whose wait for standbys is cancelled succeeds
    /// with one, so a commit during which this number grows may be on the primary alone.
    warnings: Arc<AtomicU64>,
    /// Which database it is, once that was seen. Before, no connection is given, and none to another
    /// one.
    identity: Arc<OnceLock<Identity>>,
    primary: Arc<Primary>,
    durability: Durability,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("writes", &self.writes.status()).finish_non_exhaustive()
    }
}

impl Connections {
    /// Pools that connect when they are first used, after [`Connections::prove`].
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) fn new(
        config: &Config,
        durability: Durability,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let connector = Connector::new(config)?;
        let (warnings, identity) = (connector.warnings(), Arc::new(OnceLock::new()));
        let primary = Arc::new(Primary::default());
        let pool = |size| {
            let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let (identity, primary, clock) =
                (Arc::clone(&identity), Arc::clone(&primary), Arc::clone(&clock));
            let patience = Some(Duration::from_secs(DATABASE_CONNECT_SECONDS));
            Pool::builder(Manager::from_connect(config.clone(), connector.clone(), recycling))
                .max_size(size)
                .wait_timeout(patience)
                .create_timeout(patience)
                .runtime(Runtime::Tokio1)
                .post_create(Hook::async_fn(move |client, _| {
                    let (identity, primary) = (Arc::clone(&identity), Arc::clone(&primary));
                    let clock = Arc::clone(&clock);
                    Box::pin(async move {
                        set_session(client, durability).await.map_err(HookError::Backend)?;
                        let looked =
                            future::try_join(client.query(IDENTITY, &[]), client.query_one(SERVER, &[]));
                        let (rows, server) = looked.await.map_err(HookError::Backend)?;
                        if Identity::of(&rows).as_ref() != identity.get() {
                            return Err(HookError::message(REPLACED));
                        }
                        primary.meet(server.get(0), clock.monotonic());
                        Ok(())
                    })
                }))
                .build()
                .map_err(|e| {
                    Error::new(ErrorKind::Unusable, format!("the pool of connections can't be made: {e}"))
                })
        };
        Ok(Self {
            writes: pool(DATABASE_WRITES_MAX)?,
            reads: pool(DATABASE_READS_MAX)?,
            warnings,
            identity,
            primary,
            durability,
            metrics,
            clock,
        })
    }

    /// The database is the one that is meant, and is this one from now on.
    pub(crate) fn prove(&self, identity: Identity) {
        self.identity.get_or_init(|| identity);
    }

    /// Which database it is; `None` until it was seen.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.get().copied()
    }

    /// A connection of one of the pools.
    async fn take(&self, pool: &Pool) -> Result<Lease> {
        if self.identity().is_none() {
            let message = "the database has not answered since this node was started; retry later";
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        loop {
            let client = pool.get().await.map_err(|e| unreachable(&e))?;
            if self.primary.is_present(Object::metrics(&client).created) {
                return Ok(Lease(Some(client)));
            }
            drop(Object::take(client));
        }
    }

    /// Which server is the primary, as far as it was met.
    pub(crate) fn primary(&self) -> PrimaryNumber {
        self.primary.number()
    }

    /// One for a statement that may wait for standbys.
    ///
    /// # Errors
    /// `Overloaded`: the database can't be reached, or all connections are in use.
    pub(crate) async fn write(&self) -> Result<Lease> {
        self.take(&self.writes).await
    }

    /// One for a statement that reads.
    ///
    /// # Errors
    /// As for [`Connections::write`].
    pub(crate) async fn read(&self) -> Result<Reader> {
        Ok(Reader {
            lease: self.take(&self.reads).await?,
            unanswered: AtomicUsize::new(0),
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
        })
    }

    /// One of those for reading, for a commit that a read waits for.
    ///
    /// # Errors
    /// As for [`Connections::write`].
    pub(crate) async fn cover(&self) -> Result<Lease> {
        self.take(&self.reads).await
    }

    /// Carries out a statement that commits, and returns its rows once the commit has what the
    /// store promises. The connection is left to others then, and ends otherwise.
    ///
    /// # Errors
    /// What the statement has done.
    pub(crate) async fn commit(
        &self,
        mut lease: Lease,
        (kind, text): Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fate> {
        let client = lease.client().map_err(|e| Fate::Undecided(e.to_string()))?;
        let prepared = future::try_join(client.prepare_cached(text), client.prepare_cached(STANDBYS)).await;
        let (statement, standbys) = prepared.map_err(|e| match Fate::from(&e) {
            // Nothing was carried out yet.
            Fate::Unknown(why) => Fate::Undecided(why),
            other => other,
        })?;
        let warnings = self.warnings.load(Ordering::SeqCst);
        let begun = self.clock.monotonic();
        // With nobody's name commits wait for nobody, and those that were waiting succeed. The second
        // goes with the first, and is carried out when that is committed.
        let answers =
            future::try_join(client.query(&statement, parameters), client.query_one(&standbys, &[])).await;
        self.metrics.statement(kind, self.clock.monotonic() - begun);
        let (rows, standbys) = answers.map_err(|e| Fate::from(&e))?;
        if self.warnings.load(Ordering::SeqCst) != warnings {
            return Err(Fate::Unknown("the wait for the standbys was cancelled".to_owned()));
        }
        if self.durability == Durability::Replicated && standbys.get::<_, &str>(0).trim().is_empty() {
            return Err(Fate::Unknown("synchronous_standby_names is empty".to_owned()));
        }
        lease.give_back();
        Ok(rows)
    }

    /// How many connections each pool has, how many of them are in use, and how many statements
    /// wait for one.
    pub(crate) fn figures(&self) -> [(&'static str, [usize; 3]); 2] {
        [("writes", &self.writes), ("reads", &self.reads)].map(|(name, pool)| {
            let status = pool.status();
            (name, [status.available, status.size.saturating_sub(status.available), status.waiting])
        })
    }

    /// Ends all that are not in use: the server says nothing, and another one may have taken its
    /// place.
    pub(crate) fn forget(&self) {
        for pool in [&self.writes, &self.reads] {
            pool.retain(|_, _| false);
        }
    }

    /// Ends all that are not in use, and gives no more.
    pub(crate) fn close(&self) {
        self.writes.close();
        self.reads.close();
    }
}

/// What a statement is counted as, and its text.
pub(crate) type Statement = (&'static str, &'static str);

/// A connection for statements that read. It is left to others when all of them were answered.
pub(crate) struct Reader {
    lease: Lease,
    unanswered: AtomicUsize,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Reader {
    /// The rows of a statement. Each looks at a bounded part of a table, so that a server which
    /// says nothing for long stands still.
    ///
    /// # Errors
    /// `Overloaded`, or what the server has against it.
    pub(crate) async fn rows(
        &self,
        (kind, text): Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let begun = self.clock.monotonic();
        let client = self.lease.client()?;
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let rows = async {
            let statement = client.prepare_cached(text).await?;
            client.query(&statement, parameters).await
        };
        let rows = match sync::timeout(Duration::from_secs(DATABASE_SILENCE_SECONDS), rows).await {
            Some(rows) => {
                self.unanswered.fetch_sub(1, Ordering::Relaxed);
                rows.map_err(|e| read_failed(&e))
            }
            None => Err(silent()),
        };
        self.metrics.statement(kind, self.clock.monotonic() - begun);
        rows
    }

    /// The same connection for a commit.
    pub(crate) fn into_lease(mut self) -> Lease {
        std::mem::replace(&mut self.lease, Lease(None))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.unanswered.load(Ordering::Relaxed) == 0 {
            self.lease.give_back();
        }
    }
}

/// A connection with a statement that may be given up. Then it ends, as whoever had it next would
/// wait for that statement.
#[derive(Debug)]
pub(crate) struct Lease(Option<Object>);

impl Lease {
    /// The connection.
    ///
    /// # Errors
    /// Never: it is there until it is given back.
    pub(crate) fn client(&self) -> Result<&deadpool_postgres::ClientWrapper> {
        let gone = || Error::new(ErrorKind::Overloaded, "the connection is gone; retry later");
        self.0.as_deref().ok_or_else(gone)
    }

    /// Leaves it to others: its statement was answered.
    pub(crate) fn give_back(&mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}
