//! HTTP/1.1: where a body ends (RFC 9112, sections 6 and 7). A service that sees another end than a
//! proxy before it takes the rest of a body for a request.

use super::http1::{Case, Expect, case};

const BAD: Expect = Expect::Refused(&[400]);
/// A coding that is not understood is 501, a wrong use of one 400.
const CODING: Expect = Expect::Refused(&[400, 501]);

/// What follows is a request of its own for whoever sees the body end before it.
const SMUGGLED: &str = "GET /stats HTTP/1.1\r\nHost: {host}\r\n\r\n";

fn head(fields: &str) -> String {
    format!("POST /publish HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\n{fields}\r\n")
}

/// A body with these lines for its length, and a request after it.
fn length(name: &'static str, fields: &str) -> Case {
    case(name, head(fields) + "{event}" + SMUGGLED, BAD)
}

/// A chunked body under these lines, and a request after it.
fn coded(name: &'static str, fields: &str, expect: Expect) -> Case {
    case(name, head(fields) + "{hex}\r\n{event}\r\n0\r\n\r\n" + SMUGGLED, expect)
}

/// A body that is these chunks, and a request after it.
fn chunks(name: &'static str, chunks: impl AsRef<[u8]>, expect: Expect) -> Case {
    let head = head("Transfer-Encoding: chunked\r\n");
    case(name, [head.as_bytes(), chunks.as_ref(), SMUGGLED.as_bytes()].concat(), expect)
}

fn stored(case: Case) -> Case {
    Case { stores: 1, ..case }
}

pub fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(codings());
    cases.extend(chunked());
    cases.extend(expectations());
    cases
}

fn lengths() -> Vec<Case> {
    const BOTH: Expect = Expect::Answered(&[&[200], &[200]]);
    vec![
        length("a negative length", "Content-Length: -1\r\n"),
        length("a length with a plus", "Content-Length: +{length}\r\n"),
        length("two lengths in one line", "Content-Length: {length}, {length}\r\n"),
        length("two lengths in one line that differ", "Content-Length: {length}, 0\r\n"),
        length("two lengths that differ", "Content-Length: {length}\r\nContent-Length: 0\r\n"),
        length("two lengths that differ, the other way", "Content-Length: 0\r\nContent-Length: {length}\r\n"),
        length("a hexadecimal length", "Content-Length: 0x{hex}\r\n"),
        length("a length with a space in it", "Content-Length: 1 1\r\n"),
        length("a length with a point", "Content-Length: {length}.0\r\n"),
        length("a length with an exponent", "Content-Length: 1e2\r\n"),
        length("a length with a semicolon", "Content-Length: {length};\r\n"),
        length("a length with an underscore", "Content-Length: 1_0\r\n"),
        length("an empty length", "Content-Length:\r\n"),
        length("a length of letters", "Content-Length: abc\r\n"),
        length("a length of wide digits", "Content-Length: \u{ff11}\u{ff10}\r\n"),
        length("a length of 2^64", "Content-Length: 18446744073709551616\r\n"),
        length("a length of 40 digits", "Content-Length: 1000000000000000000000000000000000000000\r\n"),
        length("a length behind a comma", "Content-Length: ,{length}\r\n"),
        length("a length in quotes", "Content-Length: \"{length}\"\r\n"),
        case(
            "a length of 2^63",
            head("Content-Length: 9223372036854775808\r\n"),
            Expect::Refused(&[400, 413]),
        ),
        case(
            "a length of 2^64 - 1",
            head("Content-Length: 18446744073709551615\r\n"),
            Expect::Refused(&[400, 413]),
        ),
        case("a length of 2^62", head("Content-Length: 4611686018427387904\r\n"), Expect::Refused(&[413])),
        case("a length of a terabyte", head("Content-Length: 1099511627776\r\n"), Expect::Refused(&[413])),
        stored(case(
            "a length with zeros before it",
            head("Content-Length: 00{length}\r\n") + "{event}" + SMUGGLED,
            BOTH,
        )),
        stored(case("a right length", head("Content-Length: {length}\r\n") + "{event}" + SMUGGLED, BOTH)),
        case("no length is no body", head("") + SMUGGLED, Expect::Answered(&[&[422], &[200]])),
    ]
}

