//! Which client a request is from: the other side of its connection, or the client that trusted
//! proxies name in `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! Each proxy adds, on the right, the address that it was asked from. So the headers are read from
//! the right, and the first address that is no trusted proxy's is the client: everything left of it
//! is what that client has sent, which may be anything.
//!
//! | the next address to the left is | then |
//! |---|---|
//! | that of a trusted proxy | it is believed too, and reading goes on |
//! | another one | it is the client |
//! | hidden, unknown or malformed, or there is none | the proxy that was found last is the client |
//!
//! A proxy writes one of the two headers and passes the other as it came. Nobody but the operator
//! knows which, so if both are there and name different clients, neither counts.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::peer::{Peer, TrustedProxy};

/// The header of proxies that know nothing of RFC 7239.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a request with these headers that came from `peer`.
pub(crate) fn client(proxies: &[TrustedProxy], peer: Peer, headers: &HeaderMap) -> Peer {
    let is_trusted = |peer| proxies.iter().any(|proxy| proxy.contains(peer));
    if !is_trusted(peer) {
        return peer;
    }
    let named = |name, hops: fn(&str) -> Hops| {
        let mut lines = headers.get_all(name).iter().rev().peekable();
        lines.peek()?;
        let hops = lines.flat_map(|line| line.to_str().map_or_else(|_| vec![None], hops).into_iter().rev());
        Some(nearest(peer, hops, is_trusted))
    };
    match (named(FORWARDED, forwarded), named(FORWARDED_FOR, forwarded_for)) {
        (Some(client), None) | (None, Some(client)) => client,
        (Some(one), Some(other)) if one == other => one,
        _ => peer,
    }
}

/// The addresses in a line of a header, from left to right; `None` stands for one that is hidden,
/// unknown or malformed.
type Hops = Vec<Option<IpAddr>>;

/// The first of `hops`, from right to left, that is not trusted; or the last that was.
fn nearest(
    peer: Peer,
    hops: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(Peer) -> bool,
) -> Peer {
    let mut client = peer;
    for hop in hops {
        let Some(address) = hop else { break };
        client = address.into();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// The hops of a line of `X-Forwarded-For`.
fn forwarded_for(line: &str) -> Hops {
    line.split(',').map(|entry| node(entry.trim_matches(BLANKS))).collect()
}

/// The hops of a line of `Forwarded`. A line that is malformed has one that is: where a quotation
/// that somebody left open ends, nobody can say.
fn forwarded(line: &str) -> Hops {
    elements(line).unwrap_or_else(|| vec![None])
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The hops of a line that is well-formed: `for=192.0.2.1;proto=https, for="[2001:db8::1]:80"`.
fn elements(line: &str) -> Option<Hops> {
    let (mut hops, mut rest) = (Vec::new(), line);
    loop {
        let (mut hop, mut count) = (None, 0);
        // The pairs of an element, with semicolons between them.
        loop {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after)?;
            match name.trim_matches(BLANKS) {
                name if name.eq_ignore_ascii_case("for") => (hop, count) = (node(&value), count + 1),
                name if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    return None;
                }
                _ => {}
            }
            rest = after.trim_start_matches(BLANKS);
            let Some(next) = rest.strip_prefix(';') else { break };
            rest = next;
        }
        hops.push(hop.filter(|_| count == 1));
        if rest.is_empty() {
            return Some(hops);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// The value that `text` begins with, and what follows it.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].into(), &text[end..]));
    };
    let (mut value, mut letters) = (String::new(), quoted.chars());
    loop {
        match letters.next()? {
            '"' => return Some((value.into(), letters.as_str())),
            '\\' => value.push(letters.next()?),
            letter => value.push(letter),
        }
    }
}

/// The address of a node, which may have a port or a hidden one: `192.0.2.1:80`, `[2001:db8::1]`.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(text) = text.strip_prefix('[') {
        let (address, port) = text.split_once(']')?;
        let is_fit = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_fit).map(IpAddr::from);
    }
    match text.split_once(':') {
        Some((address, port)) if is_port(port) => address.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        // An address of IPv6 without its brackets can have no port.
        _ => text.parse().ok(),
    }
}

