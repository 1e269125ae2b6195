//! What HTTP, JSON and the disk allow on this machine: servers that do less than sekali must, for a
//! ratio to be read.
//!
//! ```text
//! cargo bench --bench limit -- durable 127.0.0.1:18080 /tmp/limit.log     (in the background)
//! sekali bench --url http://127.0.0.1:18080
//! ```
//! `answer`: hyper answers at once. `parse`: reads the JSON too. `known`: and knows ids in a set in
//! RAM. `durable`: and appends new events to a file of zeros, one fdatasync for all that wait. No
//! index, no recovery, no queries, no limits. What does not know ids counts nothing as new, and
//! `sekali bench` says so.
//!
//! A fourth argument `per-core` gives each core a runtime and a listener of its own (SO_REUSEPORT),
//! instead of one for all.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Zeros written ahead at the start; what does not fit is written over them again.
const FILE_BYTES: u64 = 1 << 30;
/// Shards of the set of ids.
const SHARDS: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Answer,
    Parse,
    Known,
    Durable,
}

/// The fields of an event, as they come.
#[derive(Deserialize)]
#[allow(dead_code, reason = "read, not used")]
struct Event<'a> {
    topic: &'a str,
    event_id: &'a str,
    timestamp: &'a str,
    source: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

type Write = (Vec<u8>, oneshot::Sender<()>);

struct Limit {
    mode: Mode,
    known: Vec<Mutex<HashSet<u128>>>,
    journal: Sender<Write>,
    received: AtomicUsize,
    fresh: AtomicUsize,
}

impl Limit {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.method() == Method::GET {
            let totals = (self.received.load(Ordering::Relaxed), self.fresh.load(Ordering::Relaxed));
            return Ok(answer(totals, r#","rejected":0,"topics":[]"#));
        }
        let Ok(body) = request.into_body().collect().await.map(http_body_util::Collected::to_bytes) else {
            return Ok(Response::new(Full::from("broken")));
        };
        let (mut received, mut fresh, mut bytes) = (0, 0, Vec::new());
        if self.mode >= Mode::Parse {
            let events: Vec<Event<'_>> = if body.first() == Some(&b'[') {
                serde_json::from_slice(&body).unwrap_or_default()
            } else {
                serde_json::from_slice(&body).map(|event| vec![event]).unwrap_or_default()
            };
            received = events.len();
            for event in events.iter().filter(|_| self.mode >= Mode::Known) {
                let hash = xxh3_128([event.topic, "\0", event.event_id].concat().as_bytes());
                let shard = &self.known[hash as usize % SHARDS];
                if shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash) {
                    fresh += 1;
                    if self.mode == Mode::Durable {
                        for field in [event.topic, event.event_id, event.timestamp, event.source] {
                            bytes.extend_from_slice(field.as_bytes());
                        }
                        bytes.extend_from_slice(event.payload.get().as_bytes());
                    }
                }
            }
        }
        if self.mode == Mode::Durable {
            let (done, wait) = oneshot::channel();
            // A duplicate waits too: its original may not be durable yet.
            let _ = self.journal.send((bytes, done));
            let _ = wait.await;
        }
        self.received.fetch_add(received, Ordering::Relaxed);
        self.fresh.fetch_add(fresh, Ordering::Relaxed);
        Ok(answer((received, fresh), ""))
    }
}

fn answer((received, fresh): (usize, usize), more: &str) -> Response<Full<Bytes>> {
    let dropped = received - fresh;
    Response::new(Full::from(format!(
        r#"{{"received":{received},"unique_processed":{fresh},"duplicate_dropped":{dropped},"conflicts":0{more}}}"#
    )))
}

/// One write and one fdatasync for all that wait.
fn commit(file: &File, writes: &Receiver<Write>) {
    let mut at = 0;
    while let Ok((mut bytes, done)) = writes.recv() {
        let mut waiting = vec![done];
        while let Ok((more, done)) = writes.try_recv() {
            bytes.extend_from_slice(&more);
            waiting.push(done);
        }
        if at + bytes.len() as u64 > FILE_BYTES {
            at = 0;
        }
        if file.write_all_at(&bytes, at).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        at += bytes.len() as u64;
        waiting.into_iter().for_each(|done| _ = done.send(()));
    }
}

fn zeros(path: &Path) -> std::io::Result<File> {
    let file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn main() -> std::io::Result<()> {
    let usage = || std::io::Error::other("usage: limit answer|parse|known|durable HOST:PORT FILE");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (mode, addr, path, is_per_core) = match arguments.as_slice() {
        [mode, addr, path] => (mode, addr, path, false),
        [mode, addr, path, shape] if shape == "per-core" => (mode, addr, path, true),
        // As cargo calls all benches: this one is a server, for others to measure.
        [] => return Ok(()),
        _ => return Err(usage()),
    };
    let mode = match mode.as_str() {
        "answer" => Mode::Answer,
        "parse" => Mode::Parse,
        "known" => Mode::Known,
        "durable" => Mode::Durable,
        _ => return Err(usage()),
    };
    let addr: SocketAddr = addr.parse().map_err(|_| usage())?;
    let (journal, writes) = channel();
    if mode == Mode::Durable {
        let file = zeros(Path::new(path))?;
        std::thread::spawn(move || commit(&file, &writes));
    }
    let known = (0..SHARDS).map(|_| Mutex::default()).collect();
    let (received, fresh) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let limit = Arc::new(Limit { mode, known, journal, received, fresh });
    if !is_per_core {
        return tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(serve(limit, addr));
    }
    std::thread::scope(|scope| {
        let runtimes: Vec<_> = (0..std::thread::available_parallelism()?.get())
            .map(|_| {
                let limit = Arc::clone(&limit);
                scope.spawn(move || {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?
                        .block_on(serve(limit, addr))
                })
            })
            .collect();
        runtimes.into_iter().try_for_each(|runtime| runtime.join().unwrap_or_else(|_| Err(usage())))
    })
}

async fn serve(limit: Arc<Limit>, addr: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the peer before may still be closing on this address.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(1_024)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let limit = Arc::clone(&limit);
        tokio::spawn(async move {
            let answer = service_fn(|request| limit.answer(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
