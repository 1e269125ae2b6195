//! Where a client command finds the service, and what it shows there.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};
use sekali::config::address::{Address, from_here, is_localhost};
use sekali::config::{Config, Layer};
use ureq::http::HeaderValue;

use super::credential::Credential;
use super::trust::{Trust, TrustFiles};
use crate::cli::config::ConfigFile;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::output::say;

/// What an address may look like, in a sentence.
const FORM: &str =
    "use http://host:port, https://host:port, host:port or a port of this machine, without a path";
/// What is said of a URL with a user. The URL itself is not shown: it may have a password or a token.
const USER: &str = "a URL of a service has neither a user nor a password: name a token with --token-file or SEKALI_TOKEN_FILE";
/// The ports of URLs that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A service: `http://host[:port]`, `https://host[:port]`, or `host:port` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it stands in a `Host` header.
    pub(crate) host: String,
    /// The host alone, without the brackets of an IPv6 address.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// TLS is spoken with it.
    pub(crate) is_tls: bool,
    /// The value of the header that shows a token to it.
    pub(crate) authorization: Option<HeaderValue>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, scheme) = match text.split_once("://") {
            Some((scheme, rest)) => (rest, Some(scheme.to_ascii_lowercase())),
            None => (text, None),
        };
        let (has_scheme, is_tls) = match scheme.as_deref() {
            Some("https") => (true, true),
            Some("http") => (true, false),
            Some(_) => return Err(FORM.to_owned()),
            None => (false, false),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains('@') {
            return Err(USER.to_owned());
        }
        // A port alone, as `--listen` takes it.
        if !has_scheme && let Ok(port) = host.strip_prefix(':').unwrap_or(host).parse::<u16>() {
            return Ok(Self::at(SocketAddr::from(([127, 0, 0, 1], port)), false));
        }
        let authority: ureq::http::uri::Authority = host.parse().map_err(|_| FORM.to_owned())?;
        let (name, port) = (authority.host(), authority.port_u16());
        let has_port = authority.port().is_some() || host.len() > name.len();
        if name.is_empty() || (has_port && port.is_none()) || (!has_scheme && !has_port) {
            return Err(FORM.to_owned());
        }
        let port_or_default = port.unwrap_or(if is_tls { HTTPS_PORT } else { HTTP_PORT });
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Err(_) if let Some(address) = numeral(bare) => {
                Ok(Self::at((address, port_or_default).into(), is_tls))
            }
            // All addresses of a machine are none that can be asked for.
            Ok(address) if address.is_unspecified() => {
                Ok(Self::at((address, port_or_default).into(), is_tls))
            }
            _ => Ok(Self {
                host: host.to_owned(),
                name: bare.to_owned(),
                port: port_or_default,
                is_tls,
                authorization: None,
            }),
        }
    }
}

/// Reads an argument, of which an error would show the value.
#[derive(Clone)]
struct UrlParser;

impl TypedValueParser for UrlParser {
    type Value = Target;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Target, clap::Error> {
        match value.to_string_lossy().contains('@') {
            true => Err(clap::Error::raw(ErrorKind::ValueValidation, format!("{USER}\n")).with_cmd(command)),
            false => Target::from_str.parse_ref(command, argument, value),
        }
    }
}

impl Target {
    /// The service that listens on `listen`, seen from the same machine.
    pub(crate) fn at(listen: SocketAddr, is_tls: bool) -> Self {
        let here = from_here(listen);
        Self {
            host: here.to_string(),
            name: here.ip().to_string(),
            port: here.port(),
            is_tls,
            authorization: None,
        }
    }

    /// Its URL, without a path.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.host)
    }

    /// Whether it is this machine, by its name or one of its addresses.
    pub(crate) fn is_this_machine(&self) -> bool {
        let is_loopback = |address: IpAddr| match address {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => {
                address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
            }
        };
        // Only an address of one's own can be bound.
        let is_own = |address: IpAddr| is_loopback(address) || UdpSocket::bind((address, 0)).is_ok();
        is_localhost(&self.name) || self.name.parse().is_ok_and(is_own)
    }

    /// Opens a connection to the first address that answers.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let mut fault = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (self.name.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }
}

/// An address in a shorter or another form, as resolvers and browsers read it: `127.1`,
/// `0x7f000001`. The last number stands for all bytes that are left.
fn numeral(name: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.starts_with('0') && text.len() > 1 => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    };
    let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let numbers = name.split('.').map(|text| number(text).filter(|_| is_number(text)));
    let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    let (last, first) = numbers.split_last().filter(|(_, first)| first.len() < 4)?;
    let bits = 32 - 8 * first.len();
    if first.iter().any(|byte| *byte > 255) || u64::from(*last) >> bits != 0 {
        return None;
    }
    let high = first.iter().zip([24, 16, 8]).fold(0, |sum, (byte, shift)| sum | byte << shift);
    Some(Ipv4Addr::from_bits(high | last))
}

/// A service, and whom to believe that it is the one.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) target: Target,
    /// Only where TLS is spoken.
    pub(crate) trust: Option<Trust>,
}

/// The arguments that say where the service is, and whom to believe that.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ServiceUrl {
    /// The service: http://host:port, https://host:port, host:port, or a port of this machine
    /// [default: where `sekali serve` listens by the same environment] [env: SEKALI_URL]
    #[arg(long, value_parser = UrlParser)]
    url: Option<Target>,
    #[command(flatten)]
    trust: TrustFiles,
    #[command(flatten)]
    credential: Credential,
}

