//! Tails: nothing is left out and nothing comes twice, whatever happens to the connection or the
//! service.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::reading::{TAIL, service};
use crate::support::client::Client;
use crate::support::in_process;
use crate::support::postgres::is_asked_for;
use crate::support::reader::message;
use crate::support::service::event;
use crate::support::until;

/// Publishes events, one after the other, each again and again until it is answered, until told to
/// stop; returns how many.
fn publisher(
    addr: &Arc<std::sync::Mutex<std::net::SocketAddr>>,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<u64> {
    let (addr, stop) = (Arc::clone(addr), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut number = 0;
        let mut client = Client::new(*addr.lock().unwrap());
        loop {
            let body = event(["even", "odd"][number % 2], &format!("{number}"), "{}");
            match client.post("/publish", body.as_bytes()) {
                Ok(answer) if answer.status == 200 => {
                    number += 1;
                    if stop.load(Ordering::Relaxed) {
                        return number as u64;
                    }
                }
                _ => {
                    std::thread::park_timeout(Duration::from_millis(5));
                    client = Client::new(*addr.lock().unwrap());
                }
            }
        }
    })
}

#[test]
fn a_tail_that_is_left_gives_its_place_back_long_before_its_heartbeat() {
    let service = service();
    let mut client = Client::new(service.addr);
    let mut connections = || {
        let figures = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        let line = figures.lines().find_map(|line| line.strip_prefix("sekali_http_connections ")).unwrap();
        line.parse::<usize>().unwrap()
    };
    let mut tails: Vec<_> = (0..9).map(|_| service.open("", TAIL)).collect();
    for tail in &mut tails {
        tail.read_line(&mut String::new()).unwrap();
    }
    let mut are_open = |count| until(8, || (connections() == count).then_some(())).is_some();
    assert!(are_open(10));
    drop(tails);
    assert!(are_open(1), "tails that were left are still counted");
}

