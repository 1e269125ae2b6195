//! HTTP/2: frames, header blocks and requests that RFC 9113 calls malformed or an error of the
//! connection.

mod frames;
mod requests;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::frames::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, block, frame, status,
};
use crate::support::service::Service;

/// What must come back.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The whole connection ends: GOAWAY with an error, or an end without it.
    ConnectionError,
    /// The stream ends: RST_STREAM, or an answer with status 400; an error of the whole connection
    /// is allowed as well, as RFC 9113, section 5.4 has it.
    StreamError,
    /// The answer has one of these statuses.
    Answered(&'static [u16]),
    /// The connection goes on: a PING sent after it is answered.
    Ignored,
}

struct Case {
    name: &'static str,
    /// Bytes that are sent after the preface and the settings.
    bytes: Vec<u8>,
    expect: Expect,
    stores: u64,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, expect: Expect) -> Case {
    Case { name, bytes: bytes.into(), expect, stores: 0 }
}

/// What all requests here are made of.
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "{host}")];
const POST: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/publish"),
    (":authority", "{host}"),
    ("content-type", "application/json"),
];
/// As long as the address of a service, so that lengths do not change when it is put in.
const HOST: &str = "{host}";

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)], host: &str) -> Vec<u8> {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| (name.replace(HOST, host), value.replace(HOST, host))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    frame(HEADERS, flags | END_HEADERS, stream, &block(&fields))
}

/// A request without a body, with these fields.
fn request(host: &str, name: &'static str, fields: &[(&str, &str)], expect: Expect) -> Case {
    case(name, headers(1, END_STREAM, fields, host), expect)
}

/// A good GET with one field more.
fn with(host: &str, name: &'static str, field: (&str, &str), expect: Expect) -> Case {
    request(host, name, &[&GET[..], &[field]].concat(), expect)
}

/// A good GET with one pseudo-header changed, or left out.
fn pseudo(host: &str, name: &'static str, which: &str, value: Option<&str>, expect: Expect) -> Case {
    let fields: Vec<(&str, &str)> = GET
        .iter()
        .filter_map(|(name, old)| match *name == which {
            true => value.map(|value| (*name, value)),
            false => Some((*name, *old)),
        })
        .collect();
    request(host, name, &fields, expect)
}

fn cases(host: &str) -> Vec<Case> {
    let mut cases = requests::requests(host);
    cases.extend(requests::fields(host));
    cases.extend(requests::bodies(host));
    cases.extend(frames::frames(host));
    cases.extend(frames::settings());
    cases.extend(frames::compression(host));
    cases
}

/// Some address: the number of cases does not depend on it.
const ANY: &str = "127.0.0.1:1";

pub fn count() -> usize {
    cases(ANY).len()
}

pub fn stored() -> u64 {
    cases(ANY).iter().map(|case| case.stores).sum()
}

/// Sends each case; the number of cases, and what came back otherwise than expected.
pub fn run(service: &Service) -> (usize, Vec<String>) {
    let cases = cases(&service.addr.to_string());
    let faults = cases.iter().filter_map(|case| {
        let fault = try_one(service.addr, case).err()?;
        Some(format!("HTTP/2, {}: {fault}", case.name))
    });
    (cases.len(), faults.collect())
}

/// What the service sent back.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u16>,
    reset: Option<u32>,
    goaway: Option<u32>,
    is_closed: bool,
    pong: bool,
}

const LAST_PING: &[u8; 8] = b"the last";

/// The bytes of all cases for a service, each with what a client begins with.
pub fn connections(addr: SocketAddr) -> Vec<Vec<u8>> {
    let begun = |case: Case| [PREFACE, &frame(SETTINGS, 0, 0, &[]), &case.bytes].concat();
    cases(&addr.to_string()).into_iter().map(begun).collect()
}

fn try_one(addr: SocketAddr, case: &Case) -> Result<(), String> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &case.bytes].concat();
    // A service may end the connection before it has read everything.
    let _ = stream.write_all(&bytes);
    if matches!(case.expect, Expect::Ignored) {
        let _ = stream.write_all(&frame(PING, 0, 0, LAST_PING));
    }
    let seen = look(&mut stream, case.expect);
    let has_failed = seen.goaway.is_some_and(|code| code != 0) || (seen.is_closed && seen.status.is_none());
    let is_right = match case.expect {
        Expect::ConnectionError => has_failed || (seen.is_closed && seen.goaway.is_some()),
        Expect::StreamError => has_failed || seen.reset.is_some() || seen.status == Some(400),
        Expect::Answered(statuses) => seen.status.is_some_and(|status| statuses.contains(&status)),
        Expect::Ignored => seen.pong && !has_failed,
    };
    if is_right { Ok(()) } else { Err(format!("expected {:?}, got {seen:?}", case.expect)) }
}

/// Reads frames until what is expected has come, or the connection is closed, or nothing has come
/// for a while.
fn look(stream: &mut TcpStream, expect: Expect) -> Seen {
    let mut seen = Seen::default();
    loop {
        let is_enough = match expect {
            Expect::ConnectionError => seen.goaway.is_some_and(|code| code != 0),
            Expect::StreamError => seen.goaway.is_some() || seen.reset.is_some() || seen.status == Some(400),
            Expect::Answered(_) => seen.status.is_some() || seen.goaway.is_some(),
            Expect::Ignored => seen.pong,
        };
        if is_enough {
            return seen;
        }
        let mut head = [0; 9];
        let payload = stream.read_exact(&mut head).and_then(|()| {
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).map(|()| payload)
        });
        let payload = match payload {
            Ok(payload) => payload,
            Err(e) => {
                seen.is_closed = e.kind() != std::io::ErrorKind::WouldBlock;
                return seen;
            }
        };
        let number =
            |at: usize| payload.get(at..at + 4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        match head[3] {
            HEADERS => seen.status = status(&payload),
            RST_STREAM => seen.reset = number(0),
            GOAWAY => seen.goaway = number(4),
            PING => seen.pong |= payload == LAST_PING,
            _ => {}
        }
    }
}
