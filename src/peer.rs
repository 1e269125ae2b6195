//! Where requests come from: an address or a user of this machine, and which of them are proxies
//! that may name another.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::authority::as_text;

/// The other side of a connection, or the client that a proxy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An address; one of IPv4 is never in the form of IPv6.
    Address(IpAddr),
    /// A program on this machine that uses a Unix socket, by the id of its user.
    User(u32),
}

impl Peer {
    /// What is counted as one peer: a host may have as many addresses of its IPv6 network as it
    /// likes.
    #[must_use]
    pub fn network(self) -> Self {
        match self {
            Self::Address(IpAddr::V6(address)) => {
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()
            }
            other => other,
        }
    }
}

impl<A: Into<IpAddr>> From<A> for Peer {
    fn from(address: A) -> Self {
        Self::Address(address.into().to_canonical())
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// Proxies that are believed when they name the client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TrustedProxy {
    /// Those with an address in this network.
    Network(IpNet),
    /// All programs that use the Unix socket.
    Unix,
}

impl TrustedProxy {
    /// Whether `peer` is one of these proxies.
    pub fn contains(&self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Network(network), Peer::Address(address)) => network.contains(&address),
            (Self::Unix, Peer::User(_)) => true,
            _ => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let one = |_| text.parse::<IpAddr>().map(|address| address.to_canonical().into());
        let network: IpNet = text.parse().or_else(one).map_err(|_| {
            "use an address such as 10.0.0.7, a network such as 10.0.0.0/8 or fd00::/8, or unix".to_owned()
        })?;
        if network.prefix_len() == 0 {
            return Err(
                "this trusts everyone, so that every client may name any address as its own: use the \
                        addresses of the proxies alone"
                    .to_owned(),
            );
        }
        Ok(Self::Network(network.trunc()))
    }
}

impl Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

as_text!(TrustedProxy);

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let network = |text: &str| peer(text).network();
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
        assert_eq!(Peer::User(7).network(), Peer::User(7));
    }

    #[test]
    fn proxies_are_addresses_networks_or_the_unix_socket() {
        let contains = |proxy: &str, peer| proxy.parse::<TrustedProxy>().unwrap().contains(peer);
        for (proxy, text, expected) in [
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("::ffff:10.0.0.7", "10.0.0.7", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("unix", "127.0.0.1", false),
        ] {
            assert_eq!(contains(proxy, peer(text)), expected, "{proxy} {text}");
        }
        assert!(contains("unix", Peer::User(0)) && !contains("127.0.0.0/8", Peer::User(0)));
        for bad in ["", "*", "10.0.0.0/33", "10.0.0", "0.0.0.0/0", "::/0", "proxy.example", "10.0.0.1:80"] {
            assert!(bad.parse::<TrustedProxy>().is_err(), "{bad}");
        }
        for (text, kept) in [("10.1.2.3/8", "10.0.0.0/8"), ("10.0.0.7/32", "10.0.0.7"), ("unix", "unix")] {
            assert_eq!(text.parse::<TrustedProxy>().map(|proxy| proxy.to_string()), Ok(kept.to_owned()));
        }
    }
}