fn codings() -> Vec<Case> {
    const LENGTH: &str = "Content-Length: {length}\r\n";
    let both = |name, coding: &str| coded(name, &format!("{LENGTH}Transfer-Encoding: {coding}\r\n"), CODING);
    let one = |name, coding: &str| coded(name, &format!("Transfer-Encoding: {coding}\r\n"), CODING);
    vec![
        both("a length and a coding", "chunked"),
        both("a length and a coding in capitals", "Chunked"),
        both("a length and an unknown coding", "xchunked"),
        both("a length and no coding", "identity"),
        coded("a coding and a length", &format!("Transfer-Encoding: chunked\r\n{LENGTH}"), CODING),
        coded(
            "a coding and no length to speak of",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            CODING,
        ),
        one("gzip", "gzip"),
        one("gzip, chunked", "gzip, chunked"),
        one("deflate, chunked", "deflate, chunked"),
        one("chunked, gzip", "chunked, gzip"),
        one("chunked, chunked", "chunked, chunked"),
        one("chunked, identity", "chunked, identity"),
        one("identity, chunked", "identity, chunked"),
        one("identity", "identity"),
        one("an unknown coding", "xchunked"),
        one("a coding with more behind it", "chunkedx"),
        one("a coding with a parameter", "chunked;q=1"),
        one("a coding with a vertical tab", "\x0bchunked"),
        one("a coding with a NUL", "chunked\0"),
        one("a coding in quotes", "\"chunked\""),
        one("two codings with a space between", "chunked chunked"),
        one("an empty coding", ""),
        one("a comma before chunked", ",chunked"),
        one("a comma behind chunked", "chunked,"),
        coded("chunked in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CODING),
        coded(
            "gzip and chunked in two lines",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            CODING,
        ),
        coded(
            "chunked and identity in two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            CODING,
        ),
        coded("a coding with a space before its colon", "Transfer-Encoding : chunked\r\n", BAD),
        coded("a coding on a folded line", "Transfer-Encoding:\r\n chunked\r\n", CODING),
        coded("a coding behind a folded line", "X-A: b\r\n Transfer-Encoding: chunked\r\n", BAD),
        coded("a coding behind a bare LF", "X-A: b\nTransfer-Encoding: chunked\r\n", BAD),
        coded(
            "a coding with an underscore in its name is another header",
            "Transfer_Encoding: chunked\r\n",
            Expect::RefusedAfter(422, &[400]),
        ),
        case(
            "a coding in HTTP/1.0",
            "POST /publish HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             {hex}\r\n{event}\r\n0\r\n\r\n",
            Expect::Refused(&[400, 501]),
        ),
        stored(coded(
            "chunked in capitals",
            "Transfer-Encoding: CHUNKED\r\n",
            Expect::Answered(&[&[200], &[200]]),
        )),
        stored(coded(
            "chunked with blanks",
            "Transfer-Encoding: \t chunked \r\n",
            Expect::Answered(&[&[200], &[200]]),
        )),
    ]
}

fn chunked() -> Vec<Case> {
    const BOTH: Expect = Expect::Answered(&[&[200], &[200]]);
    let long = "a".repeat(20_000);
    vec![
        chunks("a size of no digits", "\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size that is no number", "g\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a negative size", "-1\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size with a plus", "+{hex}\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size with 0x", "0x{hex}\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size with an underscore", "1_0\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size with a space before it", " {hex}\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks(
            "a size of 16 digits",
            "ffffffffffffffff\r\n{event}\r\n0\r\n\r\n",
            Expect::Refused(&[400, 413]),
        ),
        chunks("a size of 17 digits", "fffffffffffffffff\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks(
            "a size that is right modulo 2^64",
            "100000000000000{hex}\r\n{event}\r\n0\r\n\r\n",
            Expect::Closed(&[400, 413]),
        ),
        chunks(
            "a size of a thousand zeros",
            "0".repeat(1_000) + "{hex}\r\n{event}\r\n0\r\n\r\n",
            Expect::Closed(&[400]),
        ),
        chunks("a size line that ends with a bare LF", "{hex}\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a size line that ends with a bare CR", "{hex}\r{event}\r\n0\r\n\r\n", BAD),
        chunks("a chunk that is longer than its size", "2\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("a chunk that ends with a bare LF", "{hex}\r\n{event}\n0\r\n\r\n", BAD),
        chunks("a chunk that ends with nothing", "{hex}\r\n{event}0\r\n\r\n", BAD),
        chunks("a last chunk that ends with a bare LF", "{hex}\r\n{event}\r\n0\n\r\n", BAD),
        chunks("trailers that end with a bare LF", "{hex}\r\n{event}\r\n0\r\n\n", BAD),
        chunks("a last size with more behind it", "{hex}\r\n{event}\r\n0x\r\n\r\n", BAD),
        chunks("an extension with a bare LF", "{hex};a=b\nc\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("an extension with a bare CR", "{hex};a=b\rc\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks("an extension with a NUL", "{hex};a=\0\r\n{event}\r\n0\r\n\r\n", BAD),
        chunks(
            "an extension of 20,000 bytes",
            format!("{{hex}};{long}\r\n{{event}}\r\n0\r\n\r\n"),
            Expect::Closed(&[400, 413, 431]),
        ),
        chunks(
            "a trailer with a space before its colon",
            "{hex}\r\n{event}\r\n0\r\nX : y\r\n\r\n",
            Expect::Closed(&[400]),
        ),
        chunks("a trailer without a colon", "{hex}\r\n{event}\r\n0\r\nX\r\n\r\n", Expect::Closed(&[400])),
        chunks(
            "trailers of 20,000 bytes",
            format!("{{hex}}\r\n{{event}}\r\n0\r\nX: {long}\r\n\r\n"),
            Expect::Closed(&[400, 413, 431]),
        ),
        stored(chunks("a good body", "{hex}\r\n{event}\r\n0\r\n\r\n", BOTH)),
        stored(chunks("a size with zeros before it", "000{hex}\r\n{event}\r\n000\r\n\r\n", BOTH)),
        stored(chunks("an extension", "{hex};name=value\r\n{event}\r\n0;last\r\n\r\n", BOTH)),
        stored(chunks("a trailer", "{hex}\r\n{event}\r\n0\r\nX-Checksum: 1\r\n\r\n", BOTH)),
        stored(chunks(
            "a trailer that names a length",
            "{hex}\r\n{event}\r\n0\r\nContent-Length: 3\r\n\r\n",
            BOTH,
        )),
    ]
}

/// RFC 9110, section 10.1.1, and bodies where none is expected.
fn expectations() -> Vec<Case> {
    const KNOWN: &str = "Content-Length: {length}\r\n";
    let expects = |value: &str| head(&format!("{KNOWN}Expect: {value}\r\n")) + "{event}";
    vec![
        stored(case("an expectation to go on", expects("100-continue"), Expect::Answered(&[&[200]]))),
        stored(case("the same in capitals", expects("100-Continue"), Expect::Answered(&[&[200]]))),
        case(
            "a body behind a GET",
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello",
            Expect::Answered(&[&[200]]),
        ),
        case(
            "a chunked body behind a GET",
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Expect::Answered(&[&[200]]),
        ),
        case(
            "a GET whose body is the beginning of a request, and the rest of that",
            format!("GET /healthz HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 4\r\n\r\n{SMUGGLED}"),
            Expect::RefusedAfter(200, &[400]),
        ),
    ]
}
