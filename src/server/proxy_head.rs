//! The head that a balancer puts before the bytes of a client: PROXY protocol, version 2.
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2.)
//!
//! | bytes | what |
//! |---|---|
//! | 12 | the signature |
//! | 1 | version 2 in the upper half; the command in the lower: 0 LOCAL, 1 PROXY |
//! | 1 | family in the upper half: 0 none, 1 IPv4, 2 IPv6, 3 Unix; transport in the lower |
//! | 2 | length of what follows |
//! | length | source and destination, their ports, and then extensions, which are skipped |
//!
//! Version 1 is text without a length, which says less and is not taken.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::PROXY_HEAD_BYTES_MAX;

/// What no request of HTTP and no handshake of TLS begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a head before those whose length it says.
const FIXED_BYTES: usize = 16;

/// Between whom the connection is, as the balancer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxied {
    /// The balancer itself asks, as in its health checks, or it does not say for whom.
    Itself,
    /// A client at the first address, which connected to the second one.
    For(IpAddr, IpAddr),
}

/// Reads a head, and nothing after it.
///
/// # Errors
/// There is none, it is not well-formed, or the connection ended within it.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Proxied> {
    let mut fixed = [0; FIXED_BYTES];
    // No byte more is read than what the head has for sure: a client's own may follow.
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    if !fixed.starts_with(&SIGNATURE) {
        return Err(malformed("it does not begin with a PROXY head of version 2"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > PROXY_HEAD_BYTES_MAX {
        return Err(malformed("its PROXY head is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family >> 4) {
        (0x20, _) | (0x21, 0 | 3) => Ok(Proxied::Itself),
        (0x21, 1) => pair::<4>(&rest).map(|[source, own]| of(Ipv4Addr::from(source), Ipv4Addr::from(own))),
        (0x21, 2) => pair::<16>(&rest).map(|[source, own]| of(Ipv6Addr::from(source), Ipv6Addr::from(own))),
        _ => Err(malformed("its PROXY head has a version, a command or a family that is not known")),
    }
}

fn of(source: impl Into<IpAddr>, own: impl Into<IpAddr>) -> Proxied {
    Proxied::For(source.into(), own.into())
}

/// Source and destination, which their ports follow.
fn pair<const N: usize>(rest: &[u8]) -> io::Result<[[u8; N]; 2]> {
    let is_whole = rest.len() >= 2 * N + 4;
    let (source, rest) = rest.split_first_chunk().filter(|_| is_whole).ok_or_else(short)?;
    let (own, _) = rest.split_first_chunk().ok_or_else(short)?;
    Ok([*source, *own])
}

fn short() -> io::Error {
    malformed("its PROXY head is shorter than its addresses")
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// What a head says, and how many bytes follow it.
    fn read(mut bytes: &[u8]) -> io::Result<(Proxied, usize)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let proxied = runtime.block_on(read_head(&mut bytes))?;
        Ok((proxied, bytes.len()))
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 7, 0x12, 0x67, 0, 80];

    fn v6() -> Vec<u8> {
        let [source, own] =
            ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
        [&source[..], &own, &[0, 1, 0, 2]].concat()
    }

    #[test]
    fn addresses_of_every_family_are_read_and_what_follows_is_left() {
        let v4 = Proxied::For([192, 0, 2, 1].into(), [10, 0, 0, 7].into());
        let v6_ = Proxied::For("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let extended = [&V4[..], &[0x20, 0, 3, 1, 2, 3]].concat();
        for (bytes, expected) in [
            (head(0x21, 0x11, &V4), v4),
            (head(0x21, 0x11, &extended), v4),
            (head(0x21, 0x12, &V4), v4),
            (head(0x21, 0x21, &v6()), v6_),
            (head(0x21, 0x31, &[0; 216]), Proxied::Itself),
            (head(0x21, 0x00, &[]), Proxied::Itself),
            (head(0x20, 0x00, &[]), Proxied::Itself),
            (head(0x20, 0x11, &V4), Proxied::Itself),
        ] {
            let with_request = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(read(&with_request).unwrap(), (expected, 18), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_that_is_cut_anywhere_or_wrong_is_refused() {
        for whole in [head(0x21, 0x11, &V4), head(0x21, 0x21, &v6())] {
            for end in 0..whole.len() {
                assert!(read(&whole[..end]).is_err(), "cut after {end} bytes");
            }
            for at in 0..12 {
                let mut wrong = whole.clone();
                wrong[at] ^= 1;
                assert!(read(&wrong).is_err(), "byte {at} of the signature");
            }
        }
        for wrong in [
            head(0x11, 0x11, &V4),
            head(0x22, 0x11, &V4),
            head(0x21, 0x41, &V4),
            head(0x21, 0x11, &V4[..11]),
            head(0x21, 0x21, &V4),
            head(0x21, 0x11, &[0; PROXY_HEAD_BYTES_MAX + 1]),
            b"PROXY TCP4 192.0.2.1 10.0.0.7 4711 80\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(command in 0x20..0x23_u8, family: u8, rest: Vec<u8>, cut in 0..200_usize) {
            let mut bytes = head(command, family, &rest);
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
