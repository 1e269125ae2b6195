//! Services that are broken or lie: whatever they answer, a command says how it went.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{event, text};
use crate::support::now;

/// A service that answers everything with the same bytes, and then ends the connection.
pub struct Liar {
    pub url: String,
    /// When there was a request.
    pub requests: Receiver<Instant>,
}

impl Liar {
    pub fn start(head: &str, body: &[u8]) -> Self {
        Self::answering([[format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat()])
    }

    /// One that gives these answers, and the last one ever after.
    pub fn answering<const N: usize>(answers: [Vec<u8>; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for (turn, client) in listener.incoming().flatten().enumerate() {
                let _ = sender.send(now());
                // The client may have ended.
                let _ = answer_with(client, &answers[turn.min(N - 1)]);
            }
        });
        Self { url, requests }
    }

    /// One that gives an answer of this status and with these headers.
    pub fn saying(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Self {
        Self::answering([Self::answer(status, headers, body)])
    }

    pub fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
        let body = body.as_ref();
        let length = format!("content-length: {}\r\nconnection: close\r\n{headers}", body.len());
        [format!("HTTP/1.1 {status} X\r\n{length}\r\n").as_bytes(), body].concat()
    }

    /// One whose totals are the largest numbers there are.
    fn boaster() -> Self {
        let names = ["received", "unique_processed", "duplicate_dropped", "rejected"];
        let counts = names.map(|name| format!("\"{name}\":{}", u64::MAX)).join(",");
        let body = format!("{{{counts},\"conflicts\":0}}");
        Self::start(&format!("connection: close\r\ncontent-length: {}", body.len()), body.as_bytes())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.args(arguments).env("SEKALI_URL", &self.url).stdin(Stdio::null());
        command
    }
}

/// Reads a request to its end, as closing before that would break the connection.
fn answer_with(mut client: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = BufReader::new(client.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    while request.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    std::io::copy(&mut request.take(length), &mut std::io::sink())?;
    client.write_all(answer)
}

#[test]
fn counts_beyond_all_numbers_end_no_command() {
    let liar = Liar::boaster();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    // Several requests, so that counts would be added.
    let lines: String = (0..2_500).map(|id| event("t", &id.to_string()) + "\n").collect();
    std::fs::write(&file, lines + &"x".repeat(5 << 20)).unwrap();
    let database = dir.path().join("aggregator.db");
    let rows = "CREATE TABLE processed_events (topic, event_id, timestamp, source, payload);
        INSERT INTO processed_events VALUES ('t', '1', '2025-10-20T10:00:00Z', 's', '{}');";
    Connection::open(&database).unwrap().execute_batch(rows).unwrap();
    for arguments in [
        &["publish", file.to_str().unwrap(), "--json"][..],
        &["publish", "--sqlite", database.to_str().unwrap()],
        &["bench", "--events", "40", "--batch", "10", "--connections", "1", "--force"],
    ] {
        let output = liar.command(arguments).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(&u64::MAX.to_string()) && !told.contains("panicked"), "{told}");
    }
}

#[test]
fn a_tail_that_ends_at_once_is_taken_up_again_after_longer_and_longer_pauses() {
    for body in [&b""[..], b"\xff\xff\n\n", b": nothing\n\n"] {
        let liar = Liar::start("content-type: text/event-stream\r\nconnection: close", body);
        let mut child = liar.command(&["events", "--follow"]).stderr(Stdio::null()).spawn().unwrap();
        let requests: Vec<_> =
            (0..4).map(|_| liar.requests.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        // Half of 100, 200 and 400 ms, as pauses are spread.
        assert!(requests[3].duration_since(requests[0]) >= Duration::from_millis(350), "{requests:?}");
    }
}

#[test]
fn each_reason_to_wait_is_told_before_the_wait() {
    let full = b"HTTP/1.1 507 Full\r\nretry-after: 30\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfull";
    // The first request gets no answer.
    let liar = Liar::answering([Vec::new(), full.to_vec()]);
    let mut command = liar.command(&["publish", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(event("t", "1").as_bytes()).unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (first, second) = (told.next().unwrap(), told.next().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.ends_with("; trying again"), "{first}");
    assert!(second.ends_with("it answers 507: full; trying again in 30 s"), "{second}");
}
