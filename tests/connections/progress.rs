//! Answers that nobody takes: their connection is ended, or over HTTP/2 their stream alone.

use std::collections::BTreeSet;
use std::time::Duration;

use sekali::http::Limits;

use super::peer::{Peer, calm, frame, frames, preface, request, serve, wait_for_connections};
use crate::support::until;

/// A reset because the stream is no longer wanted.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn limits() -> Limits {
    Limits { stall_seconds: 1, ..calm() }
}

#[test]
fn a_connection_that_takes_nothing_is_reset() {
    let addr = serve(limits());
    let mut peer = Peer::new(addr);
    // More than the kernel keeps, however much it has learned to keep.
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    peer.0.set_nonblocking(true).unwrap();
    let is_reset = until(40, || {
        let sent = std::io::Write::write(&mut peer.0, requests.as_bytes());
        sent.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock).then_some(())
    });
    assert!(is_reset.is_some(), "the connection stays");
    wait_for_connections(addr, 0);
}

#[test]
fn a_whole_http_2_connection_that_takes_nothing_is_reset_too() {
    let addr = serve(limits());
    let mut peer = Peer::sending(addr, preface(i32::MAX as u32));
    peer.send(frame(8, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()));
    peer.0.set_nonblocking(true).unwrap();
    let mut stream = 1;
    let is_ended = until(40, || {
        let sent = std::io::Write::write(&mut peer.0, &request(stream, "GET", "/openapi.json"));
        stream += 2;
        sent.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock).then_some(())
    });
    assert!(is_ended.is_some(), "the connection stays");
    wait_for_connections(addr, 0);
}

#[test]
fn a_stream_without_room_is_reset_and_the_others_go_on() {
    let addr = serve(limits());
    let mut peer = Peer::sending(addr, preface(0));
    let unread = [1, 3, 5];
    for (stream, path) in unread.into_iter().zip(["/openapi.json", "/healthz", "/events"]) {
        peer.send(request(stream, "GET", path));
    }
    let mut reset = BTreeSet::new();
    frames(&mut peer, |kind, stream, payload| {
        assert_ne!(kind, u8::MAX, "the connection ended");
        if kind == 3 {
            assert_eq!(payload, CANCEL);
            reset.insert(stream);
        }
        reset.len() == unread.len()
    });
    // There is room for an answer without a body.
    peer.send(request(7, "HEAD", "/healthz"));
    frames(&mut peer, |kind, stream, _| {
        assert_ne!(kind, u8::MAX, "the connection ended");
        kind == 1 && stream == 7
    });
}

#[test]
fn a_stream_that_gets_a_byte_of_room_now_and_then_gets_on_too_slowly() {
    let addr = serve(limits());
    let mut peer = Peer::sending(addr, preface(1));
    peer.send(request(1, "GET", "/openapi.json"));
    let mut dripper = Peer(peer.0.try_clone().unwrap());
    let mut bytes = 0;
    frames(&mut peer, |kind, _, payload| {
        assert_ne!(kind, u8::MAX, "the connection ended");
        if kind == 0 {
            bytes += payload.len();
            std::thread::park_timeout(Duration::from_millis(100));
            dripper.send(frame(8, 0, 1, &1_u32.to_be_bytes()));
        }
        kind == 3
    });
    assert!(bytes > 1 && bytes < 4_096, "{bytes} bytes were taken");
}

#[test]
fn a_tail_with_nothing_to_say_is_not_slow() {
    let addr = serve(limits());
    let mut peer = Peer::sending(addr, preface(1 << 16));
    peer.send(request(1, "GET", "/events"));
    std::thread::park_timeout(Duration::from_secs(4));
    // Its heartbeat is far off, so that what comes is the answer to this.
    peer.send(request(3, "HEAD", "/healthz"));
    frames(&mut peer, |kind, stream, _| {
        assert!(kind != u8::MAX && kind != 3, "a frame of kind {kind} on stream {stream}");
        kind == 1 && stream == 3
    });
}
