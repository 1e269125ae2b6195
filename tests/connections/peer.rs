//! A service in this process, and connections to it whose every byte is the test's.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use sekali::clock::SystemClock;
use sekali::http::Limits;
use sekali::metrics::Metrics;

use crate::support::client::{Response, receive};
use crate::support::sink::Sink;
use crate::support::until;

/// Seconds until something that is due must have happened.
pub const SOON: u64 = 40;

/// Limits that nothing in a test reaches unless it says so.
pub fn calm() -> Limits {
    Limits { head_seconds: 600, keep_alive_seconds: 600, stall_seconds: 600, ..Limits::default() }
}

/// Serves a store that keeps nothing, until the test's process ends.
pub fn serve(limits: Limits) -> SocketAddr {
    let (sender, addr) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let (store, clock) = (Arc::new(Sink(|_| ())), Arc::new(SystemClock));
            let never = std::future::pending();
            sekali::server::run(store, limits, clock, Metrics::default(), listener, never).await.unwrap();
        });
    });
    addr.recv().unwrap()
}

/// One connection to a service, and what has come on it.
#[derive(Debug)]
pub struct Peer(pub TcpStream);

impl Peer {
    pub fn new(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).unwrap())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(SOON))).unwrap();
        Self(stream)
    }

    /// One from another address of this machine.
    pub fn from(host: u8, addr: SocketAddr) -> Self {
        let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(own, 0)).unwrap();
            socket.connect(addr).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        Self::of(stream)
    }

    /// One that has sent these bytes.
    pub fn sending(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Self {
        let mut peer = Self::new(addr);
        peer.send(bytes);
        peer
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// A GET and its answer.
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.answer()
    }

    /// The answer that comes next. Nothing may have come after it yet.
    pub fn answer(&mut self) -> Response {
        receive(&mut std::io::BufReader::new(&self.0)).unwrap().0
    }

    /// All that still comes until the service ends the connection, which it must.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut piece = [0; 4_096];
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => return rest,
                Ok(length) => rest.extend_from_slice(&piece[..length]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return rest,
                Err(e) => panic!("the connection stays open: {e}"),
            }
        }
    }

    /// Whether the service has ended the connection, as far as is known now.
    pub fn is_ended(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        match peeked {
            Ok(length) => length == 0,
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Waits until `count` connections are open, beside the one that asks.
pub fn wait_for_connections(addr: SocketAddr, count: usize) {
    let line = format!("sekali_http_connections {}", count + 1);
    let reached = until(SOON, || {
        let figures = String::from_utf8(Peer::new(addr).get("/metrics").body).unwrap();
        figures.lines().any(|figure| figure == line).then_some(())
    });
    assert!(reached.is_some(), "there are not {count} connections");
}

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface, and settings that allow `window` bytes of each answer.
pub fn preface(window: u32) -> Vec<u8> {
    let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &settings), &frame(4, 1, 0, &[])].concat()
}

/// A request without a body.
pub fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![if method == "GET" { 0x82 } else { 0 }];
    if method != "GET" {
        literal(&mut block, ":method", method);
    }
    block.push(0x86);
    for (name, value) in [(":path", path), (":authority", "localhost")] {
        block.push(0);
        literal(&mut block, name, value);
    }
    if path == "/events" {
        block.push(0);
        literal(&mut block, "accept", "text/event-stream");
    }
    frame(1, 5, stream, &block)
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

/// The frames that come until the connection ends or `enough` says so: kind, flags, stream,
/// payload. Pings are answered.
pub fn frames(peer: &mut Peer, mut enough: impl FnMut(u8, u32, &[u8]) -> bool) {
    loop {
        let mut head = [0; 9];
        if peer.0.read_exact(&mut head).is_err() {
            enough(u8::MAX, 0, &[]);
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        peer.0.read_exact(&mut payload).unwrap();
        if head[3] == 6 && head[4] & 1 == 0 {
            peer.send(frame(6, 1, 0, &payload));
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if enough(head[3], stream, &payload) {
            return;
        }
    }
}
