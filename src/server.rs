//! Accepts connections, serves them, and drains them on a stop.

mod head_timer;
mod peer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::head_timer::HeadTimer;
use self::peer::Peer;
use crate::clock::Clock;
use crate::http::{Connection, IsStream, IsTail, Limits, Service};
use crate::limits::{
    DRAIN_SECONDS, HEAD_BYTES_MAX, HEAD_SECONDS, KEEP_ALIVE_SECONDS, STREAMS_MAX, STREAMS_RESET_MAX,
};
use crate::metrics::Metrics;
use crate::store::EventStore;

/// Pause after an `accept` that failed for lack of files or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often the metrics are tidied up.
const UPKEEP: Duration = Duration::from_secs(5);

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
    let service = Arc::new(Service::new(store, limits, clock, metrics.clone()));
    let tails = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.lead_tails().await }
    });
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        let accepted = async {
            // Waits in the kernel's queue while all places are taken.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            let local = stream.local_addr()?;
            Ok((stream, Arc::new(Connection::new(peer, local)), place))
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = upkeep.tick() => metrics.upkeep(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => match accepted {
                Ok((stream, client, place)) => {
                    let (service, stopping) = (Arc::clone(&service), stopping.clone());
                    connections.spawn(async move {
                        serve(stream, client, service, stopping).await;
                        drop(place);
                    });
                }
                Err(e) if is_of_one_connection(&e) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept connections for the moment");
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
        }
        metrics.connections(connections.len());
    }
    drop(listener);
    // Nobody listens if there is no connection.
    let _ = stop.send(true);
    tails.abort();
    service.end_tails();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS), drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping although requests are under way");
        connections.abort_all();
    }
    Ok(())
}

/// What a client with prior knowledge of HTTP/2 sends first, and no HTTP/1 request can.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Pause before the rest of a preface is looked for.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

async fn serve<S: EventStore>(
    stream: TcpStream,
    client: Arc<Connection>,
    service: Arc<Service<S>>,
    mut stopping: watch::Receiver<bool>,
) {
    // Without it, answers wait for the client's acknowledgements; a refusal only makes it slower.
    let _ = stream.set_nodelay(true);
    let stop = async { _ = stopping.wait_for(|stop| *stop).await };
    let mut stop = std::pin::pin!(stop);
    let deadline = Duration::from_secs(HEAD_SECONDS);
    let is_http2 = tokio::select! {
        spoken = tokio::time::timeout(deadline, is_http2(&stream)) => match spoken {
            Ok(Ok(is_http2)) => is_http2,
            Ok(Err(_)) | Err(_) => return,
        },
        () = &mut stop => return,
    };
    let (is_tail, is_stream) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let stream = Peer::new(stream, Arc::clone(&is_tail), Arc::clone(&is_stream));
    let answer = service_fn(move |request| {
        let (service, client) = (Arc::clone(&service), Arc::clone(&client));
        let (is_tail, is_stream) = (Arc::clone(&is_tail), Arc::clone(&is_stream));
        async move {
            let answer = service.answer(request, &client).await;
            // HTTP/2 notices an end by itself, and has others beside a tail.
            let is_one = !is_http2
                && answer.as_ref().is_ok_and(|answer| answer.extensions().get::<IsTail>().is_some());
            is_tail.store(is_one, Ordering::Relaxed);
            let is_made = answer.as_ref().is_ok_and(|answer| answer.extensions().get::<IsStream>().is_some());
            is_stream.store(is_made, Ordering::Relaxed);
            answer
        }
    });
    // Two types of connection that have no common trait.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }};
    }
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(STREAMS_RESET_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(Duration::from_secs(KEEP_ALIVE_SECONDS));
        drive!(builder.serve_connection(stream, answer))
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(HeadTimer::new(deadline))
            // A client that has sent all it has may close its side, and still wants its answers.
            .half_close(true)
            // Also ends a connection that stays idle so long.
            .header_read_timeout(deadline)
            .max_buf_size(HEAD_BYTES_MAX);
        drive!(builder.serve_connection(stream, answer))
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

/// Whether the client begins with HTTP/2's preface. Takes nothing from the stream.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut head = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 || !PREFACE.starts_with(&head[..length]) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // What has been looked at stays readable.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Whether only the connection to be accepted has failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
