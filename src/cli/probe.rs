//! One GET of a small answer, blocking, with deadlines: all that `health` and `bench` need besides load.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The base URL of a service: `http://host[:port]`.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As it stands in a `Host` header.
    pub(super) host: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("use http://host:port (TLS is not spoken here)")?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty()
            || host.contains(|c: char| "/?#@".contains(c) || c.is_whitespace() || c.is_control())
        {
            return Err("use http://host:port, without a path".to_owned());
        }
        Ok(Self { host: host.to_owned() })
    }
}

impl Target {
    /// The service that listens on `listen`, seen from the same machine.
    pub(super) fn local(mut listen: SocketAddr) -> Self {
        if listen.ip().is_unspecified() {
            let loopback =
                if listen.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            listen.set_ip(loopback);
        }
        Self { host: listen.to_string() }
    }

    /// Opens a connection to the first address that answers.
    pub(super) fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let has_port = self.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let addresses = match has_port {
            true => self.host.to_socket_addrs()?,
            false => format!("{}:80", self.host).to_socket_addrs()?,
        };
        let mut fault = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    /// Status and body of `GET path`. `timeout` bounds the connection and each wait for more.
    pub(super) fn get(&self, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
        let mut stream = self.connect(timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        // HTTP/1.0: the body is whole when the connection ends, and never chunked.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host)?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "no answer in time"),
            _ => e,
        })?;
        let malformed = || io::Error::new(ErrorKind::InvalidData, "the answer is not HTTP");
        let status =
            answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|s| s.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
        Ok((status.ok_or_else(malformed)?, body.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        let host = |listen: &str| Target::local(listen.parse().unwrap()).host;
        assert_eq!(host("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(host("[::]:80"), "[::1]:80");
        assert_eq!(host("10.1.2.3:80"), "10.1.2.3:80");
    }

    #[test]
    fn only_a_plain_base_url_is_a_target() {
        for good in ["http://localhost:8080", "http://h/", "http://[::1]:1"] {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in
            ["https://h", "localhost:8080", "http://", "http://h/path", "http://a b", "http://h\r\nX: y"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
