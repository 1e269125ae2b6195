//! A disk that fills up under load, and then has room again: nothing answered is lost, reads go on
//! while it is full, and writing goes on by itself. The data directory lies on a tmpfs, which is
//! made a little larger each time.
//!
//! `SEKALI_FULL_DISKS` is how often. Needs root, to mount; without it the test says so
//! loudly, and with `SEKALI_TEST_ALL=1` that is a failure.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLockReadGuard};

use super::mounting;
use crate::support::checker::{check, check_touched, expect_clean};
use crate::support::client::Client;
use crate::support::history::{Answer, Key};
use crate::support::load::Workload;
use crate::support::process::Start;
use crate::support::reader::{HttpReader, digest};
use crate::support::{rounds, seed, until};
use sekali::disk::{Disk, SystemDisk};

const CLIENTS: u64 = 4;
/// A new store fits, and little more.
const FIRST_KIB: u64 = 3 << 10;
/// An event for which there is no room on a full disk.
const LARGE_BYTES: usize = 400 << 10;
/// With tiny generations a step takes 256 KiB and wants 35 beside it; the live journal wants one
/// and the next one more.
const ENOUGH_KIB: Range<u64> = 600..900;
/// How often one store is filled: what is checked grows with its history.
const STORE_STRIDES: u64 = 25;

/// A file system in memory of a size that can be changed; unmounted when dropped.
struct Small {
    at: PathBuf,
    _dir: tempfile::TempDir,
    _mounting: RwLockReadGuard<'static, ()>,
}

fn mount(options: &str, at: &Path) -> Result<(), String> {
    let at = at.to_string_lossy();
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs", &at])
        .stdin(Stdio::null())
        .output();
    let done = done.map_err(|e| format!("mount can't be run: {e}"))?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

impl Small {
    /// `None` if it can't be had here.
    fn new() -> Option<Self> {
        let mounting = mounting();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mount");
        std::fs::create_dir(&at).unwrap();
        match mount(&format!("size={FIRST_KIB}k"), &at) {
            Ok(()) => Some(Self { at, _dir: dir, _mounting: mounting }),
            Err(why) => {
                assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "a tmpfs can't be mounted: {why}");
                eprintln!("NOT RUN: a full disk: a tmpfs can't be mounted: {why}");
                None
            }
        }
    }

    fn resize(&self, kib: u64) {
        mount(&format!("remount,size={kib}k"), &self.at).unwrap();
    }

    fn free_kib(&self) -> u64 {
        SystemDisk.free_bytes(&self.at).unwrap() >> 10
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
    }
}

/// Fills one disk again and again. Returns how often requests were answered 507, and how often the
/// process was killed while full.
fn play(disk: &Small, strides: u64, seed: u64) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let start = Start::tiny_generations(&disk.at.join("data"));
    let mut workload = Workload::new(seed);
    let (mut refused, mut kills, mut kib) = (0, 0, FIRST_KIB);
    let (mut server, mut addr) = start.ready().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    for stride in 0..strides {
        let when = format!("full for the {stride}th time, seed {seed}");
        let run = workload.start(addr, CLIENTS);
        let mut client = Client::new(addr);
        let full = until(60, || client.get("/readyz").is_ok_and(|answer| answer.status == 503).then_some(()));
        assert!(full.is_some(), "the disk does not get full; {when}: {}", server.log());
        run.stop();
        let (event_id, timestamp) = (format!("one-more-{stride}"), "2026-01-01T00:00:00Z");
        let key = Key { topic: "quiet".into(), event_id: event_id.clone() };
        // Small ones may still fit into the room that was prepared before.
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(LARGE_BYTES));
        workload.history(|history| history.record(&key, digest(timestamp, "s", &payload), Answer::Unknown));
        let event = format!(
            r#"{{"topic": "quiet", "event_id": "{event_id}", "timestamp": "{timestamp}", "source": "s", "payload": {payload}}}"#
        );
        let answer = client.post("/publish", event.as_bytes()).unwrap();
        let said = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.status, 200 | 507), "{} {said}; {when}: {}", answer.status, server.log());
        refused += u64::from(answer.status == 507);
        if rng.u8(..3) == 0 {
            server.kill();
            kills += 1;
            kib += 8;
            disk.resize(kib);
            (server, addr) = start.spawn_listening().unwrap_or_else(|e| panic!("{when}: {e}"));
        }
        let violations = workload.history(|history| check_touched(history, &mut HttpReader::new(addr)));
        expect_clean(&violations, seed, &when, &server.log());
        kib += rng.u64(ENOUGH_KIB);
        disk.resize(kib);
        let mut client = Client::new(addr);
        let mut said = String::new();
        let ready = until(60, || {
            let answer = client.get("/readyz").ok()?;
            said = String::from_utf8_lossy(&answer.body).into_owned();
            (answer.status == 200).then_some(())
        });
        assert!(ready.is_some(), "there is room, and it is not taken: {said}; {when}: {}", server.log());
    }
    disk.resize(kib + (8 << 10));
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    let (_server, addr) = start.ready().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let violations = workload.history(|history| check(history, &mut HttpReader::new(addr), seed));
    expect_clean(&violations, seed, "at the end", "");
    (refused, kills)
}

