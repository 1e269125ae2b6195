//! A server on a store of its own, and requests to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Server, Start};

pub type Headers<'a> = &'a [(&'a str, &'a str)];

pub const LINES: (&str, &str) = ("Content-Type", "application/x-ndjson");
pub const GZIP: (&str, &str) = ("Content-Encoding", "gzip");
pub const ZSTD: (&str, &str) = ("Content-Encoding", "zstd");

pub struct Service {
    _dir: tempfile::TempDir,
    pub server: Server,
    pub addr: SocketAddr,
    client: Client,
}

impl Service {
    pub fn new() -> Self {
        Self::started(Start::tiny_generations)
    }

    pub fn started(start: impl FnOnce(&Path) -> Start) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, addr) = start(&dir.path().join("data")).ready().unwrap();
        Self { _dir: dir, server, addr, client: Client::new(addr) }
    }

    pub fn post(&mut self, query: &str, headers: Headers<'_>, body: impl AsRef<[u8]>) -> (u16, Value) {
        let answer = self.client.post_with(&format!("/publish{query}"), headers, body.as_ref()).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    pub fn get(&mut self, path: &str) -> (u16, Value) {
        let answer = self.client.get(path).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    /// The body of a successful answer, as it came.
    pub fn text(&mut self, path: &str) -> String {
        let answer = self.client.get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        String::from_utf8(answer.body).unwrap()
    }

    pub fn stored(&mut self) -> u64 {
        self.get("/stats").1["unique_processed"].as_u64().unwrap()
    }

    /// The most memory it ever had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.server.status("VmHWM:")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

/// Sends a piece in HTTP's chunked coding.
pub fn send_chunk(stream: &mut TcpStream, piece: &[u8]) -> std::io::Result<()> {
    stream.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
}

/// Begins a request whose body comes in chunks.
pub fn begin(stream: &mut TcpStream, query: &str, headers: Headers<'_>) {
    let mut head =
        format!("POST /publish{query} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
}

/// What comes until the server closes or the JSON body of one answer is whole: status and body.
pub fn receive(stream: &mut TcpStream) -> (u16, Value) {
    let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        if let Some(body) = body {
            return (text[9..12].parse().unwrap(), body);
        }
        assert!(read > 0, "there was no whole answer: {text}");
    }
}

pub fn event(id: &str) -> Value {
    json!({"topic": "t", "event_id": id, "timestamp": "2026-11-22T10:00:00Z", "source": "test", "payload": {"n": 1}})
}

pub fn cloud_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": "t", "data": {"n": 1}})
}

pub fn gzip(plain: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(plain: impl AsRef<[u8]>) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain.as_ref(), ruzstd::encoding::CompressionLevel::Fastest)
}
