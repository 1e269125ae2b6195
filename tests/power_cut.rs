//! Power cuts: the data directory lies on a file system of its own on a loop device, which is shut
//! down under load without a flush of its log, so that all that was not synced is gone.
//! `SEKALI_POWER_CUTS` sets the number for ext4, `SEKALI_POWER_CUTS_XFS` for XFS.
//!
//! Needs root, loop devices, `mkfs.ext4` (`mkfs.xfs`) and `xfs_io` or `python3`. Where something is
//! missing, the test says so loudly; with `SEKALI_TEST_ALL=1` that is a failure.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::RwLockReadGuard;

use super::mounting;
use crate::support::checker::{check, expect_clean};
use crate::support::history::{Kind, Tally, Violation};
use crate::support::load::Workload;
use crate::support::process::Start;
use crate::support::reader::HttpReader;
use crate::support::{rounds, seed};

const CLIENTS: u64 = 8;
const IMAGE_BYTES: u64 = 512 << 20;
/// The XFS_IOC_GOINGDOWN call with XFS_FSOP_GOING_FLAGS_NOLOGFLUSH, which ext4 understands too.
const SHUTDOWN_PY: &str = "import fcntl,os,struct,sys
at = os.open(sys.argv[1], os.O_RDONLY)
print('armed', flush=True)
sys.stdin.readline()
fcntl.ioctl(at, 0x8004587d, struct.pack('I', 2))";
/// A sync that does nothing and says it did.
const NO_SYNC_C: &str =
    "int fsync(int f){return 0;} int fdatasync(int f){return 0;} int syncfs(int f){return 0;}
int msync(void *a, unsigned long n, int f){return 0;} void sync(void){}
int sync_file_range(int f, long long o, long long n, unsigned g){return 0;}";

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|e| format!("{program} cannot be run: {e}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {said}")) }
}

/// A file system in an image file; unmounted and removed when dropped.
struct Volume {
    image: PathBuf,
    at: PathBuf,
    mounted: bool,
    _dir: tempfile::TempDir,
    _mounting: RwLockReadGuard<'static, ()>,
}

impl Volume {
    fn new(mkfs: &[&str]) -> Result<Self, String> {
        let mounting = mounting();
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (image, at) = (dir.path().join("image"), dir.path().join("mount"));
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(IMAGE_BYTES).and_then(|()| std::fs::create_dir(&at)).map_err(|e| e.to_string())?;
        run(mkfs[0], &[&mkfs[1..], &[&image.to_string_lossy()]].concat())?;
        let mut volume = Self { image, at, mounted: false, _dir: dir, _mounting: mounting };
        volume.mount()?;
        Ok(volume)
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.at.to_string_lossy()])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[&self.at.to_string_lossy()])?;
        self.mounted = false;
        Ok(())
    }

    /// Puts a finger on the switch, so that the cut itself takes no time in which later syncs could
    /// cover up for missing ones.
    fn arm(&self) -> Result<Switch, String> {
        let at = self.at.to_string_lossy();
        let mut why = String::new();
        for (program, args) in [("python3", vec!["-c", SHUTDOWN_PY, &at]), ("xfs_io", vec!["-x", &at])] {
            let child = Command::new(program)
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            match child {
                Ok(mut child) => {
                    if let (Some(out), "python3") = (child.stdout.as_mut(), program) {
                        let mut armed = [0; 5];
                        if out.read_exact(&mut armed).is_err() {
                            why = "python3 cannot open the mount point".into();
                            let _ = child.wait();
                            continue;
                        }
                    }
                    return Ok(Switch(child));
                }
                Err(e) => why = format!("{program} cannot be run: {e}"),
            }
        }
        Err(why)
    }

    /// Whether the cut happened: nothing can be written any more.
    fn dead(&self) -> bool {
        std::fs::write(self.at.join("alive"), "x")
            .and_then(|()| std::fs::File::open(&self.at)?.sync_all())
            .is_err()
    }
}

/// A process that waits for a line to shut the file system down.
struct Switch(Child);

