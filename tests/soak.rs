//! Everything at once, for as long as one likes: senders, readers of pages and whole exports, tails
//! that come and go. Memory, open files and threads end where they were after the first part of the
//! time.
//!
//! `SEKALI_SOAK_SECONDS` is how long.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::checker::Reader;
use crate::support::load::Workload;
use crate::support::process::{Start, status};
use crate::support::reader::HttpReader;
use crate::support::{now, rounds, seed};
use sekali::store::local::open_files::OPEN_FILES_MAX;

const CLIENTS: u64 = 4;
/// How much more memory may be in use at a moment of the second half, beside the filters' 2.5
/// bytes an event.
const GROWTH_MAX_KIB: u64 = 48 << 10;

/// Files of sealed generations, which fill their cache sooner or later as the machine is fast;
/// connections, and what is open always.
const FILES_MAX: u64 = OPEN_FILES_MAX as u64 + 64;

/// Resident KiB, open files, threads.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    resident_kib: u64,
    files: u64,
    threads: u64,
}

fn usage(pid: u32) -> Usage {
    let field = |name: &str| status(pid, name).unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    Usage { resident_kib: field("VmRSS:"), files, threads: field("Threads:") }
}

/// Reads an export, or a tail for a moment, again and again; some hang up in the middle.
fn read_on(addr: SocketAddr, is_over: &AtomicBool, number: u64) {
    let mut rng = fastrand::Rng::with_seed(number);
    while !is_over.load(Ordering::SeqCst) {
        let Ok(mut connection) = TcpStream::connect(addr) else { return };
        let (accept, topic) = match rng.u8(..3) {
            0 => ("application/x-ndjson", ""),
            1 => ("text/event-stream", ""),
            _ => ("text/event-stream", "&topic=hot"),
        };
        let request = format!(
            "GET /events?limit=1000{topic} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        connection.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if connection.write_all(request.as_bytes()).is_err() {
            continue;
        }
        let (mut piece, mut left) = ([0; 64 << 10], rng.usize(..8 << 20));
        while let Ok(read) = connection.read(&mut piece) {
            left = left.saturating_sub(read);
            if read == 0 || left == 0 || is_over.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

#[test]
fn memory_files_and_threads_stay_where_they_are() {
    let (seconds, seed) = (rounds("SEKALI_SOAK_SECONDS"), seed());
    let dir = tempfile::tempdir().unwrap();
    let start = Start {
        generation_events: 20_000,
        generation_bytes: 8 << 20,
        ..Start::tiny_generations(&dir.path().join("data"))
    };
    let mut workload = Workload::new(seed);
    let (mut server, addr) = start.ready().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let is_over = AtomicBool::new(false);
    let (mut early, mut late) = (Usage::default(), Usage::default());
    let most = |a: Usage, b: Usage| Usage {
        resident_kib: a.resident_kib.max(b.resident_kib),
        files: a.files.max(b.files),
        threads: a.threads.max(b.threads),
    };
    std::thread::scope(|scope| {
        for number in 0..6 {
            let is_over = &is_over;
            scope.spawn(move || read_on(addr, is_over, seed + number));
        }
        let run = workload.start(addr, CLIENTS);
        let (begin, time) = (now(), Duration::from_secs(seconds));
        while now() - begin < time {
            assert!(run.acknowledged(1), "answers stopped, seed {seed}: {}", server.log());
            std::thread::park_timeout(Duration::from_millis(250));
            let used = usage(server.pid());
            match now() - begin {
                // Until then caches and pools fill.
                at if at < time / 4 => {}
                at if at < time / 2 => early = most(early, used),
                _ => late = most(late, used),
            }
        }
        is_over.store(true, Ordering::SeqCst);
        run.stop();
    });
    let tally = workload.history(|history| history.tally);
    let totals = HttpReader::new(addr).totals().unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
    assert_eq!((totals.unique, tally.unknown), (tally.stored, 0), "seed {seed}: {}", server.log());
    eprintln!(
        "{seconds} s, seed {seed}: {tally:?}; most in the second quarter {early:?}, in the second half {late:?}"
    );
    let filters_kib = tally.stored * 3 / 1_024;
    assert!(
        late.resident_kib <= early.resident_kib + GROWTH_MAX_KIB + filters_kib,
        "memory grows: {early:?} {late:?}"
    );
    assert!(late.files <= FILES_MAX, "files are left open: {early:?} {late:?}");
    assert!(late.threads <= early.threads + 8, "threads are left: {early:?} {late:?}");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}
