//! TLS, between the network and HTTP.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | what is read from disk: a certificate with its key, and who vouches for clients |
//! | `clients.rs` | clients that have shown certificates, and are ended when these no longer hold |
//! | `certificate.rs` | what a certificate says: whose it is, and until when |
//! | `renewal.rs` | reads the files again when they change |

mod certificate;
mod clients;
mod files;
mod renewal;

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::Acceptor as Hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::files::{TlsError, TlsFiles};
pub use self::renewal::Tls;

use self::certificate::client_certificate;
use self::clients::{Clients, Connected};
use self::files::Loaded;
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
    loaded: RwLock<Arc<Loaded>>,
    clients: Arc<Clients>,
    /// To sign is what a handshake takes most time for, and a client gets it for a few bytes. So
    /// some threads are left for requests, however many clients connect at once.
    signing: Semaphore,
}

/// A connection whose handshake is done.
pub(super) struct Secured {
    pub(super) stream: TlsStream<Progress<Socket>>,
    /// The client's certificate, which was verified, if it has sent one.
    pub(super) certificate: Option<ClientCertificate>,
    /// Kept as long as the connection, if there is one.
    pub(super) connected: Option<Connected>,
    /// Whether the client speaks HTTP/2, if it said by ALPN what it speaks.
    pub(super) is_http2: Option<bool>,
}

impl TlsAcceptor {
    pub(super) fn new(loaded: Arc<Loaded>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let signing = Semaphore::new((cores / 2).clamp(1, HANDSHAKES_MAX));
        Self { loaded: RwLock::new(loaded), clients: Arc::default(), signing }
    }

    /// Has connections from now on use what was loaded. Those that are open stay as they are, but
    /// for [`Clients::verify`].
    fn replace(&self, loaded: Arc<Loaded>) {
        *self.loaded.write() = loaded;
    }

    /// Does the handshake. `Ok(None)` if the client speaks plain HTTP, and was told.
    ///
    /// # Errors
    /// The handshake has failed, or the connection was told to end.
    pub(super) async fn accept(
        &self,
        mut stream: Progress<Socket>,
        activity: &Arc<Activity>,
    ) -> io::Result<Option<Secured>> {
        if activity.unless_told(is_plain_http(&stream)).await?? {
            tracing::debug!("a client speaks plain HTTP to a port for TLS");
            activity.unless_told(stream.write_all(plain_http().as_bytes())).await??;
            linger(stream, activity).await;
            return Ok(None);
        }
        let loaded = Arc::clone(&self.loaded.read());
        let stream = match self.shake_hands(stream, &loaded.config, activity).await {
            Ok(stream) => stream,
            Err((e, stream)) => {
                if let Some(stream) = stream {
                    linger(stream, activity).await;
                }
                return Err(e);
            }
        };
        let (_, tls) = stream.get_ref();
        let chain = tls.peer_certificates().unwrap_or_default();
        let certificate = match chain.first() {
            Some(certificate) => Some(client_certificate(certificate).map_err(io::Error::other)?),
            None => None,
        };
        let expires = certificate.as_ref().map(|certificate| certificate.expires);
        let connected = expires.map(|expires| self.clients.connect(chain, expires, activity));
        // Of a change before it was watched, nobody else would tell it.
        let now = Arc::clone(&self.loaded.read());
        if let Some((own, others)) = chain.split_first()
            && let Some(verifier) = now.verifier.as_ref().filter(|_| !Arc::ptr_eq(&loaded, &now))
        {
            verifier.verify_client_cert(own, others, UnixTime::now()).map_err(io::Error::other)?;
        }
        let is_http2 = tls.alpn_protocol().map(|protocol| protocol == HTTP_2);
        Ok(Some(Secured { stream, certificate, connected, is_http2 }))
    }

    /// The handshake itself. What it failed on is given back with the stream, over which the client
    /// was told.
    async fn shake_hands(
        &self,
        stream: Progress<Socket>,
        config: &Arc<ServerConfig>,
        activity: &Activity,
    ) -> Result<TlsStream<Progress<Socket>>, (io::Error, Option<Progress<Socket>>)> {
        let gone = |e: io::Error| (e, None);
        let mut hello = LazyConfigAcceptor::new(Hello::default(), stream);
        let hello = match activity.unless_told(&mut hello).await.map_err(gone)? {
            Ok(hello) => hello,
            Err(e) => return Err((e, hello.take_io())),
        };
        let permit = self.signing.acquire().await.map_err(|e| gone(io::Error::other(e)))?;
        // This signs, at once.
        let rest =
            hello.into_stream_with(Arc::clone(config), |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        drop(permit);
        let done = activity.unless_told(rest.into_fallible()).await.map_err(gone)?;
        done.map_err(|(e, stream)| (e, Some(stream)))
    }
}

/// Why a handshake has failed, if the client's certificate does not hold.
pub(super) fn refused_certificate(error: &io::Error) -> Option<&rustls::Error> {
    let error = error.get_ref()?.downcast_ref()?;
    matches!(error, rustls::Error::InvalidCertificate(_)).then_some(error)
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
