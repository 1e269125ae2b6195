//! Hosts and origins: for whom a request is, and which page made a browser send it.
//!
//! | where | form |
//! |---|---|
//! | `Host`, `:authority` | `name`, `name:port`, `[v6]`, `[v6]:port` |
//! | `Origin` | `scheme://` and one of these, or `null` |

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host.
const NAME_BYTES_MAX: usize = 253;

/// A host.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name, in any case, without the dot that it may end with.
    Name(&'a str),
    /// An address; one of IPv4 that was written as IPv6 is one of IPv4.
    Address(IpAddr),
}

impl<'a> Host<'a> {
    fn name_or_address(text: &'a str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = name.parse() {
            return Some(Self::Address(address));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_fit = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_name);
        is_fit.then_some(Self::Name(name))
    }

    /// Whether no other machine can be meant.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => is_below(name, "localhost"),
            Self::Address(address) => address.is_loopback(),
        }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::Address(one), Self::Address(other)) => one == other,
            _ => false,
        }
    }
}

/// Whether `name` is `domain` or lies in it.
fn is_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.as_bytes(), domain.as_bytes());
    let Some(start) = name.len().checked_sub(domain.len()) else { return false };
    name[start..].eq_ignore_ascii_case(domain) && (start == 0 || name[start - 1] == b'.')
}

/// A host and a port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if it is said.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`; `None` if it is neither, as when it names a user.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let address = Ipv6Addr::from_str(address).ok()?;
                (Host::Address(address.to_canonical()), rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Host::name_or_address(host)?, rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// The same with the port that `scheme` has where none is said.
    pub fn of_scheme(self, scheme: &str) -> Self {
        let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
        Self { port: self.port.or(Some(default)), ..self }
    }
}

/// The scheme of an origin, and its host and port; `None` if it is opaque (`null`) or no origin.
pub fn split_origin(origin: &str) -> Option<(&str, Authority<'_>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_fit = !scheme.is_empty() && scheme.bytes().all(is_scheme);
    is_fit.then_some((scheme, Authority::parse(authority)?))
}

/// A host under which the service may be asked, beside loopback and its own address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedHost {
    /// `*`: every one.
    Any,
    /// This name or address.
    This(String),
    /// `.example.org`: this domain and all names in it.
    Domain(String),
}

impl AllowedHost {
    /// Whether it stands for this machine alone.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Any => false,
            Self::This(text) => Authority::parse(text).is_some_and(|allowed| allowed.host.is_loopback()),
            Self::Domain(domain) => Host::Name(domain).is_loopback(),
        }
    }

    /// Whether it allows `host`.
    pub fn allows(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::This(text), host) => Authority::parse(text).is_some_and(|allowed| allowed.host == *host),
            (Self::Domain(domain), Host::Name(name)) => is_below(name, domain),
            (Self::Domain(_), Host::Address(_)) => false,
        }
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let domain = text.strip_prefix('.');
        // An IPv6 address may stand without its brackets here.
        let bare = Ipv6Addr::from_str(text).map(|address| format!("[{address}]"));
        let host = bare.as_deref().unwrap_or(domain.unwrap_or(text));
        match (Authority::parse(host), domain) {
            (Some(Authority { port: Some(_), .. }), _) => {
                Err("leave the port out: a host is allowed with any".to_owned())
            }
            (Some(Authority { host: Host::Name(name), .. }), Some(_)) => {
                Ok(Self::Domain(name.to_ascii_lowercase()))
            }
            (Some(_), None) => Ok(Self::This(host.to_ascii_lowercase())),
            _ => {
                Err("use a name such as sekali.example.org, a domain such as .example.org, an address, or *"
                    .to_owned())
            }
        }
    }
}

impl Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::This(host) => f.write_str(host),
            Self::Domain(domain) => write!(f, ".{domain}"),
        }
    }
}

/// An origin whose pages may ask, as browsers write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedOrigin {
    /// `*`: every one, also those that are opaque.
    Any,
    /// This one, in lower case, without the port that its scheme has anyway.
    This(String),
}

