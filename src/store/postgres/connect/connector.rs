//! How a connection to the database is made: to the primary of the servers that a URL names, and
//! how its session is set.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::{poll_fn, select_ok};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, warn};

use super::fault::sentence;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{DATABASE_CONNECT_SECONDS, DATABASE_SILENCE_SECONDS};
use crate::sync;

/// What each session is set to, as rows of names and values; names that a server does not know are
/// left out.
///
/// * No time-out ends a commit that waits for standbys, as what it has written stays. The one for
///   locks acts before anything is written.
/// * A backend that waits for a lock ends when its node has gone.
/// * All statements are prepared, and look rows up by their keys: a plan must not depend on how
///   large the tables were when it was made.
/// * Names are looked for in one schema alone, that of the store. Otherwise a schema that somebody
///   makes later, and that comes before it, would get the tables of the next migration.
const SESSION: &str = "
    SELECT set_config(v.name, v.value, false)
    FROM (VALUES
        ('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END),
        ('search_path', coalesce(
            (SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = to_regclass('sekali_schema')),
            quote_ident(current_schema()))),
        ('statement_timeout', '0'),
        ('transaction_timeout', '0'),
        ('idle_session_timeout', '0'),
        ('idle_in_transaction_session_timeout', '0'),
        ('lock_timeout', '4s'),
        ('client_connection_check_interval', '2s'),
        ('default_transaction_isolation', 'read committed'),
        ('client_min_messages', 'warning'),
        ('plan_cache_mode', 'force_generic_plan'),
        ('enable_seqscan', 'off'),
        ('enable_hashjoin', 'off'),
        ('enable_mergejoin', 'off'),
        ('enable_memoize', 'off'),
        ('jit', 'off')
    ) v (name, value)
    WHERE current_setting(v.name, true) IS NOT NULL";

/// Where the disk of the primary is all that is promised, no commit waits for a standby.
const SESSION_LOCAL: &str = "SET synchronous_commit = local";

/// Sets the session of a new connection.
///
/// # Errors
/// Those of the server.
pub(crate) async fn set_session(
    client: &Client,
    durability: Durability,
) -> Result<(), tokio_postgres::Error> {
    client.query(SESSION, &[]).await?;
    match durability {
        Durability::Replicated => Ok(()),
        Durability::Local => client.batch_execute(SESSION_LOCAL).await,
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
/// `Overloaded`: no primary answers. `Unusable`: one does, and lets nobody in.
pub(crate) async fn connect(config: &Config, durability: Durability) -> Result<(Client, JoinHandle<()>)> {
    let failed = |kind, why: String| Error::new(kind, format!("the database can't be reached: {why}"));
    let connector = Connector::new(config)?;
    let connected = async {
        let (client, connection) = connector.connect(config).await?;
        set_session(&client, durability).await?;
        Ok((client, connection))
    };
    match sync::timeout(Duration::from_secs(DATABASE_CONNECT_SECONDS), connected).await {
        Some(connected) => connected.map_err(|e: tokio_postgres::Error| {
            let kind = if is_refusal(&e) { ErrorKind::Unusable } else { ErrorKind::Overloaded };
            failed(kind, sentence(&e))
        }),
        None => Err(failed(ErrorKind::Overloaded, "no primary answers".to_owned())),
    }
}

/// Whether a server answers and lets nobody in, which time does not change.
fn is_refusal(e: &tokio_postgres::Error) -> bool {
    let passes = |code: &SqlState| *code == SqlState::TOO_MANY_CONNECTIONS || code.code().starts_with("57P");
    e.code().is_some_and(|code| !passes(code))
}

/// Makes connections, and listens to what the server says beside its answers.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: MakeRustlsConnect,
    warnings: Arc<AtomicU64>,
}

impl Connector {
    /// One for these servers.
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Ok(Self { tls: tls(config)?, warnings: Arc::default() })
    }

    /// How many warnings were heard on all of its connections.
    pub(crate) fn warnings(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.warnings)
    }
}

type Connected = (Client, JoinHandle<()>);

impl Connect for Connector {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let servers = each_alone(config);
        Box::pin(async move {
            // All at once: one that stands still takes connections and says nothing more.
            let attempts = servers.iter().map(|server| Box::pin(server.connect(self.tls.clone())));
            let ((client, connection), _) = select_ok(attempts).await?;
            Ok((client, tokio::spawn(listen(connection, Arc::clone(&self.warnings)))))
        })
    }
}

/// Carries a connection until it ends.
async fn listen<S: TlsStream + Unpin + AsyncRead + AsyncWrite>(
    mut connection: Connection<Socket, S>,
    warnings: Arc<AtomicU64>,
) {
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
}

/// The same connection to each of its servers by itself. What is wrong with the list of them is for
/// whoever connects to say.
fn each_alone(config: &Config) -> Vec<Config> {
    let (hosts, addrs, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let servers = hosts.len().max(addrs.len());
    let fits = |len: usize| len == 0 || len == servers;
    if servers < 2 || !fits(hosts.len()) || !fits(addrs.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return vec![config.clone()];
    }
    (0..servers)
        .map(|server| {
            let mut alone = without_servers(config);
            match hosts.get(server) {
                Some(Host::Tcp(name)) => drop(alone.host(name)),
                Some(Host::Unix(path)) => drop(alone.host_path(path)),
                None => {}
            }
            if let Some(addr) = addrs.get(server) {
                alone.hostaddr(*addr);
            }
            if let Some(port) = ports.get(server).or_else(|| ports.first()) {
                alone.port(*port);
            }
            alone
        })
        .collect()
}

/// All that a configuration says but where the servers are: none can be taken out of it.
fn without_servers(config: &Config) -> Config {
    let mut other = Config::new();
    other
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .load_balance_hosts(config.get_load_balance_hosts())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    config.get_user().map(|user| other.user(user));
    config.get_password().map(|password| other.password(password));
    config.get_dbname().map(|name| other.dbname(name));
    config.get_options().map(|options| other.options(options));
    config.get_application_name().map(|name| other.application_name(name));
    config.get_connect_timeout().map(|time| other.connect_timeout(*time));
    config.get_tcp_user_timeout().map(|time| other.tcp_user_timeout(*time));
    config.get_keepalives_interval().map(|time| other.keepalives_interval(time));
    config.get_keepalives_retries().map(|retries| other.keepalives_retries(retries));
    other
}

/// Whom the system trusts; `SSL_CERT_FILE` names others.
fn tls(config: &Config) -> Result<MakeRustlsConnect> {
    let unusable = |e: &dyn Display| {
        Error::new(ErrorKind::Unusable, format!("TLS to the database can't be set up: {e}"))
    };
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        match found.errors.first() {
            Some(e) if roots.is_empty() && config.get_ssl_mode() == SslMode::Require => {
                return Err(unusable(e));
            }
            Some(e) => warn!("not all certificates that the system trusts can be read: {e}"),
            None => {}
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
