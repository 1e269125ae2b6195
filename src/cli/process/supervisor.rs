//! What systemd gives a service and wants to be told: sockets that it listens on already
//! (sd_listen_fds(3)), and the state of the service (sd_notify(3)). Without systemd nothing of this
//! happens.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use sekali::server::{Listener, Listeners};
use sekali::store::EventStore;
use tracing::warn;

/// What a socket is called (`FileDescriptorName=`) that is for those who operate the service.
const OPERATORS: &str = "ops";

/// The sockets that systemd listens on for this process; `None` if there are none.
///
/// # Errors
/// They are not those of a service: one for all, and one called `ops` at most.
pub(crate) fn inherited() -> io::Result<Option<Listeners>> {
    let mut sockets = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let (mut main, mut operators) = (None, None);
    for at in 0..sockets.len() {
        let place = if names.next() == Some(OPERATORS) { &mut operators } else { &mut main };
        if place.replace(taken(&mut sockets, at)?).is_some() {
            let why = "systemd passes several sockets: one is enough, and another one may be called ops";
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
    }
    match (main, operators) {
        (Some(main), operators) => Ok(Some(Listeners { main, operators, tls: None })),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let why = "systemd passes a socket that is called ops, and none for all others";
            Err(io::Error::new(ErrorKind::InvalidInput, why))
        }
    }
}

fn taken(sockets: &mut ListenFd, at: usize) -> io::Result<Listener> {
    // What is no Unix socket is left where it is.
    if let Ok(Some(listener)) = sockets.take_unix_listener(at) {
        listener.set_nonblocking(true)?;
        return Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?, None));
    }
    let listener = sockets.take_tcp_listener(at)?.ok_or(ErrorKind::NotFound)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(tokio::net::TcpListener::from_std(listener)?))
}

/// Says that the service serves from now on, by all that its files had when it was told to read
/// them.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the service reads its files again. The time is for systemd to tell one reload from
/// another.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd cannot be told that files are read again"),
    }
}

/// Says that the service stops.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says as often as systemd wants to hear it that the store answers; never returns. A store that
/// refuses everything, as on a full disk, answers; a restart would mend only one that is silent.
pub(crate) async fn watch(store: Arc<impl EventStore>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut times = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    loop {
        times.tick().await;
        // The way to a worker and back, whether such an event is there or not.
        let _ = store.find("watchdog", "watchdog", |_| Ok(())).await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be told the state of the service");
    }
}
