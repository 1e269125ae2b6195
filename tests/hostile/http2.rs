//! HTTP/2: frames, header blocks and requests that RFC 9113 calls malformed or an error of the
//! connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::http1::event;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, status,
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
    let mut cases = requests(host);
    cases.extend(fields(host));
    cases.extend(bodies(host));
    cases.extend(frames(host));
    cases.extend(settings());
    cases.extend(compression(host));
    cases
}

/// Requests by section 8.3.
fn requests(host: &str) -> Vec<Case> {
    use Expect::{Answered, StreamError};
    let get = |which, value, name, expect| pseudo(host, name, which, value, expect);
    let userinfo = format!("me@{host}");
    vec![
        get(":path", None, "no path", StreamError),
        get(":path", Some(""), "an empty path", StreamError),
        get(":path", Some("healthz"), "a path without a slash", StreamError),
        get(":path", Some("*"), "an asterisk with GET", Answered(&[400, 404])),
        get(":path", Some("http://evil.example/"), "an absolute form as the path", StreamError),
        get(":path", Some("/a b"), "a path with a space", StreamError),
        get(":path", Some("/a\0b"), "a path with a NUL", StreamError),
        get(":path", Some("/a\r\nX: y"), "a path with a line end", StreamError),
        get(":path", Some("//evil.example/healthz"), "two slashes before a name", Answered(&[400, 404])),
        get(":method", None, "no method", StreamError),
        get(":method", Some(""), "an empty method", StreamError),
        get(":method", Some("G T"), "a method with a space", StreamError),
        get(":method", Some("get"), "a method in lower case is another method", Answered(&[405, 501])),
        get(":method", Some("BREW"), "an unknown method", Answered(&[405, 501])),
        get(":method", Some("CONNECT"), "CONNECT with a path", StreamError),
        get(":scheme", None, "no scheme", StreamError),
        // Malformed, but the protocol's library takes it for none, and nobody asks for it here.
        get(":scheme", Some(""), "an empty scheme", Answered(&[200, 400])),
        get(":scheme", Some("ht tp"), "a scheme with a space", StreamError),
        get(":authority", None, "neither authority nor Host", StreamError),
        get(":authority", Some(""), "an empty authority", StreamError),
        get(":authority", Some(&userinfo), "an authority with userinfo", Answered(&[400])),
        get(":authority", Some("evil.example"), "an authority that is another's", Answered(&[421])),
        get(":authority", Some("127.0.0.1.evil.example"), "one that begins like loopback", Answered(&[421])),
        get(":authority", Some("localhost:99999"), "an authority with a port beyond all ports", StreamError),
        get(":authority", Some("a/b"), "an authority with a path", StreamError),
        get(":authority", Some("localhost"), "localhost", Answered(&[200])),
        with(host, "a Host that is the authority", ("host", HOST), Answered(&[200])),
        with(host, "a Host that is not the authority", ("host", "evil.example"), Answered(&[400])),
        with(host, "a path twice", (":path", "/stats"), StreamError),
        with(host, "a method behind other fields", ("x-a", "b"), Answered(&[200])),
        request(
            host,
            "a pseudo-header behind a field",
            &[GET[0], GET[1], ("x-a", "b"), GET[2], GET[3]],
            StreamError,
        ),
        request(
            host,
            "an unknown pseudo-header",
            &[GET[0], GET[1], GET[2], GET[3], (":evil", "x")],
            StreamError,
        ),
        request(
            host,
            "a pseudo-header of answers",
            &[GET[0], GET[1], GET[2], GET[3], (":status", "200")],
            StreamError,
        ),
        request(
            host,
            "a protocol without CONNECT",
            &[GET[0], GET[1], GET[2], GET[3], (":protocol", "websocket")],
            StreamError,
        ),
        request(host, "two authorities", &[GET[0], GET[1], GET[2], GET[3], GET[3]], StreamError),
        request(
            host,
            "two Hosts",
            &[GET[0], GET[1], GET[2], ("host", HOST), ("host", "evil.example")],
            Answered(&[400]),
        ),
        request(host, "a Host and no authority", &[GET[0], GET[1], GET[2], ("host", HOST)], Answered(&[200])),
        request(host, "no fields at all", &[], StreamError),
    ]
}

