//! Accepts connections, serves them, and drains them on a stop.
//!
//! | file | what |
//! |---|---|
//! | `places.rs` | which connections there may be, and when each is ended |
//! | `seat.rs` | what is known of one connection |
//! | `wire.rs` | its stream, which notes that |
//! | `framing.rs` | where HTTP/1's messages end, and which are refused before hyper reads them |
//! | `streams.rs` | HTTP/2's streams, each of which may stand still by itself |

mod framing;
mod places;
mod seat;
mod streams;
mod wire;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use self::places::reserved;

use self::places::Places;
use self::seat::{Order, Phase, Seat, TICK};
use self::streams::{Paced, Streams};
use self::wire::{Transport, Wire};
use crate::clock::Clock;
use crate::http::{Connection, IsStream, IsTail, Limits, Service};
use crate::limits::{DRAIN_SECONDS, HEAD_BYTES_MAX, PING_SECONDS, STREAMS_MAX, STREAMS_RESET_MAX};
use crate::metrics::Metrics;
use crate::store::EventStore;
use crate::turnstile::Turnstile;

/// Pause after an `accept` that failed for lack of files or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Ticks between two times that the metrics are tidied up.
const UPKEEP_TICKS: u32 = 20;

/// What all connections share.
#[derive(Debug)]
struct Host<S> {
    service: Service<S>,
    metrics: Metrics,
    limits: Limits,
}

/// Serves `store` on `listener` until `shutdown`; then takes no more connections, finishes the requests under way
/// within a bounded time, and returns.
///
/// # Errors
/// None that is not passing: a listener that fails is tried again.
pub async fn run<S: EventStore>(
    store: Arc<S>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let service = Service::new(store, limits.clone(), Arc::clone(&clock), metrics.clone());
    let host = Arc::new(Host { service, metrics, limits });
    let tails = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.service.lead_tails().await }
    });
    let (mut places, turnstile) = (Places::new(host.limits.clone()), Turnstile::new());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut ticks = tokio::time::interval(TICK);
    // A process that stood still has not given its clients less time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until_upkeep = 0;
    // Who was accepted, and has no place yet.
    let mut newcomer: Option<(TcpStream, Connection)> = None;
    loop {
        if let Some((stream, connection)) = newcomer.take() {
            match places.take(connection.peer()) {
                Some(seat) => {
                    if seat.is_reserved
                        && let Some(left_out) = turnstile.pass(("places", 0), clock.monotonic())
                    {
                        let connections_max = host.limits.connections_max;
                        tracing::warn!(
                            connections_max,
                            left_out,
                            "all places of connections are taken and busy; a new one is only told the service's state"
                        );
                    }
                    let connection = Arc::new(connection.reserved(seat.is_reserved));
                    let serving = serve(stream, connection, Arc::clone(&host), Arc::clone(&seat));
                    places.sit(connections.spawn(serving).id(), seat);
                }
                // Until a connection ends, or the next tick shows one that may go.
                None => newcomer = Some((stream, connection)),
            }
        }
        host.metrics.connections(places.len());
        let accepted = async {
            let (stream, peer) = listener.accept().await?;
            let local = stream.local_addr()?;
            Ok((stream, Connection::new(peer, local)))
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = ticks.tick() => {
                places.tick();
                until_upkeep = (until_upkeep + 1) % UPKEEP_TICKS;
                if until_upkeep == 0 {
                    host.metrics.upkeep();
                }
            }
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => places.leave(task(&ended)),
            accepted = accepted, if newcomer.is_none() => match accepted {
                Ok(accepted) => newcomer = Some(accepted),
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
    places.drain();
    tails.abort();
    host.service.end_tails();
    let drained = async {
        while !connections.is_empty() {
            tokio::select! {
                _ = ticks.tick() => places.tick(),
                Some(ended) = connections.join_next_with_id() => places.leave(task(&ended)),
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

/// What a client with prior knowledge of HTTP/2 sends first, and no HTTP/1 request can.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

async fn serve<S: EventStore>(
    mut stream: TcpStream,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    seat: Arc<Seat>,
) {
    // Without it, answers wait for the client's acknowledgements; a refusal only makes it slower.
    let _ = stream.set_nodelay(true);
    let Some(early) = first_bytes(&mut stream, &seat).await else { return };
    let is_http2 = early.starts_with(PREFACE);
    let wire = Wire::new(stream, early, is_http2, Arc::clone(&seat), host.metrics.clone());
    let ended = if is_http2 {
        serve_http2(wire, client, host, seat).await
    } else {
        serve_http1(wire, client, host, seat).await
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

/// As many bytes as tell which protocol the client speaks; `None` if the connection is over before.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin), seat: &Seat) -> Option<BytesMut> {
    let mut early = BytesMut::new();
    while early.len() < PREFACE.len() && PREFACE.starts_with(&early) {
        let mut bytes = [0; PREFACE.len()];
        let mut buf = ReadBuf::new(&mut bytes[early.len()..]);
        let read = std::future::poll_fn(|cx| match seat.poll_order(cx) {
            Order::Stay => std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buf),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        });
        read.await.ok()?;
        if buf.filled().is_empty() {
            return None;
        }
        early.extend_from_slice(buf.filled());
        seat.enter(Phase::Head);
    }
    Some(early)
}

/// Drives a connection until it ends, or is told to. Two types of connection have no trait in common.
macro_rules! drive {
    ($connection:expr, $seat:expr) => {{
        let (mut connection, mut drains) = (pin!($connection), false);
        std::future::poll_fn(|cx| {
            match $seat.poll_order(cx) {
                Order::Stay => {}
                Order::Drain if drains => {}
                Order::Drain => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                Order::End | Order::Reset => return Poll::Ready(Ok(())),
            }
            connection.as_mut().poll(cx)
        })
        .await
    }};
}

async fn serve_http1<S: EventStore>(
    wire: Wire<impl Transport>,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    seat: Arc<Seat>,
) -> hyper::Result<()> {
    let answer = service_fn(|request| {
        let (host, client, seat) = (Arc::clone(&host), Arc::clone(&client), Arc::clone(&seat));
        async move {
            let answer = host.service.answer(request, &client).await;
            let has_made = answer.as_ref().ok().map(hyper::Response::extensions);
            seat.set_tail(has_made.is_some_and(|made| made.get::<IsTail>().is_some()));
            seat.set_stream(has_made.is_some_and(|made| made.get::<IsStream>().is_some()));
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // A client that has sent all it has may close its side, and still wants its answers.
        .half_close(true)
        // The connection's place knows how long it waits for what.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX);
    drive!(builder.serve_connection(TokioIo::new(wire), answer), seat)
}

async fn serve_http2<S: EventStore>(
    wire: Wire<impl Transport>,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    seat: Arc<Seat>,
) -> hyper::Result<()> {
    let streams = Streams::new(Arc::clone(&seat), host.limits.stall_seconds);
    let answer = service_fn(|request| {
        let (host, client, flow) = (Arc::clone(&host), Arc::clone(&client), streams.begin());
        async move {
            let answer = host.service.answer(request, &client).await;
            answer.map(|answer| answer.map(|body| Paced::new(body, flow)))
        }
    });
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_RESET_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(PING_SECONDS));
    drive!(builder.serve_connection(TokioIo::new(wire), answer), seat)
}

/// Whether only the connection to be accepted has failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
