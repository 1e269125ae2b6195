//! Which proxy a service is reached through: by the same variables, and the same rules, as curl.
//!
//! | variable | rule |
//! |---|---|
//! | `http_proxy` | It names the proxy for `http://`. In capitals it is not read: CGI sets that from a request's header. |
//! | `https_proxy`, `HTTPS_PROXY` | They name the proxy for `https://`. |
//! | `all_proxy`, `ALL_PROXY` | They name the proxy of whatever has no variable of its own. |
//! | `no_proxy`, `NO_PROXY` | They name what is reached without a proxy. |
//!
//! This machine is never reached through a proxy: which one would lead back here?

use std::fmt;
use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};

use super::target::Target;

/// Variables that name a proxy for `http://`; the first that is set counts.
const PROXIES: [&str; 3] = ["http_proxy", "all_proxy", "ALL_PROXY"];
/// The same for `https://`.
const PROXIES_OF_TLS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Variables that name what is reached without one.
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A proxy, and the variable that named it.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pub(crate) proxy: Proxy,
    variable: &'static str,
}

impl fmt::Display for Via {
    /// Without a password that the variable may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = &self.proxy;
        let scheme = proxy.uri().scheme_str().unwrap_or("http");
        write!(f, "the proxy {scheme}://{}:{} of {}", proxy.host(), proxy.port(), self.variable)
    }
}

/// The proxy through which `target` is reached; `None` if it is reached directly.
pub(crate) fn of(target: &Target, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Via>, String> {
    let first = |names: &'static [&'static str]| {
        let set = |name: &'static str| Some((name, variable(name).filter(|value| !value.is_empty())?));
        names.iter().copied().find_map(set)
    };
    if target.is_this_machine() {
        return Ok(None);
    }
    let named = if target.is_tls { first(&PROXIES_OF_TLS) } else { first(&PROXIES) };
    let Some((name, value)) = named else { return Ok(None) };
    if first(&EXCEPTIONS).is_some_and(|(_, list)| is_exception(&list, target)) {
        return Ok(None);
    }
    // The value may hold a password, so it isn't shown.
    match Proxy::new(value.trim()) {
        Ok(proxy) if proxy.protocol() != ProxyProtocol::Https => Ok(Some(Via { proxy, variable: name })),
        Ok(_) => Err(format!(
            "the proxy of {name} speaks TLS itself, which is not spoken with proxies: unset {name}, or name an http:// or socks5:// one"
        )),
        Err(_) => Err(format!("{name} names no proxy such as http://host:port: mend it, or unset it")),
    }
}

/// Whether a list, separated by commas or blanks, names the target.
fn is_exception(list: &str, target: &Target) -> bool {
    list.split([',', ' ', '\t']).any(|entry| matches(entry, target))
}

