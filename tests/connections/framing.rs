//! HTTP/1 messages that two readers could tell apart differently: each gets the answer that RFC
//! 9112 gives it, and nothing after it on the connection is taken for a request.

use super::peer::{Peer, calm, serve};

#[test]
fn a_refusal_of_what_hyper_is_not_shown_protects_browsers_as_all_answers_do() {
    let mut peer = Peer::new(serve(calm()));
    peer.send("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n");
    let answer = String::from_utf8(peer.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 501"), "{answer}");
    for header in [
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(answer.contains(&format!("\r\n{header}\r\n")), "{answer}");
    }
}

const EVENT: &str = r#"{"topic":"t","event_id":"1","timestamp":"2026-11-22T10:00:00Z","source":"s"}"#;

fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    text.match_indices("HTTP/1.1 ").map(|(at, _)| text[at + 9..at + 12].parse().unwrap()).collect()
}

/// Headers and a body of `POST /publish`, and the status of its answer.
fn posts() -> Vec<(String, String, u16)> {
    let chunked = format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len());
    let te = |value: &str| format!("Transfer-Encoding: {value}\r\n");
    let length = |value: &str| format!("Content-Length: {value}\r\n");
    let mut posts: Vec<(String, String, u16)> = Vec::new();
    for (value, status) in [
        ("gzip, chunked", 501),
        ("gzip", 501),
        ("identity", 501),
        ("xchunked", 501),
        ("chunked;q=1", 501),
        ("\"chunked\"", 501),
        ("chunked, gzip", 501),
        ("chunked, chunked", 400),
        ("chunked,,chunked", 400),
        ("", 400),
        (",", 400),
        ("\x0bchunked", 400),
        ("chunked\0", 400),
    ] {
        posts.push((te(value), chunked.clone(), status));
    }
    for (headers, status) in [
        (te("chunked").repeat(2), 400),
        (te("gzip") + &te("chunked"), 501),
        (te("chunked") + &length("5"), 400),
        (length("5") + &te("chunked"), 400),
        (length("5") + &te("gzip, chunked"), 400),
        ("TRANSFER-ENCODING : chunked\r\n".to_owned(), 400),
        ("Transfer-Encoding:\r\n chunked\r\n".to_owned(), 400),
        ("Transfer-Encoding\0: chunked\r\n".to_owned(), 400),
    ] {
        posts.push((headers, chunked.clone(), status));
    }
    for value in [
        "+5",
        "-5",
        "5, 5",
        "5,6",
        "0x5",
        "5.0",
        "5 5",
        "",
        "five",
        "9223372036854775808",
        "99999999999999999999",
    ] {
        posts.push((length(value), "abcde".to_owned(), 400));
    }
    posts.push((length("5") + &length("5"), "abcde".to_owned(), 400));
    posts.push((length("5") + &length("6"), "abcdef".to_owned(), 400));
    let (size, long, many) = (EVENT.len(), "x".repeat(2_000), "0".repeat(20));
    for body in [
        format!("{size:x}\n{EVENT}\r\n0\r\n\r\n"),
        format!("{size:x}\r\n{EVENT}\n0\r\n\r\n"),
        format!("{size:x}\r\n{EVENT}XX0\r\n\r\n"),
        format!("{size:x};x={long}\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("{size:x};x\n=y\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("{many}{size:x}\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("1ffffffffffffffff\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("0x{size:x}\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("-{size:x}\r\n{EVENT}\r\n0\r\n\r\n"),
        format!(" {size:x}\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("\r\n{EVENT}\r\n0\r\n\r\n"),
        format!("{size:x}\r\n{EVENT}\r\n0\r\nX: y\n\r\n\r\n"),
        format!("{size:x}\r\n{EVENT}\r\n0\r\n X: y\r\n\r\n"),
    ] {
        posts.push((te("chunked"), body, 400));
    }
    posts
}

#[test]
fn a_body_whose_end_is_in_doubt_is_refused_and_ends_the_connection() {
    let addr = serve(calm());
    for (headers, body, status) in posts() {
        let request = format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        );
        for behind in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
            // What was answered before it stays so.
            let all = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{request}{behind}");
            let answers = Peer::sending(addr, &all).rest();
            let text = String::from_utf8_lossy(&answers);
            assert_eq!(statuses(&answers), [200, status], "{headers:?} {body:.60?}: {text}");
            assert!(text.contains("\r\nconnection: close\r\n"), "{headers:?}: {text}");
        }
    }
}

#[test]
fn a_head_that_has_more_than_one_reading_is_refused() {
    let addr = serve(calm());
    let long = format!("X: {}", "x".repeat(17_000));
    let blanks = "\r\n".repeat(20);
    for (head, status) in [
        ("GET /healthz HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\r\nHost: localhost\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x7fb\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX(): a\r\n\r\n", 400),
        ("GET /heal\0thz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET\t/healthz\tHTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /healthz\r\n\r\n", 400),
        ("GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n", 400),
        ("POST /publish HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("\x16\x03\x01\0\x05hello", 400),
        (&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{long}\r\n\r\n"), 431),
        (&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{long}"), 431),
        (&format!("GET /{} HTTP/1.1\r\n", "x".repeat(17_000)), 431),
        (&format!("{blanks}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400),
    ] {
        let answers = Peer::sending(addr, head).rest();
        assert_eq!(statuses(&answers), [status], "{head:.80?}: {}", String::from_utf8_lossy(&answers));
    }
}

#[test]
fn what_is_sound_is_taken_however_it_is_cut() {
    let addr = serve(calm());
    let post = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let all = [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("{post}Content-Length: {}\r\n\r\n{EVENT}", EVENT.len()),
        format!(
            "{post}transfer-encoding:Chunked\r\n\r\n{:X};a=\"b\"\r\n{EVENT}\r\n0;c\r\nX: y\r\n\r\n",
            EVENT.len()
        ),
        "\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nX:\r\nY: \t ü \r\n\r\n".to_owned(),
        format!(
            "{post}Transfer-Encoding: chunked\r\n\r\n10\r\n{}\r\n3c \r\n{}\r\n00\r\n\r\n",
            &EVENT[..16],
            &EVENT[16..]
        ),
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(16_000)),
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
    ]
    .concat();
    assert_eq!(EVENT.len(), 0x10 + 0x3c);
    for step in [all.len(), 1, 2, 7, 100, 1_000] {
        let mut peer = Peer::new(addr);
        for piece in all.as_bytes().chunks(step) {
            peer.send(piece);
            if step < 100 && all.len() < 4_000 {
                std::thread::yield_now();
            }
        }
        let answers = peer.rest();
        assert_eq!(statuses(&answers), [200; 7], "{step}: {}", String::from_utf8_lossy(&answers));
    }
}
