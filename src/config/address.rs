//! An address to listen at, in the forms that people write.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// Longest path of a Unix socket: what Linux has room for, with a zero at its end.
const PATH_BYTES_MAX: usize = 107;

/// Where to listen: an address with a port (`127.0.0.1:8080`, `localhost:8080`, `:8080`, `8080`),
/// or the path of a Unix socket (`unix:/run/sekali.sock`).
///
/// A port without a host is one of the loopback address. Whoever wants to be reached from outside
/// has to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether it stands for every address of this machine.
    pub fn is_unspecified(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.ip().is_unspecified())
    }

    /// Whether it is reached from this machine alone.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalAddress(Option<Address>);

impl From<OptionalAddress> for Option<Address> {
    fn from(address: OptionalAddress) -> Self {
        address.0
    }
}

impl FromStr for OptionalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|address| Self(Some(address))) }
    }
}

impl<'de> Deserialize<'de> for OptionalAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialized(deserializer)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let is_fit =
                Path::new(path).is_absolute() && path.len() <= PATH_BYTES_MAX && !path.contains('\0');
            let form = || format!("use unix: and an absolute path of at most {PATH_BYTES_MAX} bytes");
            return is_fit.then(|| Self::Unix(path.into())).ok_or_else(form);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `parse` would take a sign.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port: Option<u16> = port.and_then(|port| port.parse().ok());
        let form = "use an address and a port such as 127.0.0.1:8080, localhost:8080 or 8080, or unix:/path";
        // An IPv6 address needs its brackets: without them nobody knows where the port begins.
        let Some(port) = port.filter(|_| !host.contains([':', '[', ']', '/', '@'])) else {
            return Err(form.to_owned());
        };
        if host.is_empty() || is_localhost(host) {
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        let found =
            (host, port).to_socket_addrs().map_err(|e| format!("no address of {host}: {e}; {form}"))?;
        let found: Vec<SocketAddr> = found.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().map(Self::Tcp).ok_or_else(|| format!("{host} has no address; {form}"))
    }
}

/// Whether the name stands for this machine by RFC 6761, whatever a resolver says.
pub fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The address at which a service that listens at `listen` is reached from the same machine.
pub fn from_here(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let loopback = match listen {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        listen.set_ip(loopback);
    }
    listen
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialized(deserializer)
    }
}

/// What text says, or a port alone.
fn deserialized<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(std::marker::PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address such as \"127.0.0.1:8080\", or a port")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, port: i64) -> Result<T, E> {
            port.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Signed(port), &self))
        }
    }
    deserializer.deserialize_any(Text(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_in_every_form_that_people_write() {
        for (text, address) in [
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("[::1]:80", "[::1]:80"),
            (":8080", "127.0.0.1:8080"),
            ("22001", "127.0.0.1:22001"),
            ("0", "127.0.0.1:0"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LOCALHOST:8080", "127.0.0.1:8080"),
            ("inbox.localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:1", "0.0.0.0:1"),
        ] {
            assert_eq!(text.parse(), Ok(Address::Tcp(address.parse().unwrap())), "{text}");
        }
        assert_eq!("unix:/run/a b".parse(), Ok(Address::Unix("/run/a b".into())));
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            ":",
            "localhost",
            "localhost:",
            ":65536",
            "::1:80",
            "::1",
            "http://h:1",
            "-1",
            "+80",
            "a b:1",
            "unix:",
            "unix:run/x",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        let here = |listen: &str| from_here(listen.parse().unwrap()).to_string();
        assert_eq!(here("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(here("[::]:80"), "[::1]:80");
        assert_eq!(here("10.1.2.3:80"), "10.1.2.3:80");
    }
}
