//! Bodies that are slow, large, packed or never sent: others go on publishing meanwhile, and honest
//! ones get through.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::sink::Sink;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use sekali::clock::SystemClock;
use sekali::http::{Connection, Limits, Service as Http};
use sekali::limits::BODY_WINDOW_SECONDS;
use sekali::metrics::Metrics;
use serde_json::Value;

const LARGEST: usize = 16 << 20;

fn event(id: impl std::fmt::Display, payload: &str) -> String {
    format!(
        r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"s","payload":{payload}}}"#
    )
}

fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A service with `bytes` bytes of room for bodies.
fn with_room(bytes: usize, body_bytes_max: usize) -> Service {
    Service::started(|mut start| {
        let set = |name: &str, value: usize| (name.into(), value.to_string().into());
        start.env.push(set("SEKALI_INFLIGHT_BYTES_MAX", bytes));
        start.env.push(set("SEKALI_BODY_BYTES_MAX", body_bytes_max));
        (start.generation_events, start.generation_bytes) = (100_000, 64 << 20);
        start
    })
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A request whose head declares `length` bytes, of which `sent` come.
fn begin(addr: SocketAddr, headers: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = connect(addr);
    let head = format!("POST /publish HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(&[head.as_bytes(), sent].concat()).unwrap();
    stream
}

fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    // Closed, or reset with what was sent unread.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Others publish events, each of which is taken.
fn publish(service: &Service, from: usize, events: usize) {
    let mut client = Client::new(service.addr);
    for id in from..from + events {
        let answer = client.post("/publish", event(format!("honest-{id}"), "{}").as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "event {id}: {}", String::from_utf8_lossy(&answer.body));
    }
}

fn held(service: &Service) -> usize {
    let text = Client::new(service.addr).get("/metrics").unwrap().body;
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with("sekali_http_body_bytes ")).unwrap();
    line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() as usize
}

#[test]
fn bodies_that_are_declared_and_not_sent_take_no_room() {
    let service = Service::new();
    let json = "Content-Type: application/json\r\n";
    let mut waiting: Vec<_> = (0..32).map(|_| begin(service.addr, json, LARGEST, b"")).collect();
    // A frame that declares a window of 8 MiB; a gzip head; both without anything in them.
    let lines = "Content-Type: application/x-ndjson\r\nContent-Encoding: ";
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    waiting.extend((0..32).map(|_| begin(service.addr, &format!("{lines}zstd\r\n"), LARGEST, &window)));
    waiting.extend((0..32).map(|_| begin(service.addr, &format!("{lines}gzip\r\n"), LARGEST, b"")));
    publish(&service, 0, 100);
    assert!(held(&service) < 1 << 20, "{} bytes are held for what was not sent", held(&service));
    drop(waiting);
}

#[tokio::test]
async fn streams_of_one_connection_that_declare_and_do_not_send_take_no_room() {
    let service = Service::new();
    let addr = service.addr;
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..64 {
        let never = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::io::Error>>();
        let request = Request::post(format!("http://{addr}/publish")).header("content-length", LARGEST);
        let request =
            request.header("content-type", "application/json").body(StreamBody::new(never)).unwrap();
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request).await.map(|answer| answer.status()) });
    }
    tokio::task::spawn_blocking(move || {
        publish(&service, 0, 100);
        assert_eq!(held(&service), 0);
    })
    .await
    .unwrap();
}

#[test]
fn bodies_that_stall_with_all_the_room_make_way_for_others() {
    let service = with_room(4 << 20, 1 << 20);
    let some = vec![b' '; 200 << 10];
    let json = "Content-Type: application/json\r\n";
    let mut stalled: Vec<_> = (0..40).map(|_| begin(service.addr, json, 1 << 20, &some)).collect();
    // They hold what they may at once, and are found to be slow within a second.
    assert!(
        crate::support::until(30, || (held(&service) > 1 << 20).then_some(())).is_some(),
        "{}",
        held(&service)
    );
    publish(&service, 0, 100);
    // One that is as large as theirs, and comes at once.
    let large = format!("[{}]", event("large", &format!("\"{}\"", "x".repeat(900 << 10))));
    let taken = crate::support::until(30, || {
        let answer = Client::new(service.addr).post("/publish", large.as_bytes()).unwrap();
        (answer.status == 200).then_some(())
    });
    assert!(taken.is_some(), "a body of another sender finds no room");
    for stream in &mut stalled {
        assert!(matches!(status(stream), 408 | 503), "a body that stalls is ended with a reason");
    }
    assert_eq!(held(&service), 0);
}

#[test]
fn two_senders_of_the_largest_bodies_both_go_on() {
    let service = with_room(16 << 20, 4 << 20);
    // 7 MB of which 8 MiB at most fit, 4 MiB as they are sent.
    let payload = format!("\"{}\"", "x".repeat(10_000));
    let body = |sender: usize| {
        let events: Vec<_> = (0..700).map(|id| event(format!("{sender}-{id}"), &payload)).collect();
        gzip(format!("[{}]", events.join(",")).as_bytes(), 1)
    };
    std::thread::scope(|scope| {
        for sender in 0..3 {
            let (body, addr) = (body(sender), service.addr);
            scope.spawn(move || {
                let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
                for turn in 0..5 {
                    let taken = crate::support::until(60, || {
                        let answer = Client::new(addr).post_with("/publish", &headers, &body).unwrap();
                        (answer.status == 200).then_some(())
                    });
                    assert!(taken.is_some(), "sender {sender} got no answer in turn {turn}");
                }
            });
        }
        publish(&service, 0, 50);
    });
    assert_eq!(service.stored(), 3 * 700 + 50);
    assert_eq!(held(&service), 0);
}

