//! Time-outs of bodies, in time that is paused: it jumps to the next deadline when nothing else is
//! to be done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sekali::clock::{Clock, SystemClock, Timestamp};
use sekali::http::{Connection, Limits, Service};
use sekali::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::service::event;
use crate::support::sink::Sink;

/// A clock that jumps with the timers.
#[derive(Debug)]
struct Jumping;

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    #[allow(clippy::disallowed_methods, reason = "this is a clock")]
    fn monotonic(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

fn service(limits: Limits) -> Arc<Service<Sink>> {
    service_by(limits, Arc::new(Jumping))
}

fn service_by(limits: Limits, clock: Arc<dyn Clock>) -> Arc<Service<Sink>> {
    Arc::new(Service::new(Arc::new(Sink(|_| ())), limits, clock, Metrics::default()))
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
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
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
            tokio::time::sleep(Duration::from_secs(4)).await;
            // It may be refused already.
            let _ = stream.write_all(&[*byte]).await;
        }
        let answer = receive(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{encoding}: {answer}");
        assert!(answer.contains("30 seconds"), "{encoding}: {answer}");
    }
}

/// Sends a body of `length` bytes, `each` a second; the answer, and the seconds until it came.
async fn send_slowly(each: usize, length: usize) -> (String, u64) {
    let mut stream = connect(&service(Limits::default()));
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ";
    send(&mut stream, &format!("{head}{length}\r\n\r\n")).await;
    let begin = Jumping.monotonic();
    let padded = format!("{}{}", event("1"), " ".repeat(length));
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = async {
        for piece in padded.as_bytes()[..length].chunks(each) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if writer.write_all(piece).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = String::new();
    tokio::select! {
        () = sending => {}
        read = reader.read_to_string(&mut answer) => { read.unwrap(); }
    }
    (answer, begin.elapsed_by(&Jumping))
}

trait ElapsedBy {
    fn elapsed_by(&self, clock: &dyn Clock) -> u64;
}

impl ElapsedBy for Instant {
    fn elapsed_by(&self, clock: &dyn Clock) -> u64 {
        clock.monotonic().duration_since(*self).as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_must_keep_a_pace_that_any_link_has() {
    let (answer, _) = send_slowly(1_200, 28_000).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "a modem's pace: {answer}");
    let (answer, seconds) = send_slowly(500, 28_000).await;
    assert!(answer.starts_with("HTTP/1.1 408") && seconds < 15, "half of that, after {seconds} s: {answer}");
    let (answer, seconds) = send_slowly(5_000, 1 << 20).await;
    assert!(answer.starts_with("HTTP/1.1 408") && seconds < 35, "no end, after {seconds} s: {answer}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_lines_without_an_event_ends_with_what_is_stored() {
    let partial = STREAM.replacen("/publish", "/publish?partial=true", 1);
    for (head, blank, most) in [
        (STREAM, "\n", 40),
        (STREAM, " \r\n", 40),
        (STREAM, &" ".repeat(2_000), 40),
        // What is no event is refused, and goes on for once.
        (&partial, "x\n", 80),
        (&partial, "{}\n", 80),
    ] {
        let mut stream = connect(&service(Limits::default()));
        send(&mut stream, head).await;
        chunk(&mut stream, &format!("{}\n", event("1"))).await;
        let begin = Jumping.monotonic();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sending = async {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                let piece = format!("{:x}\r\n{blank}\r\n", blank.len());
                if writer.write_all(piece.as_bytes()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut answer = String::new();
        tokio::select! {
            () = sending => {}
            read = reader.read_to_string(&mut answer) => { read.unwrap(); }
        }
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("\"unique_processed\":1,"), "{answer}");
        assert!(begin.elapsed_by(&Jumping) < most, "{} s", begin.elapsed_by(&Jumping));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_faulty_lines_that_come_fast_enough_goes_on() {
    let mut stream = connect(&service(Limits::default()));
    send(&mut stream, &STREAM.replacen("/publish", "/publish?partial=true", 1)).await;
    for _ in 0..40 {
        chunk(&mut stream, &"x\n".repeat(2_600)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    chunk(&mut stream, &format!("{}\n", event("1"))).await;
    send(&mut stream, "0\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 207"), "{answer}");
    assert!(answer.contains("\"unique_processed\":1,") && answer.contains("\"rejected\":104000"), "{answer}");
}

/// What a service answers to a stream of HTTP/2 that brings `piece` every five seconds.
async fn answer_over_http2(piece: &'static str) -> (StatusCode, String) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service = service(Limits::default());
    tokio::spawn(async move {
        let connection = Arc::new(Connection::within_process());
        let answer = service_fn(|request| {
            let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
            async move { service.answer(request, &connection).await }
        });
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(server), answer).await;
    });
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let body = stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece.as_bytes()))), ()))
    });
    let kind = if piece.is_empty() { "application/json" } else { "application/x-ndjson" };
    let request = Request::post("http://localhost/publish").header("content-type", kind);
    let request = request.header("content-length", if piece.is_empty() { "16777216" } else { "1000000" });
    let request = request.body(Box::pin(StreamBody::new(body))).unwrap();
    let answer =
        tokio::time::timeout(Duration::from_secs(60), sender.send_request(request)).await.unwrap().unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn streams_of_http2_are_held_to_the_same_pace() {
    for piece in ["", "\n"] {
        let (status, answer) = answer_over_http2(piece).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{piece:?}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_room_is_short_the_slowest_goes_first() {
    // 5 MiB for bodies that are not large, which a body may have a quarter of.
    let limits = Limits { inflight_bytes_max: 16 << 20, body_bytes_max: 4 << 20, ..Limits::default() };
    let service = service(limits);
    let begin = async |length: usize| {
        let mut stream = connect(&service);
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n";
        send(&mut stream, &format!("{head}{}", " ".repeat(length))).await;
        stream
    };
    let mut stalled = Vec::new();
    for _ in 0..6 {
        stalled.push(begin(1_000_000).await);
    }
    let mut steady = begin(200_000).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(&mut steady, &" ".repeat(100_000)).await;
    }
    // One more needs room, which those that stall make.
    let mut other = connect(&service);
    let text = event("1").to_string();
    let length = 1_400_000 + text.len();
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    send(&mut other, &format!("{head}{}{text}", " ".repeat(1_400_000))).await;
    let answer = receive(&mut other).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    send(&mut steady, &format!("{}{text}{}", " ".repeat(300_000), " ".repeat(1_000_000 - text.len()))).await;
    let answer = receive(&mut steady).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut ended = 0;
    for mut stream in stalled {
        let answer = receive(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        ended += u32::from(answer.starts_with("HTTP/1.1 503"));
    }
    assert!((1..6).contains(&ended), "{ended} of six made way, and no more than had to");
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_last_as_long_as_lines_come() {
    let mut stream = connect(&service(Limits::default()));
    send(&mut stream, STREAM).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(29)).await;
        // The same event again is dropped, and keeps the stream alive.
        chunk(&mut stream, &format!("\n{}\n", event("1"))).await;
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
    // Its clock stands, so that nobody is found to be slow.
    let service = service_by(limits, Arc::new(SystemClock));
    let mut stream = connect(&service);
    send(&mut stream, STREAM).await;
    chunk(&mut stream, &format!("{}\n", event("1"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut holders = Vec::new();
    for _ in 0..10 {
        let mut holder = connect(&service);
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65536\r\n\r\n";
        send(&mut holder, &format!("{head}{}", " ".repeat(4_000))).await;
        holders.push(holder);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Longer than what may be left.
    chunk(&mut stream, &format!("{{{}", " ".repeat(5_000))).await;
    chunk(&mut stream, "}").await;
    let answer = receive(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after") && answer.contains("\"progress\":{\"lines\":1,"), "{answer}");
}
