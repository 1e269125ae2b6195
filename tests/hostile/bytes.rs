//! Bytes that nobody means: the requests of the tables, damaged at random and cut into pieces at random.
//! Whatever comes of it, the connection ends once the client has sent all, nothing panics, and others are
//! served.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use fastrand::Rng;

use super::{http1, http2};
use crate::support::client::Client;
use crate::support::seed;
use crate::support::service::Service;

const CASES: usize = 2_000;

/// What a service that reads requests reads most.
const TOKENS: [&[u8]; 16] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b": ",
    b" HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\xff\xff\xff\x01\x05\0\0\0\x01",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
];

/// One of the seeds with some damage, or bytes of no meaning.
fn damaged(seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = match random.u8(..16) {
        0 => (0..random.usize(..600)).map(|_| random.u8(..)).collect(),
        _ => random.choice(seeds).unwrap().clone(),
    };
    for _ in 0..random.usize(..6) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..40)).min(bytes.len());
        match random.u8(..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            3 => drop(bytes.splice(at..at, random.choice(TOKENS).unwrap().iter().copied())),
            4 => bytes.extend_from_slice(random.choice(seeds).unwrap()),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            _ => bytes.push(random.u8(..)),
        }
    }
    bytes
}

/// Sends the bytes in pieces, and waits for the end.
///
/// # Errors
/// The service does not end the connection.
fn send(addr: SocketAddr, bytes: &[u8], random: &mut Rng) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Duration::from_secs(40)))?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let longest = if random.bool() { 8 } else { rest.len() };
        let (piece, more) = rest.split_at(random.usize(1..=longest.min(rest.len())));
        // The service may have ended it meanwhile.
        if stream.write_all(piece).is_err() {
            return Ok(());
        }
        // Some read one piece before the next one comes.
        if random.u8(..8) == 0 {
            std::thread::yield_now();
        }
        rest = more;
    }
    if random.u8(..4) == 0 {
        return Ok(());
    }
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut Vec::new()) {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(e),
        _ => Ok(()),
    }
}

#[test]
fn damaged_requests_in_pieces_end_without_harm_and_others_are_served() {
    let mut service = Service::new();
    let addr = service.addr;
    let seeds = [http1::requests(addr), http2::connections(addr)].concat();
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    for case in 0..CASES {
        let bytes = damaged(&seeds, &mut random);
        let ended = send(addr, &bytes, &mut random);
        assert!(ended.is_ok(), "SEKALI_SEED={seed}, case {case} does not end: {}", bytes.escape_ascii());
        if case % 50 == 0 {
            assert_eq!(Client::new(addr).get("/healthz").unwrap().status, 200, "SEKALI_SEED={seed}");
        }
    }
    assert_eq!(Client::new(addr).get("/readyz").unwrap().status, 200, "SEKALI_SEED={seed}");
    let log = service.server.log();
    assert!(!log.contains("panic") && !service.server.exited(), "SEKALI_SEED={seed}\n{log}");
    assert_eq!(service.server.terminate(), Some(0), "SEKALI_SEED={seed}");
}
