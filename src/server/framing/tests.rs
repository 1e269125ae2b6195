//! The framing held against hyper's own: what passes is read alike with and without it, however it
//! is cut.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use crate::http::Connection;
use crate::metrics::Metrics;
use crate::server::activity::{Activity, Ticks};
use crate::server::connection_io::ConnectionIo;
use crate::server::transport::Transport;
use crate::sync::Mutex;

impl Transport for DuplexStream {
    fn reset_at_end(&self) {}

    fn failure(&self) -> Option<std::io::Error> {
        None
    }
}

/// Path and body of a request; `None` if the body broke off.
type Seen = (String, Option<Bytes>);

/// What hyper's service sees of a connection, and what the client is answered.
async fn play(bytes: &[u8], cuts: &[usize], is_guarded: bool) -> (Vec<Seen>, String) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut seen = Vec::new();
    if is_guarded {
        let activity = Arc::new(Activity::new(Ticks::default(), [127, 0, 0, 1].into(), false));
        let connection = Arc::new(Connection::within_process());
        let wire =
            ConnectionIo::new(server, BytesMut::new(), false, connection, activity, Metrics::default());
        let serving = serve(wire);
        let (answers, ended) = tokio::join!(send(&mut client, bytes, cuts), serving);
        seen.extend(ended);
        return (seen, answers);
    }
    let (answers, ended) = tokio::join!(send(&mut client, bytes, cuts), serve(server));
    seen.extend(ended);
    (seen, answers)
}

async fn send(client: &mut DuplexStream, bytes: &[u8], cuts: &[usize]) -> String {
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        if client.write_all(&bytes[begin..end]).await.is_err() {
            break;
        }
        begin = end;
        tokio::task::yield_now().await;
    }
    let _ = client.shutdown().await;
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers).await;
    String::from_utf8_lossy(&answers).into_owned()
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Seen> {
    let seen = Mutex::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| async {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let is_whole = body.is_ok();
        seen.lock().push((path, body.ok()));
        let mut answer = Response::new(Full::new(Bytes::new()));
        if !is_whole {
            *answer.status_mut() = hyper::StatusCode::BAD_REQUEST;
        }
        Ok::<_, std::convert::Infallible>(answer)
    });
    let _ = http1::Builder::new()
        .half_close(true)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    std::mem::take(&mut *seen.lock())
}

/// A request whose framing is sound, with what a service must see of it.
fn sound(random: &mut fastrand::Rng, number: usize) -> (Vec<u8>, Seen) {
    let path = format!("/{number}");
    // Bodies that look like requests: taken for one, they would be seen.
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(random.usize(..40));
    let body = &body[..random.usize(..=body.len())];
    let names = ["Content-Length", "content-length", "CONTENT-LENGTH"];
    let mut text = format!("POST {path} HTTP/1.1\r\nHost: a\r\nX-Y: {}\r\n", "z".repeat(random.usize(..300)));
    match random.u8(..3) {
        0 if body.is_empty() => text += "\r\n",
        0 | 1 => text += &format!("{}:{}\r\n\r\n{body}", names[random.usize(..3)], body.len()),
        _ => {
            text += "Transfer-Encoding: chunked\r\n\r\n";
            let mut rest = body;
            while !rest.is_empty() {
                let (chunk, others) = rest.split_at(random.usize(1..=rest.len()));
                let extension = ["", ";a", " ;a=\"b\"", " "][random.usize(..4)];
                text += &format!("{:x}{extension}\r\n{chunk}\r\n", chunk.len());
                rest = others;
            }
            text += ["0\r\n\r\n", "000\r\n\r\n", "0;x\r\nA: b\r\n\r\n", "0\r\nA:\r\nB: c\r\n\r\n"]
                [random.usize(..4)];
        }
    }
    if random.u8(..4) == 0 {
        text += "\r\n";
    }
    (text.into_bytes(), (path, Some(Bytes::copy_from_slice(body.as_bytes()))))
}

fn cuts(random: &mut fastrand::Rng, length: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = (0..random.usize(..12)).map(|_| random.usize(..=length)).collect();
    cuts.sort_unstable();
    cuts
}

/// Changes a byte, or puts in what has been mistaken before.
fn spoil(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const PIECES: [&[u8]; 14] = [
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b"0\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b", chunked",
        b"f",
    ];
    let mut at = random.usize(..=bytes.len());
    if random.bool() {
        // Where a line begins.
        at = memchr::memchr(b'\n', &bytes[at..]).map_or(at, |end| at + end + 1);
    }
    match random.u8(..3) {
        0 if at < bytes.len() => bytes[at] = random.u8(..),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        _ => drop(bytes.splice(at..at, PIECES[random.usize(..PIECES.len())].iter().copied())),
    }
}

#[tokio::test(start_paused = true)]
async fn sound_requests_are_seen_as_they_were_sent_however_they_are_cut() {
    for seed in 0..1_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for number in 0..random.usize(1..6) {
            let (text, seen) = sound(&mut random, number);
            bytes.extend_from_slice(&text);
            expected.push(seen);
        }
        let cuts = cuts(&mut random, bytes.len());
        let (seen, answers) = play(&bytes, &cuts, true).await;
        assert_eq!(seen, expected, "seed {seed}: {answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_spoilt_is_read_as_hyper_reads_it_or_refused() {
    let (mut refused, mut alike) = (0, 0);
    for seed in 0..6_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = Vec::new();
        for number in 0..random.usize(1..4) {
            bytes.extend_from_slice(&sound(&mut random, number).0);
        }
        for _ in 0..random.usize(1..4) {
            spoil(&mut random, &mut bytes);
        }
        let cuts = cuts(&mut random, bytes.len());
        let (without, _) = play(&bytes, &[], false).await;
        let (with, answers) = play(&bytes, &cuts, true).await;
        for (at, seen) in with.iter().enumerate() {
            // A body that is refused is the last thing seen.
            let is_refused = seen.1.is_none() && at + 1 == with.len();
            let same =
                without.get(at).is_some_and(|other| other == seen || (is_refused && other.0 == seen.0));
            assert!(
                same,
                "seed {seed}: {with:?} with, {without:?} without: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
        if with == without {
            alike += 1;
        } else {
            refused += 1;
            let is_said = [" 400 ", " 501 ", " 431 "].iter().any(|status| answers.contains(status));
            let is_open = with.last().is_some_and(|seen| seen.1.is_none());
            assert!(is_said || is_open || with.len() < without.len(), "seed {seed}: {answers}");
        }
    }
    assert!(refused > 100 && alike > 1_000, "{refused} refused, {alike} alike: nothing was tried");
}
