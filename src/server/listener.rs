//! Where connections come from: the one place that knows TCP and Unix sockets.

use std::io;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use super::socket_file::SocketFile;
use super::tls::Tls;
use super::transport::Socket;
use crate::config::address::Address;
use crate::http::Connection;
use crate::peer::Peer;

/// What connections come to.
#[derive(Debug)]
pub enum Listener {
    /// An address and a port.
    Tcp(TcpListener),
    /// A Unix socket, and its file if it is this process's own.
    Unix(UnixListener, Option<SocketFile>),
}

/// The listeners of a service.
#[derive(Debug)]
pub struct Listeners {
    /// That for all.
    pub main: Listener,
    /// That which tells only how the service is, and has the metrics to itself.
    pub operators: Option<Listener>,
    /// What is spoken at the main one: TLS, or HTTP as it is.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self { main: Listener::Tcp(listener), operators: None, tls: None }
    }
}

impl Listeners {
    /// Where they listen, each by its setting, as far as the system says.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, Address)> {
        let all = [("listen", Some(&self.main)), ("ops_listen", self.operators.as_ref())];
        all.into_iter().filter_map(|(setting, listener)| Some((setting, listener?.address().ok()?)))
    }
}

impl Listener {
    /// Where it listens, as a person would write it.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener, _) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                Ok(Address::Unix(path.unwrap_or_default()))
            }
        }
    }

    /// The next connection, and between whom it is.
    ///
    /// # Errors
    /// The listener or the connection has failed.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Connection)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr()?;
                // Without it, answers wait for the client's acknowledgements; a refusal only makes
                // it slower.
                let _ = stream.set_nodelay(true);
                Ok((Socket::Tcp(stream), Connection::new(peer, local)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
                tracing::debug!(uid, gid, pid, "a connection by the Unix socket");
                Ok((Socket::Unix(stream), Connection::within_machine(Peer::User(uid))))
            }
        }
    }
}
