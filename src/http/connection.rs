//! The connection that a request came by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is known of a connection; all its requests share it.
#[derive(Debug)]
pub struct Connection {
    /// The address that it comes from.
    peer: SocketAddr,
    /// The address of this machine that it was made to.
    local: SocketAddr,
}

impl Connection {
    /// A connection from `peer` to `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer, local }
    }

    /// A connection within this process, which has no address of its own.
    pub fn within_process() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::new(address, address)
    }

    /// The address of whoever sends.
    pub fn peer(&self) -> IpAddr {
        self.peer.ip()
    }

    /// The address and port of this machine that the peer connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}
