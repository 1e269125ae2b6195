//! TLS, between the network and HTTP.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | what is read from disk: a certificate with its key, and who vouches for clients |
//! | `certificate.rs` | what a certificate says: whose it is, and until when |
//! | `renewal.rs` | reads the files again when they change |

mod certificate;
mod files;
mod renewal;

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor as Hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::files::{TlsError, TlsFiles};
pub use self::renewal::Tls;

use self::certificate::client_certificate;
use super::activity::{Activity, Phase};
use super::transport::{Progress, Socket};
use crate::http::ClientCertificate;
use crate::limits::{HANDSHAKES_MAX, LINGER_BYTES_MAX, TLS_BUFFER_BYTES};
use crate::sync::RwLock;

/// What ALPN calls HTTP/2 and HTTP/1.1.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What a client is told that speaks plain HTTP.
pub const SPEAKS_TLS: &str = "this port speaks TLS: ask with https://\n";

/// Makes TLS connections of those that were accepted.
#[derive(Debug)]
pub(super) struct TlsAcceptor {
    config: RwLock<Arc<ServerConfig>>,
    /// To sign is what a handshake takes most time for, and a client gets it for a few bytes. So
    /// some threads are left for requests, however many clients connect at once.
    signing: Semaphore,
}

/// A connection whose handshake is done.
pub(super) struct Secured {
    pub(super) stream: TlsStream<Progress<Socket>>,
    /// The client's certificate, which was verified, if it has sent one.
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether the client speaks HTTP/2, if it said by ALPN what it speaks.
    pub(super) is_http2: Option<bool>,
}

impl TlsAcceptor {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let signing = Semaphore::new((cores / 2).clamp(1, HANDSHAKES_MAX));
        Self { config: RwLock::new(config), signing }
    }

    /// Has connections from now on use `config`; those that are open stay as they are.
    fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write() = config;
    }

    /// Does the handshake. `Ok(None)` if the client speaks plain HTTP, and was told.
    ///
    /// # Errors
    /// The handshake has failed, or the connection was told to end.
    pub(super) async fn accept(
        &self,
        mut stream: Progress<Socket>,
        activity: &Activity,
    ) -> io::Result<Option<Secured>> {
        if activity.unless_told(is_plain_http(&stream)).await?? {
            tracing::debug!("a client speaks plain HTTP to a port for TLS");
            activity.unless_told(stream.write_all(plain_http().as_bytes())).await??;
            linger(stream, activity).await;
            return Ok(None);
        }
        let stream = match self.shake_hands(stream, activity).await {
            Ok(stream) => stream,
            Err((e, stream)) => {
                if let Some(stream) = stream {
                    linger(stream, activity).await;
                }
                return Err(e);
            }
        };
        let (_, tls) = stream.get_ref();
        let certificate = match tls.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => Some(client_certificate(certificate).map_err(io::Error::other)?),
            None => None,
        };
        let is_http2 = tls.alpn_protocol().map(|protocol| protocol == HTTP_2);
        Ok(Some(Secured { stream, certificate, is_http2 }))
    }

    /// The handshake itself. What it failed on is given back with the stream, over which the client
    /// was told.
    async fn shake_hands(
        &self,
        stream: Progress<Socket>,
        activity: &Activity,
    ) -> Result<TlsStream<Progress<Socket>>, (io::Error, Option<Progress<Socket>>)> {
        let gone = |e: io::Error| (e, None);
        let mut hello = LazyConfigAcceptor::new(Hello::default(), stream);
        let hello = match activity.unless_told(&mut hello).await.map_err(gone)? {
            Ok(hello) => hello,
            Err(e) => return Err((e, hello.take_io())),
        };
        let config = Arc::clone(&self.config.read());
        let permit = self.signing.acquire().await.map_err(|e| gone(io::Error::other(e)))?;
        // This signs, at once.
        let rest = hello.into_stream_with(config, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        drop(permit);
        let done = activity.unless_told(rest.into_fallible()).await.map_err(gone)?;
        done.map_err(|(e, stream)| (e, Some(stream)))
    }
}

/// Whether the first byte is that of a method: TLS begins with one that is no letter. It is only
/// looked at.
async fn is_plain_http(stream: &Progress<Socket>) -> io::Result<bool> {
    let mut byte = [0];
    std::future::poll_fn(|cx| stream.get_ref().poll_peek(cx, &mut ReadBuf::new(&mut byte)).map_ok(drop))
        .await?;
    Ok(byte[0].is_ascii_uppercase())
}

/// The answer to a client that speaks plain HTTP.
fn plain_http() -> String {
    let length = SPEAKS_TLS.len();
    let fields = format!("content-type: text/plain\r\ncontent-length: {length}\r\nconnection: close");
    format!("HTTP/1.1 400 Bad Request\r\n{fields}\r\n\r\n{SPEAKS_TLS}")
}

/// Ends a connection over which the client was told something. What still comes is dropped: if the
/// connection ended with unread bytes, the client might not get to read that.
async fn linger(mut stream: Progress<Socket>, activity: &Activity) {
    activity.enter(Phase::Leaving);
    let leaving = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES_MAX as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // It ends either way.
    let _ = activity.unless_told(leaving).await;
}
