//! `sekali serve`: everything around the server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sekali::authority::AllowedOrigin;
use sekali::clock::{Clock, SystemClock};
use sekali::config::address::Address;
use sekali::config::{Config, Layer, unknown_variables};
use sekali::error::{Error, ErrorKind};
use sekali::http::{Access, Limits};
use sekali::limits::{OPS_CONNECTIONS_MAX, READS_MAX};
use sekali::metrics::Metrics;
use sekali::server::{self, Listener, Listeners, Tls, TlsFiles};
use sekali::store::EventStore;
use sekali::store::backend::Backend;
use sekali::store::local::Local;
use sekali::store::local::open_files::OPEN_FILES_MAX;
use sekali::watch::Reloads;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::config::ConfigFile;
use super::database_store;
use super::exit::{Exit, Failure};
use super::local_store;
use super::process::authentication::{Authentication, Reach};
use super::process::keep_private;
use super::process::logging;
use super::process::memory;
use super::process::supervisor;
use super::process::threads;
use super::process::webhooks::Webhooks;

/// Files that the store and the process itself have open at most.
const STORE_FILES: u64 = OPEN_FILES_MAX as u64 + 64;

/// How long a failed store's last answers may take to leave.
const FAREWELL: Duration = Duration::from_millis(500);

/// Threads beside the runtime's and the workers: the store has twelve, sled some of its own, the
/// process two.
const OTHER_THREADS: usize = 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali serve --data-dir /var/lib/sekali --must-exist
  sekali serve --listen 22001          a port of 127.0.0.1
  sekali serve --listen 0.0.0.0:8080   reached from outside
  sekali serve --listen unix:/run/sekali/sock --listen-mode 0660
  sekali serve --listen 127.0.0.1:0 --log-format json   a free port, told by the log
  SEKALI_LISTEN=0.0.0.0:8080 sekali serve --config /etc/sekali.toml

SIGTERM or SIGINT finishes what was taken, then stops; a second one stops at once, which loses nothing that was answered.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Layer,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let file = self.file.path();
        let config = self.file.resolve(self.flags)?;
        // First, as others start threads too.
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        threads::try_out(cores + READS_MAX + config.workers + OTHER_THREADS)?;
        logging::start(&config)?;
        name_unknown_variables();
        keep_private();
        run(config, file)
    }
}

fn run(config: Config, file: Option<PathBuf>) -> Result<Exit, Failure> {
    memory::start()?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(READS_MAX)
        .build()
        .map_err(|e| Failure::new(Exit::StoreFailed, format!("cannot start the runtime: {e}")))?;
    let done = runtime.block_on(serve(config, file));
    // Not a plain drop, which would wait for a blocking call that may hang.
    runtime.shutdown_background();
    done
}

async fn serve(mut config: Config, file: Option<PathBuf>) -> Result<Exit, Failure> {
    let mut stop = stop_signal()?;
    check_clock(&SystemClock)?;
    let reloads = Reloads::new().map_err(|e| no_signals(&e))?;
    // Before the store is opened: what is wrong is found at once, not after a recovery.
    let authentication = Authentication::read(&config, &reloads)?;
    let webhooks = Webhooks::read(&config, file, &reloads)?;
    let tls = tls(&config, &reloads)?;
    let listeners = Listeners { tls, ..listen(&config).await? };
    let reach = Reach::of(&config, listeners.addresses());
    authentication.check(&config, reach)?;
    config.connections_max = allow_files(config.connections_max, listeners.operators.is_some());
    let metrics = Metrics::default();
    metrics.show_lines_dropped(logging::lines_dropped());
    let opening = tokio::spawn(open(config.clone(), metrics.clone()));
    let store = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => opened?,
            Err(fault) => return Err(Failure::new(Exit::StoreFailed, format!("opening the store failed: {fault}"))),
        },
        _ = &mut stop => return Ok(Exit::Success),
    };
    let authenticator = authentication.start(&config, reach, &metrics)?;
    announce(&listeners, &config)?;
    let limits = Limits { authenticator, sources: webhooks.start(&metrics), ..limits(&config, &listeners) };
    tokio::spawn(reloads.run(supervisor::reloading, supervisor::ready));
    let exit = serve_store(store, limits, metrics, listeners, async { _ = stop.await }).await?;
    info!("stopped");
    Ok(exit)
}