impl AllowedOrigin {
    /// Whether it allows `origin`.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::This(allowed) => allowed.eq_ignore_ascii_case(origin),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origin = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let Some((scheme, authority)) = split_origin(&origin) else {
            let fault = if text == "null" {
                "null is the origin of files and of any page that hides its own: allowing it allows all; if that is meant, use *"
            } else {
                "use scheme, host and port, such as https://app.example.org or http://localhost:3000"
            };
            return Err(fault.to_owned());
        };
        let default = match scheme {
            "http" => Some(":80"),
            "https" => Some(":443"),
            _ => None,
        };
        let short = default.filter(|_| authority.port.is_some()).and_then(|port| origin.strip_suffix(port));
        Ok(Self::This(short.unwrap_or(&origin).to_owned()))
    }
}

impl Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::This(origin) => f.write_str(origin),
        }
    }
}

/// What `serde` asks for beside `FromStr` and `Display`.
macro_rules! as_text {
    ($($kind:ty)+) => { $(
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )+ };
}

pub(crate) use as_text;

as_text!(AllowedHost AllowedOrigin);

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host<'_> {
        Authority::parse(text).unwrap().host
    }

    #[test]
    fn authorities_are_a_host_and_maybe_a_port_and_nothing_else() {
        for (text, port) in [
            ("localhost", None),
            ("LocalHost.:8080", Some(8080)),
            ("a_b-c.example", None),
            ("h:", None),
            ("[::1]:1", Some(1)),
            ("127.0.0.1:65535", Some(65_535)),
        ] {
            assert_eq!(Authority::parse(text).map(|authority| authority.port), Some(port), "{text}");
        }
        let long = "x".repeat(254);
        for text in [
            "",
            ".",
            ":80",
            "a b",
            "user@localhost",
            "127.0.0.1@evil",
            "localhost:65536",
            "localhost:+1",
            "h:8x",
            "[::1",
            "[::1]x",
            "[localhost]",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "ä",
            "a,b",
            "::1",
            &long,
        ] {
            assert!(Authority::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn loopback_has_names_and_addresses() {
        for text in [
            "localhost",
            "LOCALHOST.",
            "app.localhost",
            "127.0.0.1",
            "127.9.8.7",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(host(text).is_loopback(), "{text}");
        }
        for text in
            ["evil.example", "localhost.evil.example", "xlocalhost", "127.1", "2130706433", "0.0.0.0", "[::]"]
        {
            assert!(!host(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn allowed_hosts_are_names_domains_addresses_or_all() {
        let allows = |allowed: &str, text: &str| allowed.parse::<AllowedHost>().unwrap().allows(&host(text));
        for (allowed, text) in [
            ("sekali", "SEKALI:8080"),
            (".Example.org", "a.b.example.ORG"),
            (".example.org", "example.org"),
            ("192.0.2.1", "192.0.2.1:80"),
            ("2001:db8::1", "[2001:db8:0::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("*", "evil.example"),
        ] {
            assert!(allows(allowed, text), "{allowed} {text}");
        }
        for (allowed, text) in [
            ("sekali", "sekali.evil.example"),
            (".example.org", "badexample.org"),
            (".example.org", "192.0.2.1"),
        ] {
            assert!(!allows(allowed, text), "{allowed} {text}");
        }
        for bad in ["", "a:80", "http://a", "*.example.org", "a b", ".192.0.2.1", "a,b"] {
            assert!(bad.parse::<AllowedHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn allowed_origins_are_written_as_browsers_write_them() {
        for (text, kept) in [
            ("https://A.example", "https://a.example"),
            ("https://a.example:443/", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("chrome-extension://abc", "chrome-extension://abc"),
            ("*", "*"),
        ] {
            assert_eq!(text.parse::<AllowedOrigin>().map(|origin| origin.to_string()), Ok(kept.to_owned()));
        }
        for bad in ["", "null", "a.example", "https://", "https://a/b", "https://u@a", "//a", "https://*.a"] {
            assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad}");
        }
    }
}
