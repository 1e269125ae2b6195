//! Streams of lines: committed while they arrive, exact about what is stored, in flat memory.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use serde_json::json;

use super::service::{GZIP, Headers, LINES, Service, begin, event, gzip, receive, send_chunk};
use crate::support::process::Start;
use crate::support::until;

fn line(id: usize) -> String {
    format!("{}\n", event(&id.to_string()))
}

#[test]
fn every_way_to_write_lines_is_taken() {
    let mut service = Service::new();
    let (a, b) = (event("a").to_string(), event("b").to_string());
    for body in [
        format!("{a}\n{b}\n"),
        format!("{a}\n{b}"),
        format!("{a}\r\n{b}\r\n"),
        format!("\n\r\n {a} \n\t\n{b}\n\n"),
        format!("{b}\n{a}\n"),
    ] {
        for kind in ["application/x-ndjson", "Application/NDJSON", "application/jsonl; charset=utf-8"] {
            let (status, answer) = service.post("", &[("Content-Type", kind)], &body);
            assert_eq!((status, &answer["received"]), (200, &json!(2)), "{kind} {body}: {answer}");
        }
    }
    assert_eq!(service.stored(), 2);
    let none = json!({"received": 0, "unique_processed": 0, "duplicate_dropped": 0, "conflicts": 0});
    assert_eq!(service.post("", &[LINES], "").1, none);
    assert_eq!(service.post("", &[LINES], "\n\n").1, none);
}

#[test]
fn lines_are_stored_while_the_stream_goes_on() {
    let mut service = Service::new();
    let mut stream = service.connect();
    begin(&mut stream, "", &[LINES]);
    for id in 0..5 {
        let line = line(id);
        let (half, rest) = line.as_bytes().split_at(20);
        send_chunk(&mut stream, half).unwrap();
        send_chunk(&mut stream, rest).unwrap();
        let stored = until(30, || (service.stored() == id as u64 + 1).then_some(()));
        assert!(stored.is_some(), "line {id} was not stored while the stream waits");
    }
    send_chunk(&mut stream, b"").unwrap();
    let (status, answer) = receive(&mut stream);
    assert_eq!((status, &answer["unique_processed"]), (200, &json!(5)));
}

/// The answer to a stream that is sent again while the service is busy, as a sender would.
fn settled(
    service: &mut Service,
    query: &str,
    headers: Headers<'_>,
    body: impl AsRef<[u8]>,
) -> (u16, serde_json::Value) {
    let send = || Some(service.post(query, headers, &body)).filter(|(status, _)| *status != 503);
    until(60, send).expect("the service is busy for a minute")
}

#[test]
fn a_stream_has_no_size_and_may_go_on_where_it_ended() {
    let mut service = Service::new();
    // More lines than a batch may have, with one that is bad.
    let mut lines: Vec<String> = (0..15_000).map(line).collect();
    lines[12_345] = "{}\n".to_owned();
    let (status, answer) = settled(&mut service, "", &[LINES], lines.concat());
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["body", 12_346, "topic"])));
    let message = answer["detail"][0]["msg"].as_str().unwrap();
    assert!(
        message.contains("line 12346") && message.contains("the 12345 lines before it are stored"),
        "{message}"
    );
    assert_eq!((&answer["progress"]["lines"], service.stored()), (&json!(12_345), 12_345));
    let (status, answer) = settled(&mut service, "", &[LINES], lines[12_346..].concat());
    assert_eq!((status, &answer["received"]), (200, &json!(15_000 - 12_346)));
    assert_eq!(service.stored(), 14_999);
    let (status, answer) = settled(&mut service, "?partial=true", &[LINES, GZIP], gzip(lines.concat()));
    assert_eq!((status, &answer["received"], &answer["rejected"]), (207, &json!(14_999), &json!(1)));
    assert_eq!(answer["errors"][0]["line"], 12_346);
    let bad: String = "{}\n".repeat(500) + &line(0);
    let (status, answer) = service.post("?partial=true", &[LINES], bad);
    assert_eq!((status, &answer["received"], &answer["rejected"]), (207, &json!(1), &json!(500)));
    assert_eq!(answer["errors"].as_array().unwrap().len(), 100, "the list is bounded");
}

