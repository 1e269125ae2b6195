//! The clients of `examples/consume`, killed again and again: each event has its effect once.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, OpenFlags};

use super::*;

const EVENTS: u64 = 300;
const KILLS: u64 = 5;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/consume").join(name)
}

/// Events and amounts that a client has added up; none before it has made its tables.
fn totals(database: &Path) -> (u64, u64) {
    let read = || {
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.busy_timeout(std::time::Duration::from_secs(30))?;
        let sums = "SELECT coalesce(sum(events), 0), coalesce(sum(amount), 0) FROM totals";
        database.query_row(sums, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
    };
    read().map_or((0, 0), |(events, amount)| (events.unsigned_abs(), amount.unsigned_abs()))
}

/// A client that dies with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has_each_effect_once(mut program: Command) {
    let seed = crate::support::seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let service = Service::new();
    let numbers = 0..EVENTS;
    service.publish(numbers.clone().map(|number| {
        event(&format!("t-{}", number % 3), &format!("e-{number}"), json!({"amount": number}))
    }));
    put(&service, "c", &["t-*"], "start");
    let database = service.path("totals.db");
    program.arg("c").arg(&database).env("SEKALI_URL", service.url()).env("LEASE_SECONDS", "1");
    program.stdin(Stdio::null());
    for kill in 0..=KILLS {
        let running = Running(program.spawn().unwrap());
        let enough = if kill == KILLS { EVENTS } else { rng.u64(0..EVENTS * (kill + 1) / (KILLS + 1)) };
        let done = crate::support::until(60, || (totals(&database).0 >= enough).then_some(()));
        assert!(done.is_some(), "seed {seed}: {:?} of {EVENTS} after {kill} kills", totals(&database));
        drop(running);
    }
    assert_eq!(totals(&database), (EVENTS, numbers.sum()), "seed {seed}");
}

/// A program of this machine, or a loud word that it is not there.
fn found(program: &str, arguments: &[&str]) -> Option<Command> {
    let is_there = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{program} {arguments:?} fails");
        eprintln!("NOT RUN: {program} {arguments:?} fails");
    }
    is_there.then(|| Command::new(program))
}

#[test]
fn the_python_client_has_each_effect_once_over_kills() {
    let Some(mut python) = found("python3", &["-c", "import sqlite3"]) else { return };
    python.arg(example("consume.py"));
    has_each_effect_once(python);
}

#[test]
fn the_javascript_client_has_each_effect_once_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let modules = crate::support::tools().join("node/node_modules");
    // Modules are looked for beside the program.
    let program = dir.path().join("consume.mjs");
    std::fs::copy(example("consume.mjs"), &program).unwrap();
    let _ = std::os::unix::fs::symlink(modules, dir.path().join("node_modules"));
    let look = dir.path().join("look.mjs");
    std::fs::write(&look, "await import('node:sqlite').catch(() => import('better-sqlite3'));").unwrap();
    let Some(mut node) = found("node", &[&look.to_string_lossy()]) else { return };
    node.arg(program);
    has_each_effect_once(node);
}

#[test]
fn the_rust_client_has_each_effect_once_over_kills() {
    // Cargo builds examples with the tests, beside the program.
    let program = Path::new(env!("CARGO_BIN_EXE_sekali")).with_file_name("examples").join("consume");
    if !program.exists() {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{} is not built", program.display());
        eprintln!("NOT RUN: {} is not built: cargo build --example consume", program.display());
        return;
    }
    has_each_effect_once(Command::new(program));
}