/// Opens the store that the configuration names.
async fn open(config: Config, metrics: Metrics) -> Result<Backend, Failure> {
    if !config.is_local() {
        return database_store::open(&config, metrics).await.map(Box::new).map(Backend::Postgres);
    }
    let opening = tokio::task::spawn_blocking(move || {
        let local = Local::open(&local_store::options(&config), local_store::seams(metrics));
        local.map(Box::new).map(Backend::Local).map_err(unopened)
    });
    match opening.await {
        Ok(opened) => opened,
        Err(fault) => Err(Failure::new(Exit::StoreFailed, format!("opening the store failed: {fault}"))),
    }
}

/// What the configuration sets of requests.
fn limits(config: &Config, listeners: &Listeners) -> Limits {
    Limits {
        body_bytes_max: config.body_bytes_max,
        batch_events_max: config.batch_events_max,
        inflight_bytes_max: config.inflight_bytes_max,
        connections_max: config.connections_max,
        keep_alive_seconds: config.keep_alive_seconds,
        peer_requests_per_second: Some(config.peer_requests_per_second).filter(|bound| *bound > 0),
        has_proxy_heads: config.proxy_protocol,
        trusted_proxies: config.trusted_proxy.clone(),
        access: Access {
            hosts: config.allowed_host.clone(),
            origins: config.cors_origin.clone(),
            is_any_address: listeners.addresses().any(|(_, address)| address.is_unspecified()),
        },
        ..Limits::default()
    }
}

/// Serves until told to stop or the store fails; then closes the store.
async fn serve_store(
    store: Backend,
    limits: Limits,
    metrics: Metrics,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<Exit, Failure> {
    let store = Arc::new(store);
    let shutdown = async {
        shutdown.await;
        supervisor::stopping();
    };
    let serving =
        server::run(Arc::clone(&store), limits, Arc::new(SystemClock), metrics, listeners, shutdown);
    // Clients that come before the listeners are looked at wait in the kernel's queue.
    supervisor::ready();
    tokio::select! {
        () = supervisor::watch(Arc::clone(&store)) => {}
        served = serving => served.map_err(|e| Failure::new(Exit::Listen, format!("serving failed: {e}")))?,
        // What is under way is answered before the process ends.
        failure = answer_then(store.failed()) => return Err(Failure::new(Exit::StoreFailed, failure.to_string())),
    }
    let closing = tokio::task::spawn_blocking({
        let store = Arc::clone(&store);
        move || store.close()
    });
    let closed = tokio::select! {
        closed = closing => closed,
        failure = store.failed() => return Err(Failure::new(Exit::StoreFailed, failure.to_string())),
    };
    match closed {
        Ok(closed) => closed.map(|()| Exit::Success).map_err(Failure::from),
        Err(fault) => Err(Failure::new(Exit::StoreFailed, format!("closing the store failed: {fault}"))),
    }
}

/// Gives the answers to what was under way a moment to leave.
async fn answer_then(failed: impl Future<Output = sekali::error::Error>) -> sekali::error::Error {
    let failure = failed.await;
    tokio::time::sleep(FAREWELL).await;
    failure
}

/// A store that can't be opened; if it is damaged, with what can be done about it.
fn unopened(e: Error) -> Failure {
    match e.kind() {
        ErrorKind::Corrupt => {
            let help = "restore a copy of the data directory; `sekali verify` lists all damage, `sekali repair` what it would cost to go on without";
            Failure::new(Exit::Damaged, format_args!("{e}; {help}"))
        }
        _ => e.into(),
    }
}

/// Raises the soft limit of open files, often 1,024, to the hard one: each connection is a file.
/// How many there may be: with more, a store that can't open its files would have to stop.
fn allow_files(connections_max: usize, has_operators: bool) -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    // A refusal leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(files.saturating_sub(STORE_FILES)).unwrap_or(usize::MAX);
    let operators =
        if has_operators { OPS_CONNECTIONS_MAX + server::reserved(OPS_CONNECTIONS_MAX) } else { 0 };
    let room = room.saturating_sub(server::reserved(room) + operators).max(1);
    if room < connections_max {
        warn!(
            files,
            connections_max = room,
            "the limit of open files (ulimit -n) allows no more connections"
        );
    }
    room.min(connections_max)
}