#[test]
fn the_first_of_two_lines_with_one_id_wins_however_far_apart() {
    let mut service = Service::new();
    let mut lines: Vec<String> = (0..3_000).map(line).collect();
    let mut other = event("7");
    other["payload"] = json!("later");
    lines.push(format!("{other}\n"));
    let (_, answer) = service.post("", &[LINES], lines.concat());
    assert_eq!((&answer["unique_processed"], &answer["conflicts"]), (&json!(3_000), &json!(1)));
    let page = service.get("/events?topic=t&limit=3000").1;
    let ids: Vec<_> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.iter().enumerate().all(|(at, id)| *id == at.to_string()), "offsets follow the lines");
}

#[test]
fn what_came_before_the_stream_broke_off_is_stored_and_half_a_line_is_not() {
    let mut service = Service::new();
    let mut stream = service.connect();
    begin(&mut stream, "", &[LINES]);
    send_chunk(&mut stream, line(0).as_bytes()).unwrap();
    // A whole event, but for its end of line: the sender may have had more to say.
    send_chunk(&mut stream, line(1).trim_end().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (status, answer) = receive(&mut stream);
    assert_eq!((status, &answer["progress"]["lines"]), (400, &json!(1)), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("go on with line 2"), "{answer}");
    assert_eq!(service.stored(), 1);
}

#[test]
fn a_sender_that_goes_on_behind_a_bad_line_still_gets_to_read_why() {
    let service = Service::new();
    let mut stream = service.connect();
    begin(&mut stream, "", &[LINES]);
    send_chunk(&mut stream, b"{}\n").unwrap();
    let more = line(1).repeat(1_000);
    // About 12 MB that nobody wants, more than all buffers hold.
    for _ in 0..100 {
        if send_chunk(&mut stream, more.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let (status, answer) = receive(&mut stream);
    assert_eq!((status, &answer["progress"]["lines"]), (422, &json!(0)), "{answer}");
}

#[test]
fn memory_stays_flat_for_a_long_stream() {
    const LINE_BYTES: usize = 10_000;
    const LINES_SENT: usize = 30_000;
    const DISTINCT: usize = 4_000;
    let mut service = Service::started(|dir| Start {
        generation_events: 100_000,
        generation_bytes: 64 << 20,
        ..Start::tiny_generations(dir)
    });
    let payload = "x".repeat(LINE_BYTES);
    let text = |id: usize| line(id % DISTINCT).replace(r#"{"n":1}"#, &format!("\"{payload}\""));
    let mut stream = service.connect();
    begin(&mut stream, "", &[LINES]);
    let mut sent = 0;
    let mut send = |stream: &mut TcpStream, until: usize| {
        while sent < until {
            let piece: String = (sent..sent + 10).map(text).collect();
            send_chunk(stream, piece.as_bytes()).unwrap();
            sent += 10;
        }
    };
    // What any upload makes it hold, once.
    send(&mut stream, LINES_SENT / 5);
    let before = service.peak_kib();
    send(&mut stream, LINES_SENT);
    send_chunk(&mut stream, b"").unwrap();
    let (status, answer) = receive(&mut stream);
    assert_eq!((status, &answer["received"]), (200, &json!(LINES_SENT)), "{answer}");
    assert_eq!(service.stored(), DISTINCT as u64);
    let grown = service.peak_kib().saturating_sub(before);
    eprintln!(
        "{} MB sent; peak after a fifth {before} KiB, grown since by {grown} KiB",
        LINES_SENT * LINE_BYTES / 1_000_000
    );
    assert!(grown < 64 << 10, "memory grew by {grown} KiB while 240 MB came");
    assert!(before < 256 << 10, "memory peaked at {before} KiB");
}