#[test]
fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let mut service = service();
    service.publish((0..50).map(|n| event("before", &format!("{n}"), "{}")));
    let addr = Arc::new(std::sync::Mutex::new(service.addr));
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publisher(&addr, &stop);
    let mut random = fastrand::Rng::with_seed(3);
    // One tail of all, one of a topic; each is left after some messages, in the middle of replays
    // too.
    let (mut all, mut even) = (Vec::new(), Vec::new());
    let (mut all_id, mut even_id) = (String::new(), String::new());
    for round in 0..40 {
        if round % 10 == 9 {
            service.server.kill();
            service.start_again();
            *addr.lock().unwrap() = service.addr;
        }
        for (query, id, seen) in [("", &mut all_id, &mut all), ("topic=even", &mut even_id, &mut even)] {
            let mut tail = service.open_with(query, TAIL, &[("last-event-id", id)]);
            for _ in 0..random.usize(1..40) {
                let (at, event) = message(&mut tail).unwrap();
                *id = at;
                seen.push(event);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let published = publisher.join().unwrap();
    assert!(published > 100, "{published} events are too few to show anything");
    let listed = service.pages("");
    assert_eq!(listed.len() as u64, 50 + published);
    assert_eq!(all, listed[..all.len()]);
    assert_eq!(even, service.pages("topic=even")[..even.len()]);
}

#[test]
fn a_filtered_tail_has_what_is_wanted_and_an_early_one_waits_for_its_topic() {
    let mut service = service();
    let mut early = service.open("topic=new&source=test", TAIL);
    let mut none = service.open("topic=new&source=nobody", TAIL);
    service.publish((0..20).map(|n| event(["new", "old"][n % 2], &format!("{n}"), "{}")));
    let seen: Vec<_> = (0..10).map(|_| message(&mut early).unwrap().1).collect();
    assert_eq!(seen, service.pages("topic=new"));
    assert_eq!(service.server.terminate(), Some(0), "tails keep a stop waiting");
    assert!(message(&mut early).is_none() && message(&mut none).is_none());
}

/// As the live page does: so that what arrived at one time, or before the clock was set back, is neither left
/// out nor given again.
#[test]
fn a_tail_goes_on_from_where_a_page_of_the_newest_goes_back_to() {
    let service = service();
    // All of a request arrive at the same time.
    let batch: Vec<_> = (0..1_000).map(|n| event(["even", "odd"][n % 2], &format!("{n}"), n)).collect();
    assert_eq!(service.post(&format!("[{}]", batch.join(","))), 200);
    let key = |event: &serde_json::Value| (event["topic"].to_string(), event["offset"].as_u64().unwrap());
    for (number, query) in ["", "topic=even", "source=test", "source=nobody"].into_iter().enumerate() {
        let page = service.page(&format!("{query}&order=desc&limit=50"));
        let mut expected: Vec<_> = page["events"].as_array().unwrap().iter().map(key).collect();
        let cursor = page["next_cursor"].as_str().map_or(String::new(), |next| format!("&cursor={next}"));
        let mut tail = service.open(&format!("{query}{cursor}"), TAIL);
        let source = if query.ends_with("nobody") { "nobody" } else { "test" };
        let later =
            event("even", &format!("later {number}"), 1).replace("\"test\"", &format!("\"{source}\""));
        assert_eq!(service.post(&later), 200);
        expected.push(("\"even\"".to_owned(), 500 + number as u64));
        let mut seen: Vec<_> = expected.iter().map(|_| key(&message(&mut tail).unwrap().1)).collect();
        assert_eq!(seen.last(), expected.last(), "{query}: what is new comes last");
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{query}");
    }
}

#[test]
fn a_tail_after_a_page_that_found_nothing_yet_goes_on_there_and_not_at_the_first_event() {
    let service = service();
    let rare = |id: &str| event("rare", id, 1).replace("\"test\"", "\"rare\"");
    assert_eq!(service.post(&rare("oldest")), 200);
    // More than a page looks at, which packing does not make small.
    let mut random = fastrand::Rng::with_seed(7);
    for batch in 0..12 {
        let mut filler =
            || std::iter::repeat_with(|| random.alphanumeric()).take(900_000).collect::<String>();
        let large = (0..5).map(|n| event("large", &format!("{batch} {n}"), format!("\"{}\"", filler())));
        service.publish(large.collect::<Vec<_>>());
    }
    let page = service.page("source=rare&order=desc&limit=50");
    let found = page["events"].as_array().unwrap().len();
    // A database finds what is rare, and has then told all there is.
    let cursor = page["next_cursor"].as_str().map_or(String::new(), |next| format!("&cursor={next}"));
    assert_eq!((found, cursor.is_empty()), if is_asked_for() { (1, true) } else { (0, false) }, "{page}");
    assert_eq!(service.post(&rare("newest")), 200);
    let mut tail = service.open(&format!("source=rare{cursor}"), TAIL);
    let ids: Vec<_> = (0..=found).map(|_| message(&mut tail).unwrap().1["event_id"].clone()).collect();
    assert_eq!(ids, ["oldest", "newest"][1 - found..]);
}

#[test]
fn a_thousand_tails_get_every_event() {
    const TAILS: usize = 1_000;
    const EVENTS: usize = 200;
    let service = service();
    let before = service.resident_bytes();
    let addr = service.addr;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Duration::from_secs(60);
    let _guard = runtime.enter();
    let tails = runtime.block_on(tokio::time::timeout(deadline, async {
        let mut tails = Vec::new();
        for number in 0..TAILS {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let query = if number % 2 == 0 { "" } else { "?topic=t" };
            let head = format!("GET /events{query} HTTP/1.1\r\nHost: localhost\r\nAccept: {TAIL}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            tails.push(stream);
        }
        tails
    }));
    for n in 0..EVENTS {
        assert_eq!(service.post(&event("t", &format!("e{n}"), "{}")), 200);
    }
    let counts = runtime.block_on(tokio::time::timeout(deadline, async {
        let mut counts = Vec::new();
        for mut stream in tails.unwrap() {
            let mut text = Vec::new();
            while count(&text) < EVENTS {
                assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "a tail ended");
            }
            counts.push((count(&text), stream));
        }
        counts
    }));
    assert!(counts.unwrap().iter().all(|(count, _)| *count == EVENTS));
    let grown = service.resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "a thousand tails take {grown} bytes");
    service.publish([event("t", "last", "{}")]);
}

fn count(text: &[u8]) -> usize {
    memchr::memmem::find_iter(text, b"\ndata: {").count()
}

/// In time that is paused: it jumps to the next deadline when nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn a_silent_tail_shows_that_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let addr = in_process::serve(Arc::new(in_process::open(dir.path()))).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: {TAIL}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    while text.matches("\r\n:\n").count() < 3 {
        let mut piece = [0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut piece)).await;
        text.push_str(std::str::from_utf8(&piece[..read.expect("nothing for 20 seconds").unwrap()]).unwrap());
    }
    assert!(!text.contains("data"), "{text}");
    // Many parsers take a blank line for the end of an event, and give their user an empty one.
    assert!(text.contains("\r\nretry: 1000\n\r\n") && !text.contains("\n\n"), "{text}");
}