/// Without a date for its answers, hyper ends each connection of HTTP/1.1 with a panic.
fn check_clock(clock: &dyn Clock) -> Result<(), Failure> {
    let now = clock.now();
    match now.has_http_date() {
        true => Ok(()),
        false => {
            let sentence = format!("the clock shows {now}, for which HTTP has no date: set it");
            Err(Failure::new(Exit::StoreFailed, sentence))
        }
    }
}

/// What TLS needs, if it is to be spoken.
fn tls(config: &Config, reloads: &Reloads) -> Result<Option<Tls>, Failure> {
    let named = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
    let (Some(cert), Some(key)) = (named(&config.tls_cert), named(&config.tls_key)) else { return Ok(None) };
    let (client_ca, client_crl) = (named(&config.tls_client_ca), named(&config.tls_client_crl));
    let tls = Tls::load(TlsFiles { cert, key, client_ca, client_crl }, reloads);
    tls.map(Some).map_err(|e| Failure::new(Exit::Configuration, e))
}

async fn listen(config: &Config) -> Result<Listeners, Failure> {
    let unusable = |e| Failure::new(Exit::Listen, format!("cannot listen on what systemd passes: {e}"));
    let (main, operators) = match supervisor::inherited().map_err(unusable)? {
        Some(Listeners { main, operators, .. }) => (main, operators),
        None => (listen_at(&config.listen, config).await?, None),
    };
    // Without it, the metrics would be at the main address.
    let operators = match (operators, &config.ops_listen) {
        (None, Some(at)) => Some(listen_at(at, config).await?),
        (passed, _) => passed,
    };
    Ok(Listeners { main, operators, tls: None })
}

async fn listen_at(at: &Address, config: &Config) -> Result<Listener, Failure> {
    server::bind(at, config.listen_mode).await.map_err(|e| {
        let sentence = match e.kind() {
            std::io::ErrorKind::AddrInUse => format!("cannot listen on {at}: another process does"),
            _ => format!("cannot listen on {at}: {e}"),
        };
        Failure::new(Exit::Listen, sentence)
    })
}

fn announce(listeners: &Listeners, config: &Config) -> Result<(), Failure> {
    let address = |listener: &Listener| {
        let unknown = |e| Failure::new(Exit::Listen, format!("cannot tell where it listens: {e}"));
        listener.address().map_err(unknown)
    };
    let addr = address(&listeners.main)?;
    if config.cors_origin.contains(&AllowedOrigin::Any) {
        warn!("every page that a browser of this network shows can read and write: cors_origin is *");
    }
    if let Some(operators) = &listeners.operators {
        let ops_addr = address(operators)?;
        info!(%ops_addr, "health and metrics are at {}", url(&ops_addr, "http"));
    }
    let (data_dir, version) = (config.data_dir.display(), env!("CARGO_PKG_VERSION"));
    let scheme = if listeners.tls.is_some() { "https" } else { "http" };
    let at = url(&addr, scheme);
    let databases: Vec<String> = config.groups().iter().map(|group| group.store.to_string()).collect();
    match config.is_local() {
        true => info!(%addr, version, %data_dir, workers = config.workers, "listening on {at}"),
        false => info!(%addr, version, store = databases.join(" "), "listening on {at}"),
    }
    Ok(())
}

fn url(address: &Address, scheme: &str) -> String {
    match address {
        Address::Tcp(address) => format!("{scheme}://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

/// A setting with a slip in its name would have no effect, and nobody would know.
fn name_unknown_variables() {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    for sentence in unknown_variables(variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        warn!("{sentence}");
    }
}

/// Resolves at the first SIGTERM or SIGINT. The second ends the process at once, as the shell would
/// show it.
fn stop_signal() -> Result<oneshot::Receiver<()>, Failure> {
    let hook = |kind| signal(kind).map_err(|e| no_signals(&e));
    let mut terminate = hook(SignalKind::terminate())?;
    let mut interrupt = hook(SignalKind::interrupt())?;
    let (first, stop) = oneshot::channel();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await.0;
        info!(signal = name, "stopping; a second signal stops at once");
        // Nobody waits if the server has ended by itself.
        let _ = first.send(());
        let (name, number) = next(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "stopped at once");
        logging::settle();
        std::process::exit(128 + number);
    });
    Ok(stop)
}

fn no_signals(fault: &std::io::Error) -> Failure {
    Failure::new(Exit::StoreFailed, format!("cannot wait for signals: {fault}"))
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
    }
}
