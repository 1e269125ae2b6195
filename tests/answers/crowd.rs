//! Tails that are at the same place share one read of the store, and all who watch share its figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::in_process;
use crate::support::service::event;

#[tokio::test]
async fn tails_at_the_same_place_share_one_read() {
    const TAILS: usize = 200;
    const EVENTS: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(in_process::open(dir.path()));
    let addr = in_process::serve(Arc::clone(&store)).await;
    let work = async {
        let mut tails = Vec::new();
        for number in 0..TAILS {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let query = ["", "?topic=t"][number % 2];
            let head = format!(
                "GET /events{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut text = Vec::new();
            while memchr::memmem::find(&text, b"retry: ").is_none() {
                assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "a tail ended");
            }
            tails.push((stream, Vec::new()));
        }
        let mut publisher = TcpStream::connect(addr).await.unwrap();
        for number in 0..EVENTS {
            let body = event("t", &format!("e{number}"), "1");
            let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
            let request = format!("{head}{}\r\n\r\n{body}", body.len());
            publisher.write_all(request.as_bytes()).await.unwrap();
            // All have it before the next one comes.
            for (stream, text) in &mut tails {
                while memchr::memmem::find_iter(text, b"\ndata: {").count() <= number {
                    assert_ne!(stream.read_buf(text).await.unwrap(), 0, "a tail ended");
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the tails did not get all events");
    let reads = store.reads.load(Ordering::Relaxed);
    // Two kinds of tails; each event is looked at when it comes, and what follows it is.
    assert!(reads <= 8 * EVENTS + 20, "{TAILS} tails read {reads} times for {EVENTS} events");
}

/// In time that is paused: it jumps to the next deadline when nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn figures_are_made_once_a_second_for_all_who_watch_and_never_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(in_process::open(dir.path()));
    let addr = in_process::serve(Arc::clone(&store)).await;
    let asked = || [&store.conditions, &store.observations].map(|count| count.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(asked(), [0, 0], "nobody watches");
    let mut viewers = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        viewers.push((stream, Vec::new()));
    }
    let begun = tokio::time::sleep(Duration::ZERO).deadline();
    for (stream, text) in &mut viewers {
        while memchr::memmem::find_iter(text, b"event: figures").count() <= 30 {
            assert_ne!(stream.read_buf(text).await.unwrap(), 0, "a stream ended");
        }
    }
    let ([conditions, observations], seconds) = (asked(), begun.elapsed().as_secs() as usize);
    // One for each second, and one for the first who came.
    assert!((30..=seconds + 3).contains(&conditions), "{conditions} in {seconds} seconds");
    assert!((3..=seconds / 10 + 2).contains(&observations), "{observations} in {seconds} seconds");
    drop(viewers);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let before = asked();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(asked(), before, "nobody watches any more");
}
