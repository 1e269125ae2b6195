//! A log that nobody reads stops nothing, and whoever is refused can't fill it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::Client;
use crate::support::frames::{ACK, PING, PREFACE, SETTINGS, frame};
use crate::support::service::Service;
use crate::support::{now, until};

/// A server whose log is read up to where it says that it listens.
#[allow(clippy::zombie_processes, reason = "each test waits for it")]
fn start(arguments: &[&str]) -> (tempfile::TempDir, Child, SocketAddr, BufReader<std::process::ChildStderr>) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekali"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::with_capacity(1, child.stderr.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some((_, rest)) = line.split_once("\"addr\":\"") {
            return (dir, child, rest[..rest.find('"').unwrap()].parse().unwrap(), log);
        }
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_requests_nor_the_end() {
    // A line for each request.
    let (_dir, mut child, addr, log) = start(&["--log", "debug"]);
    let mut client = Client::new(addr);
    let dropped = until(120, || {
        for _ in 0..1_000 {
            assert_eq!(client.get("/nothing").unwrap().status, 404);
        }
        let figures = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        let line = figures.lines().find(|line| line.starts_with("sekali_log_lines_dropped_total "));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<u64>().ok().filter(|dropped| *dropped > 0)
    });
    assert!(dropped.is_some(), "what nobody reads is dropped and counted");
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = until(60, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    drop(log);
}

#[test]
fn a_log_that_is_read_again_says_how_much_was_dropped() {
    let (_dir, mut child, addr, log) = start(&["--log", "debug"]);
    let mut client = Client::new(addr);
    for _ in 0..10_000 {
        client.get("/nothing").unwrap();
    }
    let told = log.lines().map_while(Result::ok).any(|line| line.contains("lines of the log were dropped"));
    assert!(told);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn odd_frames_of_a_client_are_no_lines() {
    let mut service = Service::new();
    let mut stream = TcpStream::connect(service.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    // Acknowledgements of what was never sent; then a question, whose answer says that all was read.
    stream.write_all(&frame(PING, ACK, 0, b"unwanted").repeat(1_000)).unwrap();
    stream.write_all(&frame(PING, 0, 0, b"answered")).unwrap();
    let answer = frame(PING, ACK, 0, b"answered");
    let mut came = Vec::new();
    while !came.windows(answer.len()).any(|bytes| bytes == answer) {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the connection ended: {}", service.server.log());
        came.extend_from_slice(&piece[..read]);
    }
    drop(stream);
    // All of the log is written when it has ended.
    assert_eq!(service.server.terminate(), Some(0));
    assert!(!service.server.log().contains("h2::"), "{}", service.server.log());
}

#[test]
fn refusals_of_one_kind_are_a_line_a_second() {
    let service = Service::started(|mut start| {
        start.env.push(("SEKALI_TOPICS_MAX".into(), "1".into()));
        start
    });
    let event = |topic: usize| {
        format!(r#"{{"topic":"{topic}","event_id":"1","timestamp":"2026-01-01T00:00:00Z","source":"s"}}"#)
    };
    let (mut client, begin) = (Client::new(service.addr), now());
    for topic in 0..2_000 {
        let status = client.post("/publish", event(topic).as_bytes()).unwrap().status;
        assert_eq!(status, if topic == 0 { 200 } else { 507 });
    }
    let lines = |log: &str| log.lines().filter(|line| line.contains("a request failed")).count();
    let most = begin.elapsed().as_secs() as usize + 1;
    let written = until(20, || Some(service.server.log()).filter(|log| lines(log) > 0)).unwrap();
    assert!(lines(&written) <= most, "{} lines in {most} seconds", lines(&written));
    let left_out = until(20, || {
        client.post("/publish", event(1).as_bytes()).unwrap();
        let log = service.server.log();
        log.contains("\"left_out\":").then(|| log.contains("\"left_out\":0,")).filter(|_| lines(&log) > 1)
    });
    assert!(left_out.is_some(), "the next line says how many were left out: {}", service.server.log());
}
