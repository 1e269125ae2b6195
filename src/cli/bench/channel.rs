//! The bytes of a connection to the service, encrypted or not, without ever blocking.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::cli::client::target::Endpoint;

/// A socket that does not block, or TLS over one.
#[derive(Debug)]
pub(super) enum Channel {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Channel {
    /// Connects. The handshake of TLS is done with the first bytes.
    pub(super) fn open(endpoint: &Endpoint, timeout: Duration) -> io::Result<Self> {
        let stream = endpoint.target.connect(timeout)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let Some(trust) = &endpoint.trust else { return Ok(Self::Plain(stream)) };
        let name = ServerName::try_from(endpoint.target.name.clone()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(trust.for_rustls(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, stream))))
    }

    /// What to wait for before it goes on with what `flags` say.
    pub(super) fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        match self {
            Self::Plain(stream) => PollFd::new(stream, flags),
            Self::Tls(stream) if stream.conn.is_handshaking() && !stream.conn.wants_write() => {
                PollFd::new(&stream.sock, PollFlags::IN)
            }
            Self::Tls(stream) => PollFd::new(&stream.sock, flags),
        }
    }
}

impl Read for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