/// `*` is everything; an address or a network (`10.0.0.0/8`) the addresses in it; a name itself and
/// all below it, with or without a leading dot. A port after it narrows it to that port.
fn matches(entry: &str, target: &Target) -> bool {
    if entry == "*" {
        return true;
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
    if let Ok(address) = target.name.parse::<IpAddr>() {
        return match entry.split_once('/') {
            Some((network, bits)) => {
                bare(network).parse().is_ok_and(|network| is_within(address, network, bits))
            }
            None if bare(entry).parse() == Ok(address) => true,
            None => without_port(entry, target.port).is_some_and(|host| bare(host).parse() == Ok(address)),
        };
    }
    let host = match entry.contains(':') {
        true => without_port(entry, target.port),
        false => Some(entry),
    };
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let Some(domain) = host.map(|host| plain(host.strip_prefix('.').unwrap_or(host))) else { return false };
    let name = plain(&target.name);
    !domain.is_empty()
        && (name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.')))
}

/// The host of `host:port`, if that is the port.
fn without_port(entry: &str, port: u16) -> Option<&str> {
    let (host, of) = entry.rsplit_once(':')?;
    (of.parse() == Ok(port)).then_some(host)
}

fn is_within(address: IpAddr, network: IpAddr, bits: &str) -> bool {
    // The first bits of two numbers of `width` bits are the same.
    let same = |one: u128, other: u128, width: u32| {
        bits.parse()
            .is_ok_and(|bits: u32| bits <= width && (one ^ other).checked_shr(width - bits).unwrap_or(0) == 0)
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn via(target: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        of(&target.parse().unwrap(), variable).map(|via| via.map(|via| via.to_string()))
    }

    #[test]
    fn a_proxy_is_named_by_its_own_variable_or_that_for_all_and_never_by_one_of_another_scheme() {
        let proxied = |variables: &[(&str, &str)]| via("http://far.example:1", variables).unwrap();
        for (variables, told) in [
            (&[("http_proxy", "http://p:3128")][..], Some("the proxy http://p:3128 of http_proxy")),
            (&[("http_proxy", "user:secret@p:3128")], Some("the proxy http://p:3128 of http_proxy")),
            (&[("ALL_PROXY", "socks5://p")], Some("the proxy socks5://p:1080 of ALL_PROXY")),
            (
                &[("all_proxy", "http://a:1"), ("http_proxy", "http://h:1")],
                Some("the proxy http://h:1 of http_proxy"),
            ),
            (&[("http_proxy", ""), ("all_proxy", "http://a:1")], Some("the proxy http://a:1 of all_proxy")),
            (&[("HTTP_PROXY", "http://p:3128")], None),
            (&[("HTTPS_PROXY", "http://p:3128"), ("https_proxy", "http://p:3128")], None),
        ] {
            assert_eq!(proxied(variables).as_deref(), told, "{variables:?}");
        }
        let secured = |variables: &[(&str, &str)]| via("https://far.example:1", variables).unwrap();
        for (variables, told) in [
            (&[("https_proxy", "http://p:1")][..], Some("the proxy http://p:1 of https_proxy")),
            (&[("HTTPS_PROXY", "http://p:1")], Some("the proxy http://p:1 of HTTPS_PROXY")),
            (&[("all_proxy", "http://a:1")], Some("the proxy http://a:1 of all_proxy")),
            (&[("http_proxy", "http://p:1")], None),
        ] {
            assert_eq!(secured(variables).as_deref(), told, "{variables:?}");
        }
        for value in ["http://", "ftp://p:1", "a b", "https://p:1"] {
            let said = via("far.example:1", &[("http_proxy", value)]).unwrap_err();
            assert!(said.contains("http_proxy"), "{said}");
        }
    }

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        let all = ["http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
            .map(|name| (name, "http://p:1"));
        for target in ["localhost:1", "a.localhost:1", "127.8.8.8:1", "[::1]:1", "0.0.0.0:1"] {
            assert_eq!(via(target, &all), Ok(None), "{target}");
        }
        // The address that it has in its network, if it is in one: nothing is sent there.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = format!("{}:1", socket.local_addr().unwrap().ip());
            assert_eq!(via(&own, &all), Ok(None), "{own}");
        }
        assert!(via("192.0.2.1:1", &all).unwrap().is_some());
    }

    #[test]
    fn exceptions_are_those_of_curl() {
        let is_direct = |list: &str, target: &str| {
            via(target, &[("http_proxy", "http://p:1"), ("NO_PROXY", list)]).unwrap().is_none()
        };
        for (list, target) in [
            ("*", "far.example:1"),
            ("far.example", "far.example:1"),
            (".far.example", "far.example:1"),
            ("example", "far.example:1"),
            ("a,  FAR.example. ,b", "far.Example:1"),
            ("a far.example", "www.far.example:1"),
            ("far.example:1", "far.example:1"),
            ("10.0.0.0/8", "10.200.3.4:1"),
            ("10.1.2.3", "10.1.2.3:1"),
            ("10.1.2.3:1", "10.1.2.3:1"),
            ("0.0.0.0/0", "10.1.2.3:1"),
            ("10.1.2.3/32", "10.1.2.3:1"),
            ("2001:db8::/32", "[2001:db8::7]:1"),
            ("[2001:db8::7]", "[2001:db8::7]:1"),
            ("[2001:db8::7]:1", "[2001:db8::7]:1"),
        ] {
            assert!(is_direct(list, target), "{list} {target}");
        }
        for (list, target) in [
            ("", "far.example:1"),
            (",. ,", "far.example:1"),
            ("ar.example", "far.example:1"),
            ("www.far.example", "far.example:1"),
            ("far.example.org", "far.example:1"),
            ("far.example:2", "far.example:1"),
            ("10.0.0.0/8", "11.0.0.1:1"),
            ("10.0.0.0/33", "10.0.0.1:1"),
            ("10.0.0.0/", "10.0.0.1:1"),
            ("0.1", "10.0.0.1:1"),
            ("::/0", "10.0.0.1:1"),
            ("2001:db8::/32", "[2001:db9::7]:1"),
        ] {
            assert!(!is_direct(list, target), "{list} {target}");
        }
        let lower_wins = [("http_proxy", "http://p:1"), ("no_proxy", "x"), ("NO_PROXY", "*")];
        assert!(via("far.example:1", &lower_wins).unwrap().is_some());
    }
}
