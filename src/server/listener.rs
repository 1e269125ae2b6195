//! Where connections come from.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use super::tls::Tls;
use crate::http::Connection;

/// Where connections come from, and whether they are encrypted.
#[derive(Debug)]
pub struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<Tls>,
}

impl Listener {
    /// Takes connections from `tcp`, with TLS if there is any.
    pub fn new(tcp: TcpListener, tls: Option<Tls>) -> Self {
        Self { tcp, tls }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, None)
    }
}

/// The next connection, and between which addresses it is.
///
/// # Errors
/// The listener or the connection has failed; [`is_of_one_connection`] says which.
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Connection)> {
    let (stream, peer) = listener.accept().await?;
    let local = stream.local_addr()?;
    // Without it, answers wait for the client's acknowledgements; a refusal only makes it slower.
    let _ = stream.set_nodelay(true);
    Ok((stream, Connection::new(peer, local)))
}

/// Whether only the connection to be accepted has failed.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
