//! Frames, settings and the compression of fields, by sections 4 to 6 of RFC 9113 and by RFC 7541.

use super::{Case, Expect, GET, HOST, POST, case, headers};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

/// Sections 4 to 6: frames.
pub(super) fn frames(host: &str) -> Vec<Case> {
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
pub(super) fn settings() -> Vec<Case> {
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
pub(super) fn compression(host: &str) -> Vec<Case> {
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