#[test]
fn a_full_disk_loses_nothing_and_room_is_taken_by_itself() {
    let (strides, seed) = (rounds("SEKALI_FULL_DISKS"), seed());
    let stores = strides.div_ceil(STORE_STRIDES);
    // Two at a time: most of a stride is one client that reads what was stored.
    let (next, done) = (AtomicU64::new(0), Mutex::new((0, 0)));
    let work = || {
        while let store = next.fetch_add(1, Ordering::SeqCst)
            && store < stores
            && let Some(disk) = Small::new()
        {
            let some = STORE_STRIDES.min(strides - store * STORE_STRIDES);
            let (refused, kills) = play(&disk, some, seed + store);
            let mut done = done.lock().unwrap();
            *done = (done.0 + refused, done.1 + kills);
        }
    };
    std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|thread| thread.join().unwrap()));
    let (refused, kills) = done.into_inner().unwrap();
    if next.into_inner() < stores {
        // There can be no such disk here, which was told.
        return;
    }
    eprintln!(
        "{strides} times full, {refused} of them seen as 507, {kills} SIGKILLs meanwhile, 0 failures, seed {seed}"
    );
    assert!(refused * 2 > strides, "a full disk is to be answered 507: {refused} of {strides}");
}

#[test]
fn who_was_refused_room_leaves_none_wanted() {
    let Some(disk) = Small::new() else { return };
    let data = disk.at.join("data");
    let (_server, addr) = Start::tiny_generations(&data).ready().unwrap();
    let is_prepared = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().join("journal").metadata().is_ok_and(|journal| journal.len() >= 128 << 10)
    };
    let are_prepared = || std::fs::read_dir(&data).unwrap().map(is_prepared).filter(|is| *is).count() == 2;
    assert!(until(60, || are_prepared().then_some(())).is_some(), "the live journal and the next one");
    disk.resize(FIRST_KIB - disk.free_kib() + 600);
    let mut client = Client::new(addr);
    let mut publish = |id: &str, bytes: usize| {
        let text = "x".repeat(bytes);
        let event = format!(
            r#"{{"topic": "t", "event_id": "{id}", "timestamp": "2026-01-01T00:00:00Z", "source": "s", "payload": {{"text":"{text}"}}}}"#
        );
        client.post("/publish", event.as_bytes()).unwrap().status
    };
    assert_eq!(publish("too-large", 1_000_000), 507, "600 KiB are free");
    let ready =
        until(60, || Client::new(addr).get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(()));
    assert!(ready.is_some(), "nothing waits for room");
    assert_eq!(publish("small", 1), 200);
}
