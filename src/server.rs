//! Accepts connections, serves them, and drains them on a stop.
//!
//! | file | what |
//! |---|---|
//! | `listener.rs` | where connections come from |
//! | `slots.rs` | how many connections there may be, and when each is ended |
//! | `activity.rs` | what one connection is doing, and since when |
//! | `serve.rs` | one connection, from its first byte on |
//! | `tls.rs` | the handshake that comes before, and the files that it needs |
//! | `transport.rs` | what carries its bytes |
//! | `connection_io.rs` | its bytes on their way to hyper, which keep its activity up to date |
//! | `framing.rs` | where HTTP/1's messages end, and which are refused before hyper reads them |
//! | `streams.rs` | HTTP/2's streams, each of which may stand still by itself |

mod activity;
mod connection_io;
mod framing;
mod listener;
mod serve;
mod slots;
mod streams;
mod tls;
mod transport;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use self::listener::Listener;
pub use self::slots::reserved;
pub use self::tls::{SPEAKS_TLS, Tls, TlsError, TlsFiles};

use self::activity::TICK;
use self::listener::{accept, is_of_one_connection};
use self::serve::{Host, serve};
use self::slots::Slots;
use self::tls::Acceptor;
use crate::clock::Clock;
use crate::http::{Connection, Limits, Service};
use crate::limits::DRAIN_SECONDS;
use crate::metrics::Metrics;
use crate::store::EventStore;
use crate::turnstile::Turnstile;

/// Pause after an `accept` that failed for lack of files or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Ticks between two times that the metrics are tidied up.
const UPKEEP_TICKS: u32 = 20;

/// Serves `store` on `listener` until `shutdown`; then takes no more connections, finishes the
/// requests under way within a bounded time, and returns.
///
/// # Errors
/// Never today: a listener that fails is tried again.
pub async fn run<S: EventStore>(
    store: Arc<S>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    listener: impl Into<Listener>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listener { tcp: listener, tls } = listener.into();
    let acceptor = tls.as_ref().map(|tls| Arc::new(Acceptor::new(tls.config())));
    let renewal = tls
        .zip(acceptor.clone())
        .map(|(tls, acceptor)| tokio::spawn(tls.keep(acceptor, metrics.clone(), Arc::clone(&clock))));
    let service = Service::new(store, limits.clone(), Arc::clone(&clock), metrics.clone());
    let host = Arc::new(Host { service, metrics, limits });
    let tails = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.service.lead_tails().await }
    });
    let (mut slots, turnstile) = (Slots::new(host.limits.clone()), Turnstile::new());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut ticks = tokio::time::interval(TICK);
    // A process that stood still has not given its clients less time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until_upkeep = 0;
    // A connection that was accepted, and has no slot yet.
    let mut unserved: Option<(TcpStream, Connection)> = None;
    loop {
        if let Some((stream, connection)) = unserved.take() {
            match slots.assign(connection.peer()) {
                Some(activity) => {
                    if activity.is_reserved
                        && let Some(left_out) = turnstile.pass(("slots", 0), clock.monotonic())
                    {
                        let connections_max = host.limits.connections_max;
                        tracing::warn!(
                            connections_max,
                            left_out,
                            "all places of connections are taken and busy; a new one is only told the service's state"
                        );
                    }
                    let connection = connection.reserved(activity.is_reserved);
                    let (acceptor, host) = (acceptor.clone(), Arc::clone(&host));
                    let serving = serve(stream, connection, acceptor, host, Arc::clone(&activity));
                    slots.occupy(connections.spawn(serving).id(), activity);
                }
                // Until a connection ends, or the next tick shows one that may go.
                None => unserved = Some((stream, connection)),
            }
        }
        host.metrics.connections(slots.len());
        tokio::select! {
            () = &mut shutdown => break,
            _ = ticks.tick() => {
                slots.tick();
                until_upkeep = (until_upkeep + 1) % UPKEEP_TICKS;
                if until_upkeep == 0 {
                    host.metrics.upkeep();
                }
            }
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => slots.release(task(&ended)),
            accepted = accept(&listener), if unserved.is_none() => match accepted {
                Ok(accepted) => unserved = Some(accepted),
                Err(e) if is_of_one_connection(&e) => {}
                Err(e) => {
                    if let Some(left_out) = turnstile.pass(("accept", 0), clock.monotonic()) {
                        tracing::warn!(error = %e, left_out, "cannot accept connections for the moment");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
        }
    }
    drop(listener);
    slots.drain();
    tails.abort();
    if let Some(renewal) = renewal {
        renewal.abort();
    }
    host.service.end_tails();
    let drained = async {
        while !connections.is_empty() {
            tokio::select! {
                _ = ticks.tick() => slots.tick(),
                Some(ended) = connections.join_next_with_id() => slots.release(task(&ended)),
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS), drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping although requests are under way");
        connections.abort_all();
    }
    Ok(())
}

/// The task that has ended, whatever ended it.
fn task(ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>) -> tokio::task::Id {
    match ended {
        Ok((task, ())) => *task,
        Err(e) => e.id(),
    }
}
