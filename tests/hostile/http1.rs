//! HTTP/1.1: request lines, header fields and what else comes before a body. Bodies' framing is in
//! `framing.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::framing;
use crate::support::service::Service;

/// What must come back.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// There is one answer with one of these statuses, and the connection is closed after it.
    Refused(&'static [u16]),
    /// The connection is closed, after one answer with one of these statuses or without any.
    Closed(&'static [u16]),
    /// Exactly these answers, each with one of its statuses; the connection stays open.
    Answered(&'static [&'static [u16]]),
    /// An answer with this status, then one with one of those statuses, and the connection is
    /// closed.
    RefusedAfter(u16, &'static [u16]),
}

/// A request as it is sent: `{host}` stands for the address of the service, `{event}` for an event
/// of its own.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub expect: Expect,
    /// Events that are stored by it.
    pub stores: u64,
}

pub fn case(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), expect, stores: 0 }
}

/// A GET of `/healthz` with one more header line, which ends with its own line end.
fn header(name: &'static str, line: impl AsRef<[u8]>, expect: Expect) -> Case {
    case(name, [b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n", line.as_ref(), b"\r\n"].concat(), expect)
}

/// A GET of `/healthz` with this as its only `Host` line, or none.
fn host(name: &'static str, line: impl AsRef<[u8]>, expect: Expect) -> Case {
    case(name, [b"GET /healthz HTTP/1.1\r\n", line.as_ref(), b"\r\n"].concat(), expect)
}

/// A request line before an ordinary head.
fn line(name: &'static str, line: impl AsRef<[u8]>, expect: Expect) -> Case {
    case(name, [line.as_ref(), b"\r\nHost: {host}\r\n\r\n"].concat(), expect)
}

const BAD: Expect = Expect::Refused(&[400]);
const FINE: Expect = Expect::Answered(&[&[200]]);
const MISDIRECTED: Expect = Expect::Answered(&[&[421]]);

fn cases() -> Vec<Case> {
    let mut cases = request_lines();
    cases.extend(hosts());
    cases.extend(fields());
    cases.extend(others());
    cases.extend(framing::cases());
    cases
}

/// RFC 9112, sections 2 and 3.
fn request_lines() -> Vec<Case> {
    const VERSION: Expect = Expect::Refused(&[400, 505]);
    const METHOD: Expect = Expect::Answered(&[&[405, 501]]);
    const NOWHERE: Expect = Expect::Answered(&[&[404]]);
    vec![
        line("two spaces before the target", "GET  /healthz HTTP/1.1", BAD),
        line("two spaces before the version", "GET /healthz  HTTP/1.1", BAD),
        line("a space before the method", " GET /healthz HTTP/1.1", BAD),
        line("a tab between the parts", "GET\t/healthz\tHTTP/1.1", BAD),
        line("a space behind the version", "GET /healthz HTTP/1.1 ", BAD),
        line("a space within the target", "GET /heal thz HTTP/1.1", BAD),
        line("a fragment", "GET /healthz#part HTTP/1.1", BAD),
        line("another scheme", "GET ftp://{host}/healthz HTTP/1.1", BAD),
        line("no version", "GET /healthz", BAD),
        line("no target", "GET HTTP/1.1", BAD),
        line("a method alone", "GET", BAD),
        line("version 0.9", "GET /healthz HTTP/0.9", VERSION),
        line("version 1.2", "GET /healthz HTTP/1.2", VERSION),
        line("version 2.0", "GET /healthz HTTP/2.0", VERSION),
        line("version 3", "GET /healthz HTTP/3", VERSION),
        line("version 1.10", "GET /healthz HTTP/1.10", VERSION),
        line("a version without a minor number", "GET /healthz HTTP/1.", VERSION),
        line("a version in lower case", "GET /healthz http/1.1", VERSION),
        line("another protocol's name", "GET /healthz HTTX/1.1", VERSION),
        line("a version with more behind it", "GET /healthz HTTP/1.1x", VERSION),
        line("a method with a bracket", "G(T /healthz HTTP/1.1", BAD),
        line("a method with an at sign", "G@T /healthz HTTP/1.1", BAD),
        line("a method with a control character", "G\x01T /healthz HTTP/1.1", BAD),
        line("a method beyond ASCII", "GÉT /healthz HTTP/1.1", BAD),
        line("an empty method", " /healthz HTTP/1.1", BAD),
        line("a method in lower case is another method", "get /healthz HTTP/1.1", METHOD),
        line("an unknown method", "BREW /healthz HTTP/1.1", METHOD),
        line("TRACE", "TRACE /healthz HTTP/1.1", METHOD),
        line("DELETE", "DELETE /healthz HTTP/1.1", METHOD),
        line("CONNECT with an authority", "CONNECT {host} HTTP/1.1", Expect::Closed(&[400, 404, 405, 501])),
        line("CONNECT with a path", "CONNECT /healthz HTTP/1.1", Expect::Closed(&[400, 404, 405, 501])),
        line(
            "a method of 10,000 letters",
            "A".repeat(10_000) + " / HTTP/1.1",
            Expect::Closed(&[400, 404, 405, 501]),
        ),
        line("a target without a slash", "GET healthz HTTP/1.1", BAD),
        line("an asterisk with GET", "GET * HTTP/1.1", Expect::Answered(&[&[400, 404]])),
        line("a target that is a query alone", "GET ?limit=1 HTTP/1.1", BAD),
        line("a target in absolute form", "GET http://{host}/healthz HTTP/1.1", FINE),
        line(
            "absolute form, another host",
            "GET http://evil.example/healthz HTTP/1.1",
            Expect::Answered(&[&[400, 421]]),
        ),
        line("absolute form, userinfo", "GET http://me@{host}/healthz HTTP/1.1", Expect::Closed(&[400])),
        line("two slashes before a name", "GET //evil.example/healthz HTTP/1.1", NOWHERE),
        line("a path that climbs", "GET /../../etc/passwd HTTP/1.1", NOWHERE),
        line("a path that climbs, escaped", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1", NOWHERE),
        line("a path with a backslash", "GET /\\..\\healthz HTTP/1.1", Expect::Closed(&[400, 404])),
        line("half an escape", "GET /%4 HTTP/1.1", Expect::Answered(&[&[400, 404]])),
        line("an escape that is none", "GET /%zz HTTP/1.1", Expect::Answered(&[&[400, 404]])),
        line("an escaped NUL", "GET /%00 HTTP/1.1", NOWHERE),
        line("a NUL in the target", "GET /healthz\0 HTTP/1.1", BAD),
        line("a DEL in the target", "GET /healthz\x7f HTTP/1.1", BAD),
        line("bytes that are no UTF-8 in the target", b"GET /\xff\xfe HTTP/1.1", Expect::Closed(&[400, 404])),
        line(
            "a target of 20,000 bytes",
            format!("GET /{} HTTP/1.1", "a".repeat(20_000)),
            Expect::Refused(&[414, 431]),
        ),
        line(
            "a query of 20,000 bytes",
            format!("GET /events?{} HTTP/1.1", "a".repeat(20_000)),
            Expect::Refused(&[414, 431]),
        ),
        case("a bare CR ends the request line", "GET /healthz HTTP/1.1\rHost: {host}\r\n\r\n", BAD),
        case("a bare CR within the request line", "GET /heal\rthz HTTP/1.1\r\nHost: {host}\r\n\r\n", BAD),
        case("an empty line before the request", "\r\nGET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n", FINE),
    ]
}

/// RFC 9110, section 7.2; RFC 9112, section 3.2.
fn hosts() -> Vec<Case> {
    vec![
        host("no Host", "", BAD),
        host("two Hosts", "Host: {host}\r\nHost: evil.example\r\n", BAD),
        host("the same Host twice", "Host: {host}\r\nHost: {host}\r\n", BAD),
        host("two names in one Host", "Host: {host}, evil.example\r\n", Expect::Closed(&[400])),
        host("an empty Host", "Host:\r\n", Expect::Closed(&[400, 421])),
        host("a Host with userinfo", "Host: me@{host}\r\n", Expect::Closed(&[400])),
        host("a Host with a path", "Host: {host}/healthz\r\n", Expect::Closed(&[400])),
        host("a Host with a scheme", "Host: http://{host}\r\n", Expect::Closed(&[400])),
        host("a Host with a space", "Host: local host\r\n", Expect::Closed(&[400])),
        host("a Host with a port that is no number", "Host: localhost:http\r\n", Expect::Closed(&[400])),
        host("a Host with a port beyond all ports", "Host: localhost:99999\r\n", Expect::Closed(&[400])),
        host("a Host with an open bracket", "Host: [::1\r\n", Expect::Closed(&[400])),
        host("a Host with a bracket too many", "Host: ::1]\r\n", Expect::Closed(&[400])),
        host("a Host beyond ASCII", "Host: ünïcode.example\r\n", Expect::Closed(&[400, 421])),
        host("a Host that is another's", "Host: evil.example\r\n", MISDIRECTED),
        host("a Host that begins like loopback", "Host: 127.0.0.1.evil.example\r\n", MISDIRECTED),
        host("a Host that begins like localhost", "Host: localhost.evil.example\r\n", MISDIRECTED),
        host("a Host that ends like localhost", "Host: evillocalhost\r\n", MISDIRECTED),
        host(
            "a Host of 300 labels",
            format!("Host: {}example\r\n", "a.".repeat(300)),
            Expect::Answered(&[&[400, 421]]),
        ),
        host("localhost", "Host: localhost\r\n", FINE),
        host("localhost with a port", "Host: LocalHost:8080\r\n", FINE),
        host("loopback of IPv6", "Host: [::1]:8080\r\n", FINE),
        case("HTTP/1.0 needs no Host", "GET /healthz HTTP/1.0\r\n\r\n", Expect::Refused(&[200])),
    ]
}

/// RFC 9110, section 5; RFC 9112, section 5.
fn fields() -> Vec<Case> {
    const TOO_LARGE: Expect = Expect::Refused(&[431]);
    vec![
        header("a space before the colon", "X-A : b\r\n", BAD),
        header("a tab before the colon", "X-A\t: b\r\n", BAD),
        header("a folded line", "X-A: b\r\n c\r\n", BAD),
        header("a folded line with a tab", "X-A: b\r\n\tc\r\n", BAD),
        header("an empty name", ": b\r\n", BAD),
        header("no colon", "X-A\r\n", BAD),
        header("a name with a space", "X A: b\r\n", BAD),
        header("a name with a bracket", "X(A: b\r\n", BAD),
        header("a name with a slash", "X/A: b\r\n", BAD),
        header("a name with a NUL", "X\0A: b\r\n", BAD),
        header("a name beyond ASCII", "X-Ä: b\r\n", BAD),
        header("a value with a NUL", "X-A: b\0c\r\n", BAD),
        header("a value with a control character", "X-A: b\x01c\r\n", BAD),
        header("a value with a DEL", "X-A: b\x7fc\r\n", BAD),
        header("a value with a bare CR", "X-A: b\rc\r\n", BAD),
        header("a value with a bare CR and a header", "X-A: b\rContent-Length: 5\r\n", BAD),
        header("a line that ends with a bare LF", "X-A: b\n", BAD),
        header("a value beyond ASCII is opaque", "X-A: \u{e4}\r\n", FINE),
        header("an empty value", "X-A:\r\n", FINE),
        header("a value with blanks round it", "X-A: \t b \t \r\n", FINE),
        header("a head of 20,000 bytes", format!("X-A: {}\r\n", "a".repeat(20_000)), TOO_LARGE),
        header(
            "a name of 20,000 bytes",
            format!("{}: b\r\n", "a".repeat(20_000)),
            Expect::Refused(&[400, 431]),
        ),
        header("a thousand header lines", "X: y\r\n".repeat(1_000), TOO_LARGE),
        case("white space before the first header", "GET /healthz HTTP/1.1\r\n Host: {host}\r\n\r\n", BAD),
        case("all lines end with a bare LF", "GET /healthz HTTP/1.1\nHost: {host}\n\n", BAD),
        case("the empty line ends with a bare LF", "GET /healthz HTTP/1.1\r\nHost: {host}\r\n\n", BAD),
    ]
}

/// What is no HTTP, or asks for more than HTTP.
fn others() -> Vec<Case> {
    const NO_HTTP: Expect = Expect::Closed(&[400]);
    vec![
        case("a TLS handshake", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", NO_HTTP),
        case("an SSH banner", "SSH-2.0-OpenSSH_9.6\r\n\r\n", NO_HTTP),
        case("a SOCKS 5 greeting", b"\x05\x01\x00\r\n\r\n", NO_HTTP),
        case("a Redis command", "*1\r\n$4\r\nPING\r\n\r\n", NO_HTTP),
        case(
            "a PROXY protocol line",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n",
            NO_HTTP,
        ),
        case("zeros", vec![0; 64], NO_HTTP),
        case("an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NO_HTTP),
        case("a preface with another end", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Expect::Closed(&[400, 505])),
        header(
            "an upgrade to HTTP/2 is not taken up",
            "Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            FINE,
        ),
        header("an upgrade to a web socket", "Upgrade: websocket\r\nConnection: upgrade\r\n", FINE),
        header(
            "a connection that is to be closed",
            "Connection: keep-alive, close\r\n",
            Expect::Refused(&[200]),
        ),
        case(
            "two requests at once",
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\nGET /readyz HTTP/1.1\r\nHost: {host}\r\n\r\n",
            Expect::Answered(&[&[200], &[200]]),
        ),
        case(
            "a good and a bad request at once",
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\nGET /healthz HTTP/1.1\r\nX : y\r\n\r\n",
            Expect::RefusedAfter(200, &[400]),
        ),
    ]
}

pub fn count() -> usize {
    cases().len()
}

pub fn stored() -> u64 {
    cases().iter().map(|case| case.stores).sum()
}

/// Sends each case; the number of cases, and what came back otherwise than expected.
pub fn run(service: &Service) -> (usize, Vec<String>) {
    let cases = cases();
    let faults = cases.iter().enumerate().filter_map(|(number, case)| {
        let fault = try_one(service.addr, number, case).err()?;
        Some(format!("HTTP/1.1, {}: {fault}", case.name))
    });
    (cases.len(), faults.collect())
}

/// An event that no other case has.
pub fn event(protocol: &str, number: usize) -> String {
    format!(
        r#"{{"topic":"{protocol}","event_id":"{number}","timestamp":"2026-01-01T00:00:00Z","source":"s"}}"#
    )
}

fn replaced(bytes: &[u8], mark: &str, by: &str) -> Vec<u8> {
    let mark = mark.as_bytes();
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by.as_bytes());
        rest = &rest[at + mark.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The bytes of all cases for a service.
pub fn requests(addr: SocketAddr) -> Vec<Vec<u8>> {
    cases().iter().enumerate().map(|(number, case)| filled(addr, number, case)).collect()
}

fn filled(addr: SocketAddr, number: usize, case: &Case) -> Vec<u8> {
    let event = event("hostile-http1", number);
    let bytes = replaced(&case.bytes, "{host}", &addr.to_string());
    let bytes = replaced(&bytes, "{event}", &event);
    let bytes = replaced(&bytes, "{length}", &event.len().to_string());
    replaced(&bytes, "{hex}", &format!("{:x}", event.len()))
}

fn try_one(addr: SocketAddr, number: usize, case: &Case) -> Result<(), String> {
    let bytes = filled(addr, number, case);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    // A service may refuse before it has read everything.
    let _ = stream.write_all(&bytes);
    let wanted = match case.expect {
        Expect::Answered(answers) => answers.len(),
        _ => usize::MAX,
    };
    let (statuses, is_closed) = answers(&mut stream, wanted);
    let one_of = |allowed: &[u16], status: &u16| allowed.contains(status);
    let is_right = match (case.expect, &statuses[..]) {
        (Expect::Refused(allowed), [status]) => is_closed && one_of(allowed, status),
        (Expect::Closed(allowed), []) => is_closed && !allowed.is_empty(),
        // A connection that is answered and kept is as good: what matters is that nothing else
        // happens on it.
        (Expect::Closed(allowed), [status]) => one_of(allowed, status),
        (Expect::Answered(answers), statuses) => {
            statuses.len() == answers.len() && answers.iter().zip(statuses).all(|(a, s)| one_of(a, s))
        }
        (Expect::RefusedAfter(before, allowed), [first, status]) => {
            is_closed && *first == before && one_of(allowed, status)
        }
        _ => false,
    };
    if !is_right {
        let end = if is_closed { "closed" } else { "open" };
        return Err(format!("expected {:?}, got {statuses:?} and the connection {end}", case.expect));
    }
    let (statuses, _) = {
        let mut other = TcpStream::connect(addr).unwrap();
        other.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
        answers(&mut other, 1)
    };
    if statuses == [200] { Ok(()) } else { Err(format!("others are answered {statuses:?}")) }
}

/// Statuses of the answers that come until there are `wanted` of them, or the connection is closed,
/// or nothing has come for a while; and whether it is closed.
fn answers(stream: &mut TcpStream, wanted: usize) -> (Vec<u16>, bool) {
    stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let mut received = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let statuses = statuses(&received);
        if statuses.len() >= wanted {
            return (statuses, false);
        }
        match stream.read(&mut piece) {
            Ok(0) => return (statuses, true),
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return (statuses, true),
            Err(_) => return (statuses, false),
        }
    }
}

/// No answer of this service has a status line within its body.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let starts = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    // An interim answer is none.
    starts.filter(|status| *status >= 200).collect()
}