#[test]
fn lines_that_compress_a_hundred_times_and_more_are_taken() {
    let service = Service::new();
    let trace = format!(
        "\"{}\"",
        r"java.lang.IllegalStateException\n\tat com.example.Worker.run(Worker.java:42)".repeat(40)
    );
    let same: String = (0..6_000).map(|id| event(id, &trace) + "\n").collect();
    let (packed, mut random) = (gzip(same.as_bytes(), 9), fastrand::Rng::with_seed(7));
    assert!(packed.len() * 100 < same.len(), "{} of {}", packed.len(), same.len());
    let lines = [("Content-Type", "application/x-ndjson"), ("Content-Encoding", "gzip")];
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        let answer = Client::new(service.addr).post_with("/publish", headers, body).unwrap();
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let (status, answer) = post(&lines, &packed);
    assert_eq!((status, &answer["received"]), (200, &6_000.into()), "{answer}");
    // A body whose begin alone compresses well, as lines and whole.
    let mut noise = || (0..200).map(|_| random.alphanumeric()).collect::<String>();
    let events: Vec<_> = (6_000..8_000)
        .map(|id| event(id, &trace))
        .chain((8_000..8_500).map(|id| event(id, &format!("\"{}\"", noise()))))
        .collect();
    let (status, answer) = post(&lines, &gzip(events.join("\n").as_bytes(), 9));
    assert_eq!((status, &answer["unique_processed"]), (200, &2_500.into()), "{answer}");
    let json = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let (status, answer) = post(&json, &gzip(format!("[{}]", events.join(",")).as_bytes(), 9));
    assert_eq!((status, &answer["duplicate_dropped"]), (200, &2_500.into()), "{answer}");
}

#[test]
fn a_stream_that_decodes_to_no_events_is_ended() {
    let service = Service::new();
    let lines = [("Content-Type", "application/x-ndjson"), ("Content-Encoding", "gzip")];
    let one = event("1", "{}") + "\n";
    for (query, filler) in [("", "\n"), ("", " \r\n"), ("?partial=true", "{}\n"), ("?partial=true", "x")] {
        let many = filler.repeat((256 << 20) / filler.len());
        let body = gzip(&[one.as_bytes(), many.as_bytes()].concat(), 6);
        let answer = Client::new(service.addr).post_with(&format!("/publish{query}"), &lines, &body).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 413, "{filler:?}: {text}");
        let progress: Value = serde_json::from_str(&text).unwrap();
        let (lines, settled) = (&progress["progress"]["lines"], (8 << 20) / filler.len() as u64);
        assert!(lines.as_u64().unwrap() < settled.max(10), "{filler:?} was decoded on and on: {lines}");
        assert_eq!(progress["progress"]["received"], 1, "{filler:?}: what came before is stored");
    }
    // Plain ones are as many as their sender likes to send.
    let plain = [("Content-Type", "application/x-ndjson")];
    let body = [one.as_bytes(), &vec![b'\n'; 8 << 20], one.as_bytes()].concat();
    assert_eq!(Client::new(service.addr).post_with("/publish", &plain, &body).unwrap().status, 200);
}

/// The threads that a runtime of one thread starts are those that work beside it.
#[test]
fn a_large_body_is_decoded_beside_the_threads_that_answer() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().on_thread_start(|| _ = STARTED.fetch_add(1, Ordering::SeqCst));
    let limits = Limits::default();
    let service =
        Arc::new(Http::new(Arc::new(Sink(|_| ())), limits, Arc::new(SystemClock), Metrics::default()));
    builder.build().unwrap().block_on(async {
        let (client, server) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move {
            let connection = Arc::new(Connection::within_process());
            let answer = service_fn(|request| {
                let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
                async move { service.answer(request, &connection).await }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(server), answer).await;
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let large = format!("\"{}\"", "x".repeat(300 << 10));
        for (payload, is_beside) in [("1", false), (&*large, true)] {
            for kind in ["application/json", "application/cloudevents+json"] {
                let body = match kind {
                    "application/json" => event("1", payload),
                    _ => format!(
                        r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{payload}}}"#
                    ),
                };
                let request =
                    Request::post("/publish").header("host", "localhost").header("content-type", kind);
                sender.ready().await.unwrap();
                let answer =
                    sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                answer.into_body().collect().await.unwrap();
                let started = STARTED.load(Ordering::SeqCst);
                assert_eq!(started > 0, is_beside, "{kind} of {} bytes", payload.len());
            }
        }
    });
}

#[test]
fn a_sender_is_not_blamed_for_a_pause_of_the_service() {
    let service = Service::new();
    let event = event(1, "{}");
    let (first, rest) = event.as_bytes().split_at(10);
    let mut stream =
        begin(service.addr, "content-type: application/json\r\nConnection: close\r\n", event.len(), first);
    // Its time has begun.
    sekali::sync::sleep(Duration::from_millis(500));
    service.server.signal(Signal::STOP);
    sekali::sync::sleep(Duration::from_secs(BODY_WINDOW_SECONDS + 2));
    stream.write_all(rest).unwrap();
    service.server.signal(Signal::CONT);
    assert_eq!(status(&mut stream), 200);
    assert_eq!(service.stored(), 1);
}
