//! Takes connections from one listener, gives each a permit, and drains them on a stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::activity::TICK;
use super::connection_limit::ConnectionLimit;
use super::listener::Listener;
use super::serve::{Host, serve};
use super::tls::TlsAcceptor;
use super::transport::Socket;
use crate::clock::Clock;
use crate::http::{Connection, Door, Limits};
use crate::limits::{DRAIN_SECONDS, OPS_CONNECTIONS_MAX};
use crate::store::EventStore;
use crate::turnstile::Turnstile;

/// Pause after an `accept` that failed for lack of files or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Ticks between two times that the metrics are tidied up.
const UPKEEP_TICKS: u32 = 20;

/// What serves the connections of one listener. Each listener has permits of its own, so that
/// one whose permits are all taken keeps nobody from the other.
#[derive(Debug)]
pub(super) struct Acceptor<S> {
    host: Arc<Host<S>>,
    clock: Arc<dyn Clock>,
    listener: Listener,
    door: Door,
    tls: Option<Arc<TlsAcceptor>>,
    limit: ConnectionLimit,
    connections: JoinSet<()>,
    turnstile: Turnstile,
}

impl<S: EventStore> Acceptor<S> {
    pub(super) fn new(host: &Arc<Host<S>>, clock: &Arc<dyn Clock>, listener: Listener, door: Door) -> Self {
        let limits = match door {
            Door::All | Door::Public => host.limits.clone(),
            Door::Operators => Limits { connections_max: OPS_CONNECTIONS_MAX, ..host.limits.clone() },
        };
        let (host, clock, limit) = (Arc::clone(host), Arc::clone(clock), ConnectionLimit::new(limits));
        let (connections, turnstile) = (JoinSet::new(), Turnstile::new());
        Self { host, clock, listener, door, tls: None, limit, connections, turnstile }
    }

    /// The same, which speaks TLS if it is given what that needs.
    pub(super) fn with_tls(self, tls: Option<Arc<TlsAcceptor>>) -> Self {
        Self { tls, ..self }
    }

    /// Serves until `stopping` is closed; then takes no more connections, and finishes the requests
    /// under way within a bounded time.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<()>) {
        let mut ticks = tokio::time::interval(TICK);
        // A process that stood still has not given its clients less time.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until_upkeep = 0;
        // A connection that was accepted, and has no permit yet.
        let mut unserved: Option<(Socket, Connection)> = None;
        loop {
            if let Some((socket, connection)) = unserved.take() {
                unserved = self.admit(socket, connection);
            }
            tokio::select! {
                _ = stopping.changed() => break,
                _ = ticks.tick() => {
                    self.limit.tick();
                    until_upkeep = (until_upkeep + 1) % UPKEEP_TICKS;
                    if until_upkeep == 0 {
                        self.host.metrics.upkeep();
                    }
                }
                Some(ended) = self.connections.join_next_with_id(), if !self.connections.is_empty() => {
                    self.release(&ended);
                }
                accepted = self.listener.accept(), if unserved.is_none() => match accepted {
                    Ok((socket, connection)) if self.is_welcome(&connection) => {
                        unserved = Some((socket, connection.at(self.door)));
                    }
                    Ok(_) => {}
                    Err(e) if is_of_one_connection(&e) => {}
                    Err(e) => {
                        if let Some(left_out) = self.turnstile.pass(("accept", 0), self.clock.monotonic()) {
                            tracing::warn!(error = %e, left_out, "cannot accept connections for the moment");
                        }
                        tokio::time::sleep(BACK_OFF).await;
                    }
                },
            }
        }
        let Self { host, listener, mut limit, mut connections, .. } = self;
        drop(listener);
        limit.drain();
        let drained = async {
            while !connections.is_empty() {
                tokio::select! {
                    _ = ticks.tick() => limit.tick(),
                    Some(ended) = connections.join_next_with_id() => {
                        limit.release(task(&ended));
                        host.metrics.connection_ended();
                    }
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS), drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "stopping although requests are under way");
            connections.abort_all();
        }
    }

    /// Whether a connection may say anything: where each has a PROXY head, those of trusted proxies
    /// may. The operators' listener takes no such heads.
    fn is_welcome(&self, connection: &Connection) -> bool {
        let Limits { has_proxy_heads, .. } = self.host.limits;
        let peer = connection.peer();
        if !has_proxy_heads || self.door == Door::Operators || self.host.limits.trusts(peer) {
            return true;
        }
        if let Some(left_out) = self.turnstile.pass(("proxy", 0), self.clock.monotonic()) {
            let message = "a connection that is not of a trusted_proxy is closed, as proxy_protocol is on";
            tracing::warn!(%peer, left_out, "{message}");
        }
        false
    }

    /// Serves a connection, or gives it back if there is no permit until another one ends, or the
    /// next tick shows one that may go.
    fn admit(&mut self, socket: Socket, connection: Connection) -> Option<(Socket, Connection)> {
        let Some(activity) = self.limit.assign(connection.peer()) else { return Some((socket, connection)) };
        if activity.is_reserved
            && let Some(left_out) = self.turnstile.pass(("permits", 0), self.clock.monotonic())
        {
            let connections_max = self.host.limits.connections_max;
            tracing::warn!(
                connections_max,
                left_out,
                "all places of connections are taken and busy; a new one is only told the service's state"
            );
        }
        let connection = connection.reserved(activity.is_reserved);
        let serving =
            serve(socket, connection, self.tls.clone(), Arc::clone(&self.host), Arc::clone(&activity));
        self.limit.occupy(self.connections.spawn(serving).id(), activity);
        self.host.metrics.connection_begun();
        None
    }

    fn release(&mut self, ended: &Result<(Id, ()), JoinError>) {
        self.limit.release(task(ended));
        self.host.metrics.connection_ended();
    }
}

/// The task that has ended, whatever ended it.
fn task(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((task, ())) => *task,
        Err(e) => e.id(),
    }
}

/// Whether only the connection to be accepted has failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
