//! Whom quotas are counted for. Knows no HTTP.

use crate::peer::Peer;

/// Whom what a request takes is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaKey {
    /// A client that is known by its address or user alone.
    Peer(Peer),
    /// A client that has shown a token or a certificate, by the number of that.
    Grant(u64),
}

impl From<Peer> for QuotaKey {
    fn from(peer: Peer) -> Self {
        Self::Peer(peer.network())
    }
}
