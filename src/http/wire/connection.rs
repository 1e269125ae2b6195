//! The connection that a request came by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::peer::Peer;

/// What is known of a connection; all its requests share it.
#[derive(Debug)]
pub struct Connection {
    /// Where it comes from.
    peer: Peer,
    /// The address of this machine that it was made to.
    local: IpAddr,
    /// Its number in this process.
    number: u64,
    /// Bytes of its answers that wait to be read; changed by `answer_budget.rs` alone.
    pub(crate) answer_bytes: AtomicUsize,
    /// All other slots are taken, so this connection is told only how the service is.
    is_reserved: bool,
}

/// Connections that there were.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Connection {
    /// A connection from `peer` to `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            peer: peer.ip().into(),
            local: local.ip().to_canonical(),
            number,
            answer_bytes: AtomicUsize::default(),
            is_reserved: false,
        }
    }

    /// The same connection, with a reserved slot if `is_reserved`.
    pub fn reserved(self, is_reserved: bool) -> Self {
        Self { is_reserved, ..self }
    }

    /// Whether only the state of the service is told.
    pub fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// A connection within this process, which has no address of its own.
    pub fn within_process() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::new(address, address)
    }

    /// Tells it from all others.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The other side: a client, or a proxy that may name one in each request.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address of this machine that the peer connected to.
    pub fn local(&self) -> IpAddr {
        self.local
    }
}
