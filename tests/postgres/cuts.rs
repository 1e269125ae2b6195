//! Connections to the database that are cut between two messages of its protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value;

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::postgres::Postgres;
use crate::support::process::Server;
use crate::support::rounds;
use crate::support::service::event;

/// Carries connections to a server's socket, message by message.
struct Proxy {
    addr: SocketAddr,
    /// Messages after which a connection is cut; below 0 none is.
    left: Arc<AtomicI64>,
    cuts: Arc<AtomicI64>,
}

impl Proxy {
    fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (left, cuts) = (Arc::new(AtomicI64::new(-1)), Arc::new(AtomicI64::new(0)));
        let (socket, counts) = (socket.to_owned(), (Arc::clone(&left), Arc::clone(&cuts)));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let counts = counts.clone();
                carry(client.try_clone().unwrap(), server.try_clone().unwrap(), true, ends, counts.clone());
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                carry(server, client, false, ends, counts);
            }
        });
        Self { addr, left, cuts }
    }
}

/// Carries one direction; the first message of a client has no letter before its length.
fn carry(
    mut from: impl Read + Send + 'static,
    mut into: impl Write + Send + 'static,
    mut is_first: bool,
    ends: (TcpStream, UnixStream),
    (left, cuts): (Arc<AtomicI64>, Arc<AtomicI64>),
) {
    std::thread::spawn(move || {
        let mut carry = || -> std::io::Result<()> {
            loop {
                let mut head = vec![0; if is_first { 4 } else { 5 }];
                from.read_exact(&mut head)?;
                let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
                is_first = false;
                let mut body = vec![0; length - 4];
                from.read_exact(&mut body)?;
                if left.load(Ordering::SeqCst) >= 0 && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                into.write_all(&[head, body].concat())?;
            }
        };
        let _ = carry();
        let _ = ends.0.shutdown(Shutdown::Both);
        let _ = ends.1.shutdown(Shutdown::Both);
    });
}

/// A database, a node that reaches it through a proxy, and where the node listens.
fn started() -> Option<(Postgres, tempfile::TempDir, Proxy, Server, SocketAddr)> {
    let cluster = cluster("")?;
    cluster.create("events");
    let proxy = Proxy::to(&cluster.socket());
    let url = format!("postgres://postgres@{}/events?sslmode=disable", proxy.addr);
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = node(dir.path(), &url, "local").ready().unwrap();
    Some((cluster, dir, proxy, server, addr))
}

#[test]
fn an_acknowledgement_whose_answer_was_lost_is_answered() {
    let Some((_cluster, _dir, proxy, mut server, addr)) = started() else { return };
    let mut client = Client::new(addr);
    let json = [("Content-Type", "application/json")];
    let made = client.send("PUT", "/consumers/c", &json, br#"{"topics":["cut"]}"#).unwrap();
    assert_eq!(made.status, 201);
    let cuts = rounds("SEKALI_DATABASE_CUTS");
    for number in 0..cuts {
        let sent = client.post("/publish", event("cut", &format!("{number}"), number).as_bytes()).unwrap();
        assert_eq!(sent.status, 200);
        proxy.left.store((number % 24) as i64, Ordering::SeqCst);
        // Without a name the lease ends with the acknowledgement, so a second one finds none.
        let answer = client.get("/consumers/c/events?limit=1").unwrap();
        let given: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(given["events"][0]["offset"], number, "cut {number}: {given}\n{}", server.log());
        let receipt = serde_json::json!({"receipt": given["receipt"]}).to_string();
        let answer = client.post("/consumers/c/ack", receipt.as_bytes()).unwrap();
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "cut {number}: {said}\n{}", server.log());
        proxy.left.store(-1, Ordering::SeqCst);
    }
    assert!(proxy.cuts.load(Ordering::SeqCst) * 2 > cuts as i64, "too few cuts");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn an_event_whose_answer_was_lost_is_answered_as_stored() {
    let Some((_cluster, _dir, proxy, mut server, addr)) = started() else { return };
    let mut client = Client::new(addr);
    let cuts = rounds("SEKALI_DATABASE_CUTS");
    for number in 0..cuts {
        // The service looks at the database while nothing is sent, so not each cut is a sender's;
        // of several places after which it is made, most are.
        proxy.left.store((number % 24) as i64, Ordering::SeqCst);
        for part in 0..3 {
            let body = event("cut", &format!("{number}-{part}"), number);
            let answer = client.post("/publish", body.as_bytes()).unwrap();
            let json: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(answer.status, 200, "cut {number}: {json}\n{}", server.log());
            assert_eq!(json["results"][0]["status"], "stored", "cut {number}: {json}\n{}", server.log());
        }
    }
    proxy.left.store(-1, Ordering::SeqCst);
    let made = proxy.cuts.load(Ordering::SeqCst);
    assert!(made * 4 > cuts as i64 * 3, "{made} of {cuts} cuts were made");
    let mut stats = Value::Null;
    let read = crate::support::until(30, || {
        let answer = client.get("/stats").ok().filter(|answer| answer.status == 200)?;
        stats = serde_json::from_slice(&answer.body).unwrap();
        Some(())
    });
    assert!(read.is_some(), "{}", server.log());
    assert_eq!(stats["unique_processed"], cuts * 3);
    assert_eq!(stats["received"], cuts * 3, "no event was counted twice");
    eprintln!("{made} connections cut, each event answered as stored once");
    assert_eq!(server.terminate(), Some(0));
}
