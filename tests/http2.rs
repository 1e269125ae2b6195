//! HTTP/2 with prior knowledge, on the same port as HTTP/1.1, from outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::process::{Server, Start};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

fn start() -> (tempfile::TempDir, Server, SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = Start::tiny_generations(&dir.path().join("data")).ready().unwrap();
    (dir, server, addr)
}

async fn connect(addr: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(
    sender: &SendRequest<Full<Bytes>>,
    method: Method,
    addr: SocketAddr,
    path: &str,
    body: String,
) -> (StatusCode, Version, Value) {
    let request = Request::builder().method(method).uri(format!("http://{addr}{path}"));
    let request = request.header("content-type", "application/json").body(Full::from(body)).unwrap();
    let answer = sender.clone().send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.version, serde_json::from_slice(&body).unwrap())
}

fn event(id: usize) -> String {
    format!(
        r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-01-01T00:00:00Z","source":"s","payload":{id}}}"#
    )
}

#[tokio::test]
async fn many_requests_at_once_on_one_connection_are_each_stored_once() {
    let (_dir, _server, addr) = start();
    let sender = connect(addr).await;
    let mut all = tokio::task::JoinSet::new();
    for id in 0..600 {
        let sender = sender.clone();
        all.spawn(async move { send(&sender, Method::POST, addr, "/publish", event(id % 300)).await });
    }
    while let Some(answer) = all.join_next().await {
        let (status, version, body) = answer.unwrap();
        assert_eq!((status, version, &body["received"]), (StatusCode::OK, Version::HTTP_2, &1.into()));
    }
    let (_, _, again) = send(&sender, Method::POST, addr, "/publish", event(7)).await;
    assert_eq!(again["duplicate_dropped"], 1);
    let (_, _, stats) = send(&sender, Method::GET, addr, "/stats", String::new()).await;
    assert_eq!(stats["unique_processed"], 300);
    assert_eq!(stats["received"], 601);
}

#[tokio::test]
async fn a_refusal_does_not_end_the_other_streams() {
    let (_dir, _server, addr) = start();
    let sender = connect(addr).await;
    let (status, _, body) = send(&sender, Method::POST, addr, "/publish", "{".to_owned()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body["detail"].is_array());
    // This one asks HTTP/1.1 clients to close.
    let large = "x".repeat(17 << 20);
    let request = Request::post(format!("http://{addr}/publish")).body(Full::from(large)).unwrap();
    let refused = sender.clone().send_request(request).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
    let (status, ..) = send(&sender, Method::POST, addr, "/publish", event(1)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_stop_answers_what_it_took_and_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::tiny_generations(&dir.path().join("data"));
    let (mut server, addr) = start.ready().unwrap();
    let sender = connect(addr).await;
    let mut all = tokio::task::JoinSet::new();
    for id in 0..50 {
        let mut sender = sender.clone();
        let request = Request::post(format!("http://{addr}/publish")).body(Full::from(event(id))).unwrap();
        all.spawn(async move { sender.send_request(request).await.map(|answer| answer.status()) });
    }
    let first = all.join_next().await.unwrap().unwrap();
    assert_eq!(first.unwrap(), StatusCode::OK);
    let stopped = tokio::task::spawn_blocking(move || server.terminate());
    let mut answered = 1;
    // What the server never took is an error here, for the client to send again.
    while let Some(answer) = all.join_next().await {
        if let Ok(status) = answer.unwrap() {
            assert_eq!(status, StatusCode::OK);
            answered += 1;
        }
    }
    assert_eq!(stopped.await.unwrap(), Some(0));
    let (_server, addr) = tokio::task::spawn_blocking(move || start.ready()).await.unwrap().unwrap();
    let (_, _, stats) = send(&connect(addr).await, Method::GET, addr, "/stats", String::new()).await;
    assert!(stats["unique_processed"].as_u64().unwrap() >= answered, "{answered} were answered: {stats}");
}

/// What leases a consumer has.
async fn leases(sender: &SendRequest<Full<Bytes>>, addr: SocketAddr) -> Value {
    let (_, _, consumer) = send(sender, Method::GET, addr, "/consumers/c", String::new()).await;
    consumer["leases"].clone()
}

#[tokio::test]
async fn a_reader_that_goes_while_it_waits_has_no_lease_any_more() {
    let (_dir, _server, addr) = start();
    let sender = connect(addr).await;
    let topics = r#"{"topics":["*"]}"#.to_owned();
    send(&sender, Method::PUT, addr, "/consumers/c", topics).await;
    for ends_connection in [false, true] {
        let own = connect(addr).await;
        let (waiter, path) = (own.clone(), "/consumers/c/events?wait=50s&lease=50s");
        let waiting =
            tokio::spawn(async move { send(&waiter, Method::GET, addr, path, String::new()).await });
        while leases(&sender, addr).await == serde_json::json!([]) {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        if ends_connection {
            drop(own);
        }
        let is_free = async {
            while leases(&sender, addr).await != serde_json::json!([]) {
                tokio::task::yield_now().await;
            }
        };
        let freed = tokio::time::timeout(Duration::from_secs(10), is_free).await;
        assert!(freed.is_ok(), "ends its connection: {ends_connection}");
    }
}

#[test]
fn a_preface_that_comes_in_pieces_is_understood() {
    let (_dir, _server, addr) = start();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for piece in [&b"P"[..], b"RI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]] {
        stream.write_all(piece).unwrap();
        std::thread::park_timeout(Duration::from_millis(30));
    }
    // The server's SETTINGS: a frame of type 4 on stream 0.
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!((head[3], &head[5..]), (4, &[0; 4][..]));
}

#[test]
fn what_only_begins_like_a_preface_is_answered_as_http_1() {
    let (_dir, _server, addr) = start();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PRI /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn curl_reads_why_a_body_is_refused_before_its_end() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "curl is not installed");
        eprintln!("NOT RUN: curl is not installed");
        return;
    }
    let (dir, _server, addr) = start();
    let path = dir.path().join("body");
    std::fs::write(&path, vec![0; 20_000_000]).unwrap();
    let body = format!("@{}", path.display());
    for (method, path, header, status) in [
        ("POST", "/publish", "content-type: text/plain", "415"),
        ("POST", "/publish", "content-encoding: br", "415"),
        ("POST", "/publish", "content-type: application/json", "413"),
        ("POST", "/publish?results=no", "content-type: application/json", "422"),
        ("POST", "/publish", "content-type: application/x-ndjson", "422"),
        ("POST", "/nothing", "content-type: application/json", "404"),
        ("POST", "/stats", "content-type: application/json", "405"),
        ("PUT", "/publish", "content-type: application/json", "405"),
    ] {
        for version in ["--http2-prior-knowledge", "--http1.1"] {
            let mut curl = std::process::Command::new("curl");
            curl.args([version, "-sS", "-X", method, "-H", header, "-w", "%{http_code}"]);
            // Otherwise HTTP/1.1 asks before it sends a body of this size.
            curl.args(["-H", "expect:", "--data-binary", &body, &format!("http://{addr}{path}")]);
            let output = curl.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let what = format!(
                "{version} {method} {path} {header}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(output.status.success() && said.ends_with(status), "{what}");
            assert!(said.contains("\"detail\""), "{what}");
        }
    }
}
