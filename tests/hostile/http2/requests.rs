//! Requests, their fields and their bodies, by section 8 of RFC 9113.

use super::super::http1::event;
use super::{Case, Expect, GET, HOST, POST, case, headers, pseudo, request, with};
use crate::support::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, block, frame};

/// Requests by section 8.3.
pub(super) fn requests(host: &str) -> Vec<Case> {
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
pub(super) fn fields(host: &str) -> Vec<Case> {
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
pub(super) fn bodies(host: &str) -> Vec<Case> {
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