fn is_port(text: &str) -> bool {
    let (hidden, digits) = (text.strip_prefix('_'), text.len() <= 5);
    let is_hidden =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match hidden {
        Some(name) => !name.is_empty() && is_hidden(name),
        None => digits && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn peer(text: &str) -> Peer {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// The client of a request from [`PROXY`], which is trusted like all of 10.0.0.0/8 and
    /// fd00::/8.
    fn found(lines: &[(&HeaderName, &str)]) -> Peer {
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|proxy| proxy.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        client(&proxies, peer(PROXY), &headers)
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
        for (line, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("198.51.100.9,192.0.2.1 ,\t10.0.0.2,fd00::1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
            // A client within the network of the proxies.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            // What is left of it, a client has sent.
            ("garbage \" ; =, 192.0.2.1", "192.0.2.1"),
            ("10.0.0.2, 192.0.2.1", "192.0.2.1"),
            // Nobody can say who was before that proxy.
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, unknown", PROXY),
            ("192.0.2.1,", PROXY),
            ("", PROXY),
            ("192.0.2.256", PROXY),
            ("192.0.2.1:", PROXY),
            ("192.0.2.1:x", PROXY),
            ("192.0.2.1:123456", PROXY),
            ("[192.0.2.1]", PROXY),
            ("[2001:db8::1]80", PROXY),
            ("2001:db8::1%eth0", PROXY),
            ("\u{e4}", PROXY),
        ] {
            assert_eq!(found(&[(&FORWARDED_FOR, line)]), peer(expected), "{line:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (line, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=192.0.2.1; proto=http;by=203.0.113.43", "192.0.2.1"),
            ("proto=https;for=192.0.2.1:80", "192.0.2.1"),
            ("for=\"192.0.2.1:_port\"", "192.0.2.1"),
            ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"\\192.0.2.1\"", "192.0.2.1"),
            ("for=198.51.100.9, for=192.0.2.1;host=\"a,b;c\", for=10.0.0.2", "192.0.2.1"),
            ("for=_hidden, for=192.0.2.1", "192.0.2.1"),
            ("for=198.51.100.9, for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("for=_hidden", PROXY),
            ("for=unknown", PROXY),
            ("proto=https", PROXY),
            ("for=192.0.2.1;for=198.51.100.9", PROXY),
            ("for=192.0.2.1;;proto=https", PROXY),
            ("for=192.0.2.1,", PROXY),
            ("for=", PROXY),
            ("for", PROXY),
            ("for=\"192.0.2.1", PROXY),
            ("for=192.0.2.1 x", PROXY),
            ("for=\"2001:db8::1\"x", PROXY),
            ("f r=192.0.2.1", PROXY),
            // A quotation that a client left open swallows what the proxy adds to the line.
            ("for=198.51.100.9;x=\", for=192.0.2.1", PROXY),
            ("for=198.51.100.9;x=\", for=\"[2001:db8::1]\"", PROXY),
        ] {
            assert_eq!(found(&[(&FORWARDED, line)]), peer(expected), "{line:?}");
        }
    }

    #[test]
    fn lines_are_one_list_and_two_headers_must_agree() {
        let (one, other) = (&FORWARDED, &FORWARDED_FOR);
        for (lines, expected) in [
            (&[(other, "198.51.100.9"), (other, "192.0.2.1")][..], "192.0.2.1"),
            (&[(other, "192.0.2.1"), (other, "10.0.0.2")], "192.0.2.1"),
            (&[(one, "for=198.51.100.9;x=\""), (one, "for=192.0.2.1")], "192.0.2.1"),
            (&[(one, "for=192.0.2.1"), (other, "198.51.100.9, 192.0.2.1")], "192.0.2.1"),
            (&[(one, "for=198.51.100.9"), (other, "192.0.2.1")], PROXY),
            (&[(one, "for=192.0.2.1"), (other, "")], PROXY),
            (&[], PROXY),
        ] {
            assert_eq!(found(lines), peer(expected), "{lines:?}");
        }
    }

    #[test]
    fn whoever_is_no_trusted_proxy_is_the_client_whatever_it_says() {
        let headers = HeaderMap::from_iter([(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"))]);
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(client(&proxies, peer("198.51.100.9"), &headers), peer("198.51.100.9"));
        assert_eq!(client(&[], peer(PROXY), &headers), peer(PROXY));
        assert_eq!(client(&proxies, Peer::User(0), &headers), Peer::User(0));
        assert_eq!(client(&[TrustedProxy::Unix], Peer::User(0), &headers), peer("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_believes_what_is_not_in_it(
            lines in proptest::collection::vec((any::<bool>(), "\\PC{0,60}"), 0..4),
            pieces in proptest::collection::vec("(for=)?(\"|\\[)?(192\\.0\\.2\\.1|10\\.0\\.0\\.2|::1|_x)(\"|\\]|:1)?[,; ]?", 0..8),
        ) {
            let name = |is_one| if is_one { FORWARDED } else { FORWARDED_FOR };
            let random: Vec<_> = lines.iter().map(|(is_one, line)| (name(*is_one), line.clone())).collect();
            let near = |is_one| vec![(name(is_one), pieces.concat())];
            for lines in [random, near(true), near(false)] {
                let lines: Vec<_> = lines.iter().map(|(name, line)| (name, &**line)).collect();
                let client = found(&lines);
                let is_there = lines.iter().any(|(_, line)| line.contains(&client.to_string()));
                prop_assert!(client == peer(PROXY) || is_there || client.to_string().contains(':'), "{client}");
            }
        }

        /// Whatever a client sends, what its proxy adds decides.
        #[test]
        fn nothing_that_a_client_sends_gives_it_another_address(
            sent in "[ -~]{0,80}", hops in 0..4_usize, is_one in any::<bool>(), is_own_line in any::<bool>(),
        ) {
            let form = |address: &str| if is_one { format!("for={address}") } else { address.to_owned() };
            let mut added = vec![form("192.0.2.1")];
            added.extend((0..hops).map(|_| form("10.0.0.2")));
            let added = added.join(", ");
            let name = if is_one { &FORWARDED } else { &FORWARDED_FOR };
            let joined = format!("{sent}, {added}");
            let lines = if is_own_line { vec![(name, &*sent), (name, &*added)] } else { vec![(name, &*joined)] };
            let client = found(&lines);
            // A line that a client has broken says nothing at all.
            prop_assert!(client == peer("192.0.2.1") || (is_one && !is_own_line && client == peer(PROXY)), "{client}");
        }
    }
}
