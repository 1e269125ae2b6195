//! Connections to the database: two pools of them, and how each session is set.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use futures_util::future::{self, poll_fn};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, warn};

use super::fault::{Fate, read_failed, sentence, unreachable};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    DATABASE_CONNECT_SECONDS, DATABASE_READS_MAX, DATABASE_SILENCE_SECONDS, DATABASE_WRITES_MAX,
};
use crate::metrics::{DATABASE_CONNECTIONS, DATABASE_WAITING, Metrics};

/// What each session is set to, as rows of names and values; names that a server does not know are
/// left out.
///
/// * No time-out ends a commit that waits for standbys, as what it has written stays. The one for
///   locks acts before anything is written.
/// * A backend that waits for a lock ends when its node has gone.
/// * All statements are prepared, and look rows up by their keys: a plan must not depend on how
///   large the tables were when it was made.
const SESSION: &str = "
    SELECT set_config(v.name, v.value, false)
    FROM (VALUES
        ('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END),
        ('statement_timeout', '0'),
        ('transaction_timeout', '0'),
        ('idle_session_timeout', '0'),
        ('lock_timeout', '4s'),
        ('client_connection_check_interval', '2s'),
        ('default_transaction_isolation', 'read committed'),
        ('client_min_messages', 'warning'),
        ('plan_cache_mode', 'force_generic_plan'),
        ('enable_seqscan', 'off'),
        ('enable_hashjoin', 'off'),
        ('enable_mergejoin', 'off'),
        ('jit', 'off')
    ) v (name, value)
    WHERE current_setting(v.name, true) IS NOT NULL";

/// For whom commits wait. With nobody's name they wait for nobody, and those that were waiting
/// succeed.
const STANDBYS: &str = "SELECT current_setting('synchronous_standby_names')";

/// Connections in use, for those that write and those that read: a primary that waits for its
/// standbys keeps only the first waiting.
#[derive(Clone)]
pub(crate) struct Connections {
    writes: Pool,
    reads: Pool,
    /// Warnings that the server has sent. A commit whose wait for standbys is cancelled succeeds with
    /// one, so a commit during which this number grows may be on the primary alone.
    warnings: Arc<AtomicU64>,
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
    /// Pools that connect when they are first used.
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) fn new(
        config: &Config,
        durability: Durability,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let tls = tls(config)?;
        let warnings = Arc::new(AtomicU64::new(0));
        let pool = |size| {
            let connect = Connector { tls: tls.clone(), warnings: Arc::clone(&warnings) };
            let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let patience = Some(Duration::from_secs(DATABASE_CONNECT_SECONDS));
            Pool::builder(Manager::from_connect(config.clone(), connect, recycling))
                .max_size(size)
                .wait_timeout(patience)
                .create_timeout(patience)
                .runtime(Runtime::Tokio1)
                .post_create(Hook::async_fn(|client, _| {
                    Box::pin(
                        async move { client.query(SESSION, &[]).await.map(drop).map_err(HookError::Backend) },
                    )
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
            durability,
            metrics,
            clock,
        })
    }

    /// One for a statement that may wait for standbys.
    ///
    /// # Errors
    /// `Overloaded`: the database can't be reached, or all connections are in use.
    pub(crate) async fn write(&self) -> Result<Lease> {
        self.writes.get().await.map(|client| Lease(Some(client))).map_err(|e| unreachable(&e))
    }

    /// One for a statement that reads.
    ///
    /// # Errors
    /// As for [`Connections::write`].
    pub(crate) async fn read(&self) -> Result<Reader> {
        let client = self.reads.get().await.map_err(|e| unreachable(&e))?;
        Ok(Reader { client, metrics: self.metrics.clone(), clock: Arc::clone(&self.clock) })
    }

    /// One of those for reading, for a commit that a read waits for.
    ///
    /// # Errors
    /// As for [`Connections::write`].
    pub(crate) async fn cover(&self) -> Result<Lease> {
        self.reads.get().await.map(|client| Lease(Some(client))).map_err(|e| unreachable(&e))
    }

    /// Carries out a statement that commits, and returns its rows once the commit has what the store
    /// promises. The connection is left to others then, and ends otherwise.
    ///
    /// # Errors
    /// What the statement has done.
    pub(crate) async fn commit(
        &self,
        lease: Lease,
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
        // The second goes with the first, and is carried out when that is committed.
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

    /// Brings the figures of the pools up to date.
    pub(crate) fn observe(&self) {
        for (name, pool) in [("writes", &self.writes), ("reads", &self.reads)] {
            let status = pool.status();
            let busy = status.size.saturating_sub(status.available);
            for (state, count) in [("idle", status.available), ("busy", busy)] {
                self.metrics.set(DATABASE_CONNECTIONS, &[("pool", name), ("state", state)], count as f64);
            }
            self.metrics.set(DATABASE_WAITING, &[("pool", name)], status.waiting as f64);
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

/// A connection for statements that read.
pub(crate) struct Reader {
    client: Object,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Reader {
    /// The rows of a statement.
    ///
    /// # Errors
    /// `Overloaded`, or what the server has against it.
    pub(crate) async fn rows(
        &self,
        (kind, text): Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let begun = self.clock.monotonic();
        let rows = async {
            let statement = self.client.prepare_cached(text).await?;
            self.client.query(&statement, parameters).await
        };
        let rows = rows.await.map_err(|e| read_failed(&e));
        self.metrics.statement(kind, self.clock.monotonic() - begun);
        rows
    }

    /// For what is not counted.
    pub(crate) fn client(&self) -> &Client {
        &self.client
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
    pub(crate) fn give_back(mut self) {
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

/// The connections that a URL means, with what every node needs of them.
pub(crate) fn complete(mut config: Config, password: Option<&[u8]>) -> Config {
    if let Some(password) = password {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("sekali");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(DATABASE_CONNECT_SECONDS));
    }
    // Standbys can't be written to, and show commits in another order.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    // A primary that has lost its power says nothing more.
    let silence = Duration::from_secs(DATABASE_SILENCE_SECONDS);
    config.keepalives(true).keepalives_idle(silence).keepalives_interval(silence / 4).keepalives_retries(3);
    config.tcp_user_timeout(silence);
    config
}

/// A connection of its own, outside of the pools, for what changes the schema.
///
/// # Errors
/// `Unusable`.
pub(crate) async fn connect(config: &Config) -> Result<(Client, JoinHandle<()>)> {
    let connector = Connector { tls: tls(config)?, warnings: Arc::default() };
    let unusable = |e: tokio_postgres::Error| {
        Error::new(ErrorKind::Unusable, format!("the database can't be reached: {}", sentence(&e)))
    };
    let (client, connection) = Connect::connect(&connector, config).await.map_err(unusable)?;
    client.query(SESSION, &[]).await.map_err(unusable)?;
    Ok((client, connection))
}

/// Makes connections, and listens to what the server says beside its answers.
struct Connector {
    tls: MakeRustlsConnect,
    warnings: Arc<AtomicU64>,
}

type Connecting<'a> = std::pin::Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let (config, tls, warnings) = (config.clone(), self.tls.clone(), Arc::clone(&self.warnings));
        Box::pin(async move {
            let (client, mut connection) = config.connect(tls).await?;
            let task = tokio::spawn(async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                    match message {
                        Ok(AsyncMessage::Notice(notice)) => {
                            // Counted before the answer that follows it is handed on.
                            warnings.fetch_add(1, Ordering::SeqCst);
                            warn!(code = notice.code().code(), "the database warns: {}", notice.message());
                        }
                        Ok(_) => {}
                        Err(e) => {
                            debug!(error = %e, "a connection to the database ended");
                            break;
                        }
                    }
                }
            });
            Ok((client, task))
        })
    }
}

/// Whom the system trusts; `SSL_CERT_FILE` names others.
fn tls(config: &Config) -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let unusable = |e| Error::new(ErrorKind::Unusable, format!("TLS to the database can't be set up: {e}"));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