impl ServiceUrl {
    /// The Unix socket of the service, if no other one was named and it listens at one.
    pub(crate) fn unix_socket(&self, file: ConfigFile) -> Result<Option<PathBuf>, Failure> {
        let is_named =
            self.url.is_some() || std::env::var_os("SEKALI_URL").is_some_and(|text| !text.is_empty());
        match (is_named, file.resolve(Layer::default())) {
            (false, Ok(Config { listen: Address::Unix(path), .. })) => Ok(Some(path)),
            (false, Err(fault)) => Err(fault),
            _ => Ok(None),
        }
    }

    /// The service that was named, or the one that `sekali serve` would be.
    pub(crate) fn endpoint(self) -> Result<Endpoint, Failure> {
        self.endpoint_or(ConfigFile::default())
    }

    /// The same, with the configuration file that was named.
    pub(crate) fn endpoint_or(mut self, file: ConfigFile) -> Result<Endpoint, Failure> {
        let target = named(self.url.take(), file)?;
        self.with(target)
    }

    /// What is needed to reach `target`.
    pub(crate) fn with(self, target: Target) -> Result<Endpoint, Failure> {
        let trust = target.is_tls.then(|| self.trust.load()).transpose()?;
        let target = Target { authorization: self.credential.header()?, ..target };
        if target.authorization.is_some() && !target.is_tls && !target.is_this_machine() {
            let url = target.url();
            say(format_args!("the token is readable on the way to {url}: use https://"));
        }
        Ok(Endpoint { target, trust })
    }
}

/// The service that a URL names; without one the environment or the configuration does.
fn named(url: Option<Target>, file: ConfigFile) -> Result<Target, Failure> {
    let unusable = |why: String| Failure::new(Exit::Configuration, why);
    if let Some(target) = url {
        return Ok(target);
    }
    if let Some(text) = std::env::var_os("SEKALI_URL").filter(|text| !text.is_empty()) {
        let text = text.to_string_lossy();
        let shown = if text.contains('@') { String::new() } else { format!(" is {text:?}") };
        return text.parse().map_err(|why| unusable(format!("SEKALI_URL{shown}: {why}")));
    }
    let config = file.resolve(Layer::default())?;
    let is_tls = !config.tls_cert.as_os_str().is_empty();
    let why = match config.listen {
        Address::Tcp(listen) if listen.port() != 0 => return Ok(Target::at(listen, is_tls)),
        Address::Tcp(_) => {
            "by the configuration the service takes a free port: name it with --url or SEKALI_URL"
        }
        Address::Unix(_) => {
            "by the configuration the service listens at a Unix socket, which of all commands `health` alone can \
             use: have it listen at an address, or ask with curl --unix-socket"
        }
    };
    Err(unusable(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_base_url_or_a_host_with_a_port_or_a_port() {
        for (text, host, name, port) in [
            ("https://h", "h", "h", 443),
            ("HTTPS://[::1]:1/", "[::1]:1", "::1", 1),
            ("https://0.0.0.0:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("http://localhost:8080", "localhost:8080", "localhost", 8080),
            ("HTTP://h/", "h", "h", 80),
            ("http://[::1]:1", "[::1]:1", "::1", 1),
            ("http://[::1]", "[::1]", "::1", 80),
            ("127.0.0.1:22000", "127.0.0.1:22000", "127.0.0.1", 22000),
            ("localhost:22000/", "localhost:22000", "localhost", 22000),
            (":22000", "127.0.0.1:22000", "127.0.0.1", 22000),
            ("22000", "127.0.0.1:22000", "127.0.0.1", 22000),
            ("http://0.0.0.0:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("[::]:7", "[::1]:7", "::1", 7),
            ("http://127.1:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("0x7f000001:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("2130706433:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("0177.0.0x1:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("10.1.2:7", "10.1.0.2:7", "10.1.0.2", 7),
            ("0:7", "127.0.0.1:7", "127.0.0.1", 7),
            ("1.2.3.256:7", "1.2.3.256:7", "1.2.3.256", 7),
            ("127.a:7", "127.a:7", "127.a", 7),
        ] {
            let is_tls = text.to_ascii_lowercase().starts_with("https");
            let (host, name) = (host.to_owned(), name.to_owned());
            let expected = Target { host, name, port, is_tls, authorization: None };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "https://",
            "https://h/path",
            "ftp://h:1",
            "localhost",
            "http://",
            "http:///",
            "http://h/path",
            "http://h?x",
            "http://a b",
            "http://h:",
            "http://h:99999",
            "http://h:x",
            "http://u:p@h:1",
            "::1:80",
            "99999",
            "http://h\r\nX: y",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        for text in [
            "localhost:1",
            "LOCALHOST:1",
            "localhost.:1",
            "a.b.localhost:1",
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "0.0.0.0:1",
        ] {
            assert!(text.parse::<Target>().unwrap().is_this_machine(), "{text}");
        }
        for text in ["10.0.0.1:1", "localhost.example:1", "notlocalhost:1", "[2001:db8::1]:1", "128.0.0.1:1"]
        {
            assert!(!text.parse::<Target>().unwrap().is_this_machine(), "{text}");
        }
    }
}
