//! The connection that a request came by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::peer::Peer;

/// What a client's certificate says. Whoever vouches for clients has signed it, and has not revoked
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject alternative names, each with its kind: `dns:…`, `uri:…` (a SPIFFE id is one), or
    /// `email:…`, `ip:…`.
    pub names: Vec<String>,
    /// When it ceases to be valid, which may be before the connection ends.
    pub expires: Timestamp,
}

/// What a connection may ask for, by the listener that it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Everything.
    #[default]
    All,
    /// Everything but the metrics, which another listener has to itself.
    Public,
    /// How the service is, and nothing else.
    Operators,
}

/// What is known of a connection; all its requests share it.
#[derive(Debug)]
pub struct Connection {
    /// Where it comes from.
    peer: Peer,
    /// The address of this machine that it was made to, if it has one.
    local: Option<IpAddr>,
    door: Door,
    /// Its number in this process.
    number: u64,
    /// Bytes of its answers that wait to be read; changed by `answer_budget.rs` alone.
    pub(crate) answer_bytes: AtomicUsize,
    is_encrypted: bool,
    /// That of the client, which it need not have.
    certificate: Option<ClientCertificate>,
    /// All other permits are taken, so this connection is told only how the service is.
    is_reserved: bool,
    /// A request waits, and is to end if the client closes its side.
    is_watched: AtomicBool,
    has_closed: Notify,
}

/// Says while it is there that a request waits.
struct Watch<'a>(&'a AtomicBool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Connections that there were.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Connection {
    /// A connection from `peer` to `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { local: Some(local.ip().to_canonical()), ..Self::within_machine(peer.ip().into()) }
    }

    /// A connection from `peer` by a Unix socket.
    pub fn within_machine(peer: Peer) -> Self {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let answer_bytes = AtomicUsize::default();
        Self {
            peer,
            local: None,
            door: Door::All,
            number,
            answer_bytes,
            is_encrypted: false,
            certificate: None,
            is_reserved: false,
            is_watched: AtomicBool::default(),
            has_closed: Notify::new(),
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

    /// The same connection, which came to the listener of this door.
    pub fn at(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// The same connection, of a client at `peer` that a proxy takes it from, and that connected to
    /// `local`.
    pub fn proxied(self, peer: IpAddr, local: IpAddr) -> Self {
        Self { peer: peer.into(), local: Some(local.to_canonical()), ..self }
    }

    /// What it may ask for.
    pub fn door(&self) -> Door {
        self.door
    }

    /// The same connection, with a reserved permit if `is_reserved`.
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

    /// Waits until the client closes its side of an HTTP/1 connection, which is looked for
    /// meanwhile. Over HTTP/2 requests of a client that goes are dropped.
    pub(crate) async fn closed(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
        let _watch = Watch(&self.is_watched);
        self.has_closed.notified().await;
    }

    /// Whether somebody waits to be told that the client has closed its side.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// The client has closed its side. A request that comes after that finds it out at once, too.
    pub(crate) fn note_closed(&self) {
        self.has_closed.notify_one();
    }

    /// Tells it from all others.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The other side: a client, or a proxy that may name one in each request.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address of this machine that the peer connected to; a Unix socket has none.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }
}
