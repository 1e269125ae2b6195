//! HTTP over TLS is what it is without.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use sekali::clock::SystemClock;
use sekali::http::Limits;
use sekali::metrics::Metrics;
use sekali::server::{Listeners, Tls, TlsFiles};
use sekali::watch::Reloads;

use super::authority::Authority;
use super::secured::{Client, SOON, Secured};
use crate::support::in_process;
use crate::support::service::event;
use crate::support::until;

/// Serves an empty store with TLS in this process, until that ends.
pub fn serve_here(limits: Limits, authority: &Authority) -> SocketAddr {
    let (sender, addr) = std::sync::mpsc::channel();
    let pair = authority.server();
    std::thread::spawn(move || {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        pair.write(&cert, &key);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(tcp.local_addr().unwrap()).unwrap();
            let files = TlsFiles { cert, key, client_ca: None, client_crl: None };
            let tls = Tls::load(files, &Reloads::new().unwrap()).unwrap();
            let (store, clock) = (Arc::new(in_process::open(dir.path())), Arc::new(SystemClock));
            let (listener, never) = (Listeners { tls: Some(tls), ..tcp.into() }, std::future::pending());
            sekali::server::run(store, limits, clock, Metrics::default(), listener, never).await.unwrap();
        });
    });
    addr.recv().unwrap()
}

#[test]
fn events_are_published_and_read_and_repeated_ones_dropped() {
    let service = Secured::new();
    let mut client = service.client();
    for (stored, dropped) in [(1, 0), (0, 1)] {
        let (status, body) = client.publish(&event("t", "1", 7)).unwrap();
        let counts: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(
            (&counts["unique_processed"], &counts["duplicate_dropped"]),
            (&stored.into(), &dropped.into())
        );
    }
    let (status, body) = client.get("/events/t/1").unwrap();
    assert!(status == 200 && body.contains("\"payload\":7"), "{status} {body}");
}

#[test]
fn framing_that_has_two_readings_is_refused() {
    let service = Secured::new();
    let mut client = service.client();
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).unwrap();
    assert_eq!(client.receive().unwrap().0, 400);
    assert_eq!(client.rest().unwrap(), b"", "and the connection ends in order");
}

#[test]
fn a_page_of_the_service_itself_has_its_scheme() {
    let service = Secured::new();
    let addr = service.addr;
    for (origin, status) in [("https", 200), ("http", 403)] {
        let mut client = service.client();
        client
            .send(format!("GET /stats HTTP/1.1\r\nHost: {addr}\r\nOrigin: {origin}://{addr}\r\n\r\n"))
            .unwrap();
        assert_eq!(client.receive().unwrap().0, status, "{origin}");
    }
}

#[test]
fn every_orderly_end_is_announced() {
    let mut service = Secured::new();
    let mut closing = service.client();
    closing.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(closing.receive().unwrap().0, 200);
    assert_eq!(closing.rest().unwrap(), b"");
    let mut idle = service.client();
    assert_eq!(idle.get("/readyz").unwrap().0, 200);
    assert_eq!(service.server.terminate(), Some(0));
    assert_eq!(idle.rest().unwrap(), b"");
}

#[test]
fn a_reader_that_stands_still_is_ended() {
    let authority = Authority::new("a");
    let addr = serve_here(Limits { stall_seconds: 1, ..Limits::default() }, &authority);
    let mut writer = Client::new(addr, &authority, None, &[]);
    let payload = format!("\"{}\"", "x".repeat(500_000));
    for id in 0..24 {
        assert_eq!(writer.publish(&event("t", &id.to_string(), &payload)).unwrap().0, 200);
    }
    let mut reader = Client::new(addr, &authority, None, &[]);
    reader.send(format!("GET /events?limit=1000 HTTP/1.1\r\nHost: {addr}\r\n\r\n")).unwrap();
    let reset = until(SOON, || reader.tcp().take_error().unwrap());
    assert_eq!(reset.map(|e| e.kind()), Some(ErrorKind::ConnectionReset));
}