/// Fields by section 8.2.
fn fields(host: &str) -> Vec<Case> {
    use Expect::{Answered, StreamError};
    let long = "a".repeat(20_000);
    let mut continued = frame(HEADERS, END_STREAM, 1, &block(&[]));
    let get: Vec<(&str, String)> =
        GET.iter().map(|(name, value)| (*name, value.replace(HOST, host))).collect();
    let get: Vec<(&str, &str)> = get.iter().map(|(name, value)| (*name, &**value)).collect();
    let many = block(&[&get[..], &[("x-a", &long[..16_000])], &[("x-b", &long[..16_000])]].concat());
    for piece in many.chunks(16_384) {
        continued.extend(frame(CONTINUATION, 0, 1, piece));
    }
    continued.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    vec![
        with(host, "a name in capitals", ("X-A", "b"), StreamError),
        with(host, "a name with a space", ("x a", "b"), StreamError),
        with(host, "a name with a colon", ("x:a", "b"), StreamError),
        with(host, "a name with a NUL", ("x\0a", "b"), StreamError),
        with(host, "an empty name", ("", "b"), StreamError),
        with(host, "a value with a NUL", ("x-a", "b\0c"), StreamError),
        with(host, "a value with a line end", ("x-a", "b\r\ncontent-length: 5"), StreamError),
        with(host, "a value with a bare LF", ("x-a", "b\nc"), StreamError),
        with(host, "connection", ("connection", "close"), StreamError),
        with(host, "keep-alive", ("keep-alive", "timeout=5"), StreamError),
        with(host, "proxy-connection", ("proxy-connection", "close"), StreamError),
        with(host, "transfer-encoding", ("transfer-encoding", "chunked"), StreamError),
        with(host, "upgrade", ("upgrade", "websocket"), StreamError),
        with(host, "te with something else", ("te", "gzip"), StreamError),
        with(host, "te with trailers", ("te", "trailers"), Answered(&[200])),
        case("a block of 32,000 bytes", continued, Expect::Answered(&[431])),
    ]
}

/// Sections 8.1 and 5.1: bodies and lengths.
fn bodies(host: &str) -> Vec<Case> {
    use Expect::{Answered, ConnectionError, StreamError};
    let post = |fields: &[(&str, &str)], body: &[u8], flags| {
        let mut bytes = headers(1, 0, &[&POST[..], fields].concat(), host);
        bytes.extend(frame(DATA, flags, 1, body));
        bytes
    };
    let event = event("hostile-http2", 0);
    let length = event.len().to_string();
    let more = (event.len() + 1).to_string();
    let body = event.as_bytes();
    let padded = [&[200_u8], body].concat();
    let end = |bytes: Vec<u8>| [bytes, frame(DATA, END_STREAM, 1, b"")].concat();
    let trailers = |fields: &[(&str, &str)], flags| {
        [post(&[], body, 0), frame(HEADERS, END_HEADERS | flags, 1, &block(fields))].concat()
    };
    vec![
        case(
            "a length that is more than the body",
            post(&[("content-length", &more)], body, END_STREAM),
            StreamError,
        ),
        case(
            "a length that is less than the body",
            post(&[("content-length", "2")], body, END_STREAM),
            StreamError,
        ),
        case("a length that is no number", post(&[("content-length", "abc")], body, END_STREAM), StreamError),
        case("a length with a plus", post(&[("content-length", "+5")], body, END_STREAM), StreamError),
        case(
            "two lengths that differ",
            post(&[("content-length", &length), ("content-length", "2")], body, END_STREAM),
            StreamError,
        ),
        case(
            "a length and no body",
            headers(1, END_STREAM, &[&POST[..], &[("content-length", &length)]].concat(), host),
            StreamError,
        ),
        case(
            "more padding than there is",
            headers_then(host, frame(DATA, PADDED | END_STREAM, 1, &padded)),
            ConnectionError,
        ),
        // Malformed, but the protocol's library drops the field before anybody sees it.
        case("trailers with a pseudo-header", trailers(&[(":path", "/")], END_STREAM), Answered(&[200, 400])),
        case("trailers that do not end the stream", trailers(&[("x-a", "b")], 0), StreamError),
        case("data behind the end", end(headers(1, END_STREAM, &GET, host)), StreamError),
        case(
            "a second request on one stream",
            [headers(1, END_STREAM, &GET, host), headers(1, END_STREAM, &GET, host)].concat(),
            StreamError,
        ),
        Case {
            stores: 1,
            ..case("a right length", post(&[("content-length", &length)], body, END_STREAM), Answered(&[200]))
        },
        case(
            "the same event in two frames",
            [
                headers(1, 0, &POST, host),
                frame(DATA, 0, 1, &body[..9]),
                frame(DATA, END_STREAM, 1, &body[9..]),
            ]
            .concat(),
            Answered(&[200]),
        ),
        case("the same event and trailers", trailers(&[("x-checksum", "1")], END_STREAM), Answered(&[200])),
    ]
}

