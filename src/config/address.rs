//! An address to listen at, in the forms that people write.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// An address with a port: `127.0.0.1:8080`, `localhost:8080`, `:8080`, `8080`.
///
/// A port without a host is one of the loopback address. Whoever wants to be reached from outside
/// has to say so, as there is no authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl From<Address> for SocketAddr {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `parse` would take a sign.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port: Option<u16> = port.and_then(|port| port.parse().ok());
        let form = "use an address and a port such as 127.0.0.1:8080, localhost:8080 or 8080";
        // An IPv6 address needs its brackets: without them nobody knows where the port begins.
        let Some(port) = port.filter(|_| !host.contains([':', '[', ']', '/', '@'])) else {
            return Err(form.to_owned());
        };
        if host.is_empty() || is_localhost(host) {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        let found =
            (host, port).to_socket_addrs().map_err(|e| format!("no address of {host}: {e}; {form}"))?;
        let found: Vec<SocketAddr> = found.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().map(Self).ok_or_else(|| format!("{host} has no address; {form}"))
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
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"127.0.0.1:8080\", or a port")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, port: i64) -> Result<Address, E> {
                port.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Signed(port), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
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
            assert_eq!(
                SocketAddr::from(text.parse::<Address>().unwrap()),
                address.parse().unwrap(),
                "{text}"
            );
        }
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