impl Switch {
    /// From here on nothing reaches the image any more, and what was not synced never will.
    fn cut(mut self) -> Result<(), String> {
        let line = self.0.stdin.take().ok_or("no switch")?.write_all(b"shutdown\n");
        let status = self.0.wait();
        match (line, status) {
            (Ok(()), Ok(status)) if status.success() => Ok(()),
            other => Err(format!("the shutdown failed: {other:?}")),
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily at last, so that a failed test leaves no mount either.
        if self.mounted && self.unmount().is_err() {
            let _ = run("umount", &["-l", &self.at.to_string_lossy()]);
        }
    }
}

/// A volume that can be cut, or `None` and a loud word about what is missing.
fn volume(what: &str, mkfs: &[&str]) -> Option<Volume> {
    // Tried on a volume of its own: what this machine lacks must not look like a fault of the
    // store.
    let tried = Volume::new(mkfs).and_then(|volume| {
        volume.arm()?.cut()?;
        if volume.dead() { Ok(()) } else { Err("the file system goes on after its shutdown".into()) }
    });
    match tried.and_then(|()| Volume::new(mkfs)) {
        Ok(volume) => Some(volume),
        Err(why) => {
            eprintln!("\n==================\nNOT RUN: {what}: {why}\n==================\n");
            let all = std::env::var_os("SEKALI_TEST_ALL").is_some_and(|all| all == "1");
            assert!(!all, "SEKALI_TEST_ALL is set, and {what} cannot be run: {why}");
            None
        }
    }
}

/// One round: start, check what earlier cuts left, load, cut. The last one only checks.
fn round(
    volume: &mut Volume,
    start: &Start,
    workload: &mut Workload,
    requests: Option<u64>,
    seed: u64,
) -> Result<(Vec<Violation>, String), String> {
    let (mut server, addr) = start.ready()?;
    let violations = workload.history(|history| check(history, &mut HttpReader::new(addr), seed));
    let Some(requests) = requests else {
        server.terminate();
        return Ok((violations, server.log()));
    };
    let switch = volume.arm()?;
    let run = workload.start(addr, CLIENTS);
    assert!(
        run.acknowledged(requests),
        "answers stopped before the cut; the server's log:\n{}",
        server.log()
    );
    let unknown = workload.history(|history| history.tally.unknown);
    run.ignore_answers();
    switch.cut()?;
    assert!(volume.dead(), "the power was not cut");
    // It may have ended by itself already, as its syncs fail now.
    let log = server.log();
    drop(server);
    run.stop();
    assert!(
        workload.history(|history| history.tally.unknown) > unknown,
        "no request was under way at the cut"
    );
    volume.unmount()?;
    volume.mount()?;
    Ok((violations, log))
}

/// Cuts that one file system goes through: what is checked grows with its history.
const VOLUME_CUTS: u64 = 25;

fn survive(what: &str, mkfs: &[&str], cuts: u64) {
    let seed = seed();
    let mut played = Vec::new();
    for number in 0..cuts.div_ceil(VOLUME_CUTS) {
        let some = VOLUME_CUTS.min(cuts - number * VOLUME_CUTS);
        let Some(volume) = volume(what, mkfs) else { return };
        played.push(survive_on(volume, what, some, seed + number));
    }
    eprintln!("{cuts} times {what}, 0 failures, seed {seed}: {played:?}");
}

fn survive_on(mut volume: Volume, what: &str, cuts: u64, seed: u64) -> Tally {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut start = Start::tiny_generations(&volume.at.join("data"));
    let mut workload = Workload::new(seed);
    for cut in 0..=cuts {
        start.workers = rng.usize(1..=4);
        let requests = (cut < cuts).then(|| rng.u64(1..250));
        let (violations, log) = round(&mut volume, &start, &mut workload, requests, seed)
            .unwrap_or_else(|e| panic!("{what} {cut}, seed {seed}: {e}"));
        expect_clean(&violations, seed, &format!("after {what} {cut}"), &log);
    }
    workload.expect_in_order();
    workload.history(|history| history.tally)
}

#[test]
fn no_answered_event_is_lost_by_power_cuts_on_ext4() {
    survive("power cut on ext4", &["mkfs.ext4", "-q", "-F"], rounds("SEKALI_POWER_CUTS"));
}

#[test]
fn no_answered_event_is_lost_by_power_cuts_on_xfs() {
    survive("power cut on XFS", &["mkfs.xfs", "-q", "-f"], rounds("SEKALI_POWER_CUTS_XFS"));
}

/// The negative control: if a server whose syncs do nothing passed, the cuts above would prove
/// nothing.
#[test]
fn power_cuts_are_seen_to_lose_events_when_nothing_is_synced() {
    let what = "power cut without sync";
    let seed = seed();
    let mut workload;
    for trial in 0..5 {
        let Some(mut volume) = volume(what, &["mkfs.ext4", "-q", "-F"]) else { return };
        let shim = no_sync(volume._dir.path());
        let mut start = Start::tiny_generations(&volume.at.join("data"));
        // One generation, so that it is the tail of a journal that is lost, not the files
        // themselves.
        (start.generation_events, start.generation_bytes) = (1_000_000, 256 << 20);
        workload = Workload::new(seed + trial);
        // The store is created durably, and then loses its syncs.
        let (mut server, _) = start.ready().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        let honest = start.clone();
        start.env = vec![("LD_PRELOAD".into(), shim.clone().into())];
        let (server, _) = start.ready().unwrap_or_else(|e| panic!("{e}"));
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
        assert!(maps.contains(&*shim.to_string_lossy()), "the shim was not loaded");
        drop(server);
        round(&mut volume, &start, &mut workload, Some(200), seed).unwrap_or_else(|e| panic!("{e}"));
        match round(&mut volume, &honest, &mut workload, None, seed) {
            Ok((violations, _)) if violations.iter().any(|v| v.kind == Kind::Lost) => {
                eprintln!("without sync, cut {trial} lost answered events, as it must; seed {seed}");
                return;
            }
            Ok(_) => {}
            Err(refusal) => eprintln!("without sync, cut {trial} left what cannot be opened: {refusal}"),
        }
    }
    panic!("no cut lost an answered event, though nothing was synced; seed {seed}");
}

fn no_sync(dir: &Path) -> PathBuf {
    let (source, shim) = (dir.join("no_sync.c"), dir.join("no_sync.so"));
    std::fs::write(&source, NO_SYNC_C).unwrap();
    run("cc", &["-shared", "-fPIC", "-O1", "-w", "-o", &shim.to_string_lossy(), &source.to_string_lossy()])
        .unwrap_or_else(|e| panic!("the shim cannot be built: {e}"));
    shim
}
