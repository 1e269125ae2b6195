//! Serves one connection: tells which protocol its client speaks, and has hyper drive it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use hyper::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, ReadBuf};

use super::activity::{Activity, Command, Phase};
use super::connection_io::ConnectionIo;
use super::proxy_head::{Proxied, read_head};
use super::streams::{Paced, Streams};
use super::tls::{self, Secured, TlsAcceptor};
use super::transport::{Carrier, Progress, Socket, Transport};
use crate::http::{Connection, Door, IsStream, IsTail, Limits, Service};
use crate::limits::{
    HEAD_BYTES_MAX, PING_SECONDS, STREAM_WINDOW_BYTES_MAX, STREAM_WINDOW_BYTES_MIN, STREAM_WINDOWS_BYTES,
    STREAMS_MAX, STREAMS_RESET_MAX,
};
use crate::metrics::{Metrics, RouteLabel};
use crate::store::EventStore;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Host<S> {
    pub(super) service: Service<S>,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    /// Connections with HTTP/2; each holds one more reference.
    pub(super) http2: Arc<()>,
}

/// What a client with prior knowledge of HTTP/2 sends first, and no HTTP/1 request can.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Serves a connection until it ends, or its activity is told to; with TLS if there is an acceptor.
pub(super) async fn serve<S: EventStore>(
    socket: Socket,
    client: Connection,
    acceptor: Option<Arc<TlsAcceptor>>,
    host: Arc<Host<S>>,
    activity: Arc<Activity>,
) {
    let mut stream = Progress::new(socket, Arc::clone(&activity));
    let client = match host.limits.has_proxy_heads && client.door() != Door::Operators {
        true => proxied(&mut stream, client, &activity).await,
        false => Some(client),
    };
    let Some(client) = client else { return };
    let Some(acceptor) = acceptor else {
        return serve_http(Carrier::Plain(stream), None, Arc::new(client), host, activity).await;
    };
    activity.enter(Phase::Handshake);
    let peer = client.peer();
    match acceptor.accept(stream, &activity).await {
        Ok(Some(Secured { stream, certificate, connected: _connected, is_http2 })) => {
            activity.enter(Phase::First);
            let client = Arc::new(client.encrypted(certificate));
            serve_http(Carrier::Tls(Box::new(stream)), is_http2, client, host, activity).await;
        }
        Ok(None) => host.metrics.answered(RouteLabel::NONE, StatusCode::BAD_REQUEST, Duration::ZERO),
        Err(e) => {
            if let Some(why) = tls::refused_certificate(&e) {
                host.service.note_refused_certificate(peer, why);
            }
            tracing::debug!(error = %e, "a connection has no TLS");
        }
    }
}

/// Serves HTTP; the client may have said of which version.
async fn serve_http<S: EventStore>(
    mut stream: impl Transport,
    is_http2: Option<bool>,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    activity: Arc<Activity>,
) {
    let early = match is_http2 {
        Some(_) => BytesMut::new(),
        None => match first_bytes(&mut stream, &activity).await {
            Ok(early) => early,
            Err(_) => return,
        },
    };
    let is_http2 = is_http2.unwrap_or(early.starts_with(PREFACE));
    let stream = ConnectionIo::new(
        stream,
        early,
        is_http2,
        Arc::clone(&client),
        Arc::clone(&activity),
        host.metrics.clone(),
    );
    let ended = if is_http2 {
        serve_http2(stream, client, host, activity).await
    } else {
        serve_http1(stream, client, host, activity).await
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

/// The connection that a proxy takes from its client, as the PROXY head before all else says;
/// `None` if there is no such head.
async fn proxied(
    stream: &mut (impl AsyncRead + Unpin),
    connection: Connection,
    activity: &Activity,
) -> Option<Connection> {
    match activity.unless_told(read_head(stream)).await.and_then(|read| read) {
        Ok(Proxied::Itself) => Some(connection),
        Ok(Proxied::For(peer, local)) => {
            activity.comes_from(peer.into());
            Some(connection.proxied(peer, local))
        }
        Err(error) => {
            tracing::debug!(peer = %connection.peer(), %error, "a connection of a proxy is closed");
            None
        }
    }
}

/// The first bytes, as many as tell which protocol the client speaks.
///
/// # Errors
/// The connection ends before.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin), activity: &Activity) -> io::Result<BytesMut> {
    let mut early = BytesMut::new();
    while early.len() < PREFACE.len() && PREFACE.starts_with(&early) {
        let mut bytes = [0; PREFACE.len()];
        let mut buf = ReadBuf::new(&mut bytes[early.len()..]);
        let read = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf));
        activity.unless_told(read).await??;
        if buf.filled().is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        early.extend_from_slice(buf.filled());
        activity.enter(Phase::Head);
    }
    Ok(early)
}

/// Drives a connection until it ends, or is told to. hyper's two types of connection have no trait
/// in common.
macro_rules! drive {
    ($connection:expr, $activity:expr) => {{
        let (mut connection, mut drains) = (pin!($connection), false);
        std::future::poll_fn(|cx| {
            match $activity.poll_command(cx) {
                Command::Stay => {}
                Command::Drain if drains => {}
                Command::Drain => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                Command::End | Command::Reset => return Poll::Ready(Ok(())),
            }
            connection.as_mut().poll(cx)
        })
        .await
    }};
}

async fn serve_http1<S: EventStore>(
    stream: ConnectionIo<impl Transport>,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    activity: Arc<Activity>,
) -> hyper::Result<()> {
    let answer = service_fn(|request| {
        let (host, client, activity) = (Arc::clone(&host), Arc::clone(&client), Arc::clone(&activity));
        async move {
            let answer = host.service.answer(request, &client).await;
            let has_made = answer.as_ref().ok().map(hyper::Response::extensions);
            activity.set_tail(has_made.is_some_and(|made| made.get::<IsTail>().is_some()));
            activity.set_stream(has_made.is_some_and(|made| made.get::<IsStream>().is_some()));
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // A client that has sent all it has may close its side, and still wants its answers.
        .half_close(true)
        // The limit of connections has the timeouts.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX);
    drive!(builder.serve_connection(TokioIo::new(stream), answer), activity)
}

async fn serve_http2<S: EventStore>(
    stream: ConnectionIo<impl Transport>,
    client: Arc<Connection>,
    host: Arc<Host<S>>,
    activity: Arc<Activity>,
) -> hyper::Result<()> {
    let streams = Streams::new(Arc::clone(&activity), host.limits.stall_seconds);
    let answer = service_fn(|request| {
        let (host, client, flow) = (Arc::clone(&host), Arc::clone(&client), streams.begin());
        async move {
            let answer = host.service.answer(request, &client).await;
            answer.map(|answer| answer.map(|body| Paced::new(body, flow)))
        }
    });
    let counted = Arc::clone(&host.http2);
    let window = window(Arc::strong_count(&counted) - 1);
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .initial_connection_window_size(window)
        .initial_stream_window_size(window)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_RESET_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(PING_SECONDS));
    drive!(builder.serve_connection(TokioIo::new(stream), answer), activity)
}

/// Bytes that the client of one of so many HTTP/2 connections may send before they are wanted.
fn window(connections: usize) -> u32 {
    (STREAM_WINDOWS_BYTES / connections.max(1)).clamp(STREAM_WINDOW_BYTES_MIN, STREAM_WINDOW_BYTES_MAX) as u32
}
