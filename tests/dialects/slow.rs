//! Time-outs of bodies, in time that is paused: it jumps to the next deadline when nothing else is to be done.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sekali::clock::SystemClock;
use sekali::http::{Connection, Limits, Service};
use sekali::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use crate::service::event;
use crate::support::sink::Sink;

fn service(limits: Limits) -> Arc<Service<Sink>> {
    Arc::new(Service::new(Arc::new(Sink(|_| ())), limits, Arc::new(SystemClock), Metrics::default()))
}

/// A connection to a service, without a network.
fn connect(service: &Arc<Service<Sink>>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service = Arc::clone(service);
    let connection = Arc::new(Connection::within_process());
    tokio::spawn(async move {
        let answer = service_fn(|request| {
            let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
            async move { service.answer(request, &connection).await }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), answer).await;
    });
    client
}

async fn send(stream: &mut DuplexStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn chunk(stream: &mut DuplexStream, text: &str) {
    send(stream, &format!("{:x}\r\n{text}\r\n", text.len())).await;
}

/// All that comes until the service closes, which it must soon.
async fn receive(stream: &mut DuplexStream) -> String {
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

const STREAM: &str = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    for encoding in ["identity", "gzip", "zstd"] {
        let mut stream = connect(&service(Limits::default()));
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n";
        send(&mut stream, &format!("{head}Content-Encoding: {encoding}\r\n\r\n")).await;
        let start: &[u8] = if encoding == "gzip" { b"\x1f\x8b\x08" } else { b"\x28\xb5\x2f" };
        // Some of it comes now and then, which is not enough.
        for byte in start {
            tokio::time::sleep(Duration::from_secs(9)).await;
            stream.write_all(&[*byte]).await.unwrap();
        }
        let answer = receive(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{encoding}: {answer}");
        assert!(answer.contains("30 seconds"), "{encoding}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_last_as_long_as_lines_come() {
    let mut stream = connect(&service(Limits::default()));
    send(&mut stream, STREAM).await;
    for id in 0..20 {
        tokio::time::sleep(Duration::from_secs(29)).await;
        chunk(&mut stream, &if id % 2 == 0 { format!("{}\n", event("1")) } else { "\n".to_owned() }).await;
    }
    send(&mut stream, "0\r\n\r\n").await;
    let answer = receive(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"received\":10,"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_long_line_may_take_longer_than_a_short_one() {
    let mut stream = connect(&service(Limits::default()));
    send(&mut stream, STREAM).await;
    let line = event("1").to_string().replace(r#"{"n":1}"#, &format!("\"{}\"", "x".repeat(300 << 10)));
    for piece in line.as_bytes().chunks(64 << 10) {
        tokio::time::sleep(Duration::from_secs(29)).await;
        chunk(&mut stream, std::str::from_utf8(piece).unwrap()).await;
    }
    send(&mut stream, "0\r\n\r\n").await;
    let answer = receive(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"received\":1,"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_head_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (limits, clock) = (Limits::default(), Arc::new(SystemClock));
    tokio::spawn(sekali::server::run(
        Arc::new(Sink(|_| ())),
        limits,
        clock,
        Metrics::default(),
        listener,
        std::future::pending(),
    ));
    for head in ["", "POST /publish HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        // Closed, or reset with what was sent unread.
        assert!(closed.is_ok(), "{head:?}: the connection stays open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_whole_line_for_too_long_ends_with_what_is_stored() {
    let mut stream = connect(&service(Limits::default()));
    send(&mut stream, STREAM).await;
    chunk(&mut stream, &format!("{}\n{}\n", event("1"), event("2"))).await;
    // A byte now and then is no line.
    for byte in ["{", "\"", "t"] {
        tokio::time::sleep(Duration::from_secs(9)).await;
        chunk(&mut stream, byte).await;
    }
    let answer = receive(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"progress\":{\"lines\":2,\"received\":2,"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_finds_no_room_is_refused_and_a_stream_says_how_far_it_got() {
    let limits = Limits { inflight_bytes_max: 64 << 10, body_bytes_max: 64 << 10, ..Limits::default() };
    let service = service(limits);
    let (mut stream, mut holder) = (connect(&service), connect(&service));
    send(&mut stream, STREAM).await;
    chunk(&mut stream, &format!("{}\n", event("1"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // All room is taken by a body that does not come.
    send(&mut holder, "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65536\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    chunk(&mut stream, "{").await;
    chunk(&mut stream, "}").await;
    let answer = receive(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after") && answer.contains("\"progress\":{\"lines\":1,"), "{answer}");
}
