//! The connection that a request came by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::clock::Timestamp;
use crate::peer::Peer;

/// What a client's certificate says. Whoever vouches for clients has signed it, and has not revoked
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject alternative names, each with its kind: `dns:…`, `uri:…` (a SPIFFE id is one), or
    /// `email:…`.
    pub names: Vec<String>,
    /// When it ceases to be valid, which may be before the connection ends.
    pub expires: Timestamp,
}

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
    is_encrypted: bool,
    /// That of the client, which it need not have.
    certificate: Option<ClientCertificate>,
    /// All other slots are taken, so this connection is told only how the service is.
    is_reserved: bool,
}

/// Connections that there were.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Connection {
    /// A connection from `peer` to `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let answer_bytes = AtomicUsize::default();
        Self {
            peer: peer.ip().into(),
            local: local.ip().to_canonical(),
            number,
            answer_bytes,
            is_encrypted: false,
            certificate: None,
            is_reserved: false,
        }
    }

    /// The same connection, over which TLS is spoken by a client that has shown `certificate`.
    pub fn encrypted(self, certificate: Option<ClientCertificate>) -> Self {
        Self { is_encrypted: true, certificate, ..self }
    }

    /// The scheme of the URLs that lead here.
    pub fn scheme(&self) -> &'static str {
        if self.is_encrypted { "https" } else { "http" }
    }

    /// The certificate of the client, which was verified.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
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