fn headers_then(host: &str, next: Vec<u8>) -> Vec<u8> {
    [headers(1, 0, &POST, host), next].concat()
}

/// Sections 4 to 6: frames.
fn frames(host: &str) -> Vec<Case> {
    use Expect::{Answered, ConnectionError, Ignored, StreamError};
    let get = |stream| headers(stream, END_STREAM, &GET, host);
    let number = |number: u32| number.to_be_bytes();
    let half = frame(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]));
    let goaway = [number(0), number(0)].concat();
    vec![
        case("data on stream 0", frame(DATA, 0, 0, b"x"), ConnectionError),
        case("data on a stream that was never begun", frame(DATA, 0, 5, b"x"), ConnectionError),
        case("headers on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &[]), ConnectionError),
        case("headers on an even stream", get(2), ConnectionError),
        case("a stream below an earlier one", [get(5), get(3)].concat(), ConnectionError),
        case(
            "a push promise from a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &number(2)),
            ConnectionError,
        ),
        case("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), ConnectionError),
        case(
            "another frame within a header block",
            [half.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            ConnectionError,
        ),
        case(
            "a continuation of another stream",
            [half.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            ConnectionError,
        ),
        case("a frame larger than allowed", frame(DATA, 0, 1, &vec![0; 16_385]), ConnectionError),
        case(
            "headers with more padding than there is",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, &[250, 0]),
            ConnectionError,
        ),
        case("a ping of 7 bytes", frame(PING, 0, 0, &[0; 7]), ConnectionError),
        case("a ping of 9 bytes", frame(PING, 0, 0, &[0; 9]), ConnectionError),
        case("a ping on a stream", frame(PING, 0, 1, &[0; 8]), ConnectionError),
        case(
            "a window update of 0 for the connection",
            frame(WINDOW_UPDATE, 0, 0, &number(0)),
            ConnectionError,
        ),
        case("a window update of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), ConnectionError),
        case(
            "a window of the connection beyond 2^31",
            frame(WINDOW_UPDATE, 0, 0, &number(0x7fff_ffff)),
            ConnectionError,
        ),
        case(
            "a window update on a stream that was never begun",
            frame(WINDOW_UPDATE, 0, 1, &number(1)),
            ConnectionError,
        ),
        case(
            "a window update of 0 for a stream",
            [headers(1, 0, &POST, host), frame(WINDOW_UPDATE, 0, 1, &number(0))].concat(),
            StreamError,
        ),
        case(
            "a window of a stream beyond 2^31",
            [headers(1, 0, &POST, host), frame(WINDOW_UPDATE, 0, 1, &number(0x7fff_ffff))].concat(),
            StreamError,
        ),
        case(
            "a reset of a stream that was never begun",
            frame(RST_STREAM, 0, 1, &number(8)),
            ConnectionError,
        ),
        case("a reset of stream 0", frame(RST_STREAM, 0, 0, &number(8)), ConnectionError),
        case(
            "a reset of 3 bytes",
            [headers(1, 0, &POST, host), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            ConnectionError,
        ),
        case("a priority on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), ConnectionError),
        case("a goaway on a stream", frame(GOAWAY, 0, 1, &goaway), ConnectionError),
        case("a goaway of 7 bytes", frame(GOAWAY, 0, 0, &goaway[..7]), ConnectionError),
        case(
            "a frame of an unknown type",
            [frame(0x42, 0xff, 0, b"whatever"), get(1)].concat(),
            Answered(&[200]),
        ),
        case("a ping", frame(PING, 0, 0, b"12345678"), Ignored),
        case("an answer to no ping", frame(PING, ACK, 0, &[0; 8]), Ignored),
        case("unknown flags of a ping", frame(PING, 0xfe, 0, &[0; 8]), Ignored),
        case("a priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 10]), Ignored),
        case(
            "a reset of a stream that was answered",
            [get(1), frame(RST_STREAM, 0, 1, &number(8))].concat(),
            Ignored,
        ),
    ]
}

/// Settings by section 6.5.
fn settings() -> Vec<Case> {
    use Expect::{ConnectionError, Ignored};
    let setting = |id: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
    };
    vec![
        case("settings of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), ConnectionError),
        case("settings on a stream", frame(SETTINGS, 0, 1, &[]), ConnectionError),
        case("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), ConnectionError),
        case("a push setting of 2", setting(2, 2), ConnectionError),
        case("a window of 2^31", setting(4, 0x8000_0000), ConnectionError),
        case("a frame size of 100", setting(5, 100), ConnectionError),
        case("a frame size of 2^24", setting(5, 1 << 24), ConnectionError),
        case("an unknown setting", setting(0x4242, 7), Ignored),
        case("no table for header fields", setting(1, 0), Ignored),
        case("a window of 0", setting(4, 0), Ignored),
    ]
}

/// A header block in three frames.
fn pieces(block: &[u8]) -> Vec<u8> {
    let (first, rest) = block.split_at(3);
    let (second, third) = rest.split_at(1);
    [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, END_HEADERS, 1, third),
    ]
    .concat()
}

/// Compression of fields by RFC 7541.
fn compression(host: &str) -> Vec<Case> {
    use Expect::{Answered, ConnectionError};
    let raw = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let mut doubled = GET.map(|(name, value)| (name, value.replace(HOST, host)));
    doubled[0].1 = "GET".to_owned();
    let good = block(&doubled.each_ref().map(|(name, value)| (*name, &**value)));
    vec![
        case("the entry 0", raw(&[0x80]), ConnectionError),
        case("an entry that is not there", raw(&[0xff, 0xff, 0x00]), ConnectionError),
        case(
            "a number without an end",
            raw(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ConnectionError,
        ),
        case("a string that is longer than the block", raw(&[0x00, 0x05, b'a']), ConnectionError),
        case("a table larger than allowed", raw(&[0x3f, 0xe1, 0xff, 0x7f, 0x82]), ConnectionError),
        case("an update of the table behind a field", raw(&[0x82, 0x20]), ConnectionError),
        case("padding of Huffman's code that is none", raw(&[0x00, 0x01, b'a', 0x81, 0x00]), ConnectionError),
        case(
            "an update of the table before the fields",
            raw(&[&[0x20], &good[..]].concat()),
            Answered(&[200]),
        ),
        case("a block in three pieces", pieces(&good), Answered(&[200])),
    ]
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
