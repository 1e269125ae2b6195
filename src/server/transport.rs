//! What carries the bytes of a connection: TCP, or later TLS over it.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What carries a connection: the network, or what encrypts it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Has the end of the connection drop what the other side has not taken.
    fn reset_at_end(&self);

    /// An error that the network has told of since it was asked last: a reset, above all.
    fn failure(&self) -> Option<io::Error>;
}

impl Transport for TcpStream {
    fn reset_at_end(&self) {
        // If that fails, the kernel gives up by itself some minutes later.
        let _ = self.set_zero_linger();
    }

    fn failure(&self) -> Option<io::Error> {
        self.take_error().ok().flatten()
    }
}
