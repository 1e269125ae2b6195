//! A database that is moved is only read: in WAL mode too, whoever writes to it, and wherever it
//! lies.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::text;
use crate::support::service::Service;

/// A user that is not this one, to whom nothing belongs.
const NOBODY: u32 = 65534;

const SCHEMA: &str = "CREATE TABLE events (topic, event_id, timestamp, source, payload);
    INSERT INTO events VALUES ('t', '1', '2025-10-20T10:00:00Z', 's', '{}');";
const MORE: &str = "INSERT INTO events VALUES ('t', '2', '2025-10-20T10:00:00Z', 's', '{}');";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder, and what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(service: &Service, name: &str) -> Self {
        let path = service.path(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(service.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn database(&self, name: impl AsRef<OsStr>, mode: &str) -> Connection {
        let connection = Connection::open(self.0.join(name.as_ref())).unwrap();
        connection.execute_batch(&format!("PRAGMA journal_mode = {mode}; {SCHEMA}")).unwrap();
        connection
    }

    /// All files but the index of a `-wal`, which belongs to whoever has the database open.
    fn content(&self) -> BTreeMap<OsString, Option<Vec<u8>>> {
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let is_index = name.as_bytes().ends_with(b"-shm");
            (name, (!is_index).then(|| fs::read(entry.path()).unwrap()))
        };
        fs::read_dir(&self.0).unwrap().map(|entry| file(entry.unwrap())).collect()
    }

    /// Files of this name and what lies beside it, copied as a crash would leave them.
    fn crashed(&self, from: &Self, endings: &[&str]) {
        for ending in endings {
            fs::copy(from.0.join(format!("a.db{ending}")), self.0.join(format!("a.db{ending}"))).unwrap();
        }
    }

    fn close_to_writing(&self, is_closed: bool) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(if is_closed { 0o555 } else { 0o755 }))
            .unwrap();
    }
}

/// Moves a database as a user who can write neither to it nor beside it; what was stored and said.
fn moved(service: &Service, path: &Path) -> (Option<i32>, String) {
    let mut command = service.command(&["publish", "--sqlite"]);
    if is_root() {
        // The program may lie where nobody else can go.
        let program = service.path("sekali");
        if !program.exists() {
            // By another process: while this one holds it open to write, a test beside this one may
            // start a program.
            let copied =
                std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_sekali")).arg(&program).status();
            assert!(copied.unwrap().success());
        }
        command = std::process::Command::new(program);
        command.args(["publish", "--sqlite"]).env("SEKALI_URL", service.url()).uid(NOBODY).gid(NOBODY);
    }
    let output = command.arg(path).output().unwrap();
    (output.status.code(), text(&output.stderr))
}

/// Moves the database of a folder, with and without leave to write there, and sees that nothing
/// changes.
fn move_all(service: &Service, folder: &Folder, name: impl AsRef<OsStr>, rows: u64) {
    let path = folder.0.join(name.as_ref());
    for is_closed in [true, false] {
        let before = folder.content();
        folder.close_to_writing(is_closed);
        let (code, told) = match is_closed {
            true => moved(service, &path),
            false => {
                let output = service.command(&["publish", "--sqlite"]).arg(&path).output().unwrap();
                (output.status.code(), text(&output.stderr))
            }
        };
        folder.close_to_writing(false);
        assert_eq!(code, Some(0), "{path:?}: {told}");
        assert!(told.contains(&format!("verified: all {rows} events")), "{path:?}: {told}");
        assert!(folder.content() == before, "{path:?} changed: {:?}", folder.content().keys());
    }
}

#[test]
fn a_database_in_wal_mode_that_was_closed_leaves_nothing_beside_it() {
    let service = Service::new();
    for name in ["plain.db", "a b?c#d%41&mode=rwc.db", "ünï'cöde\".db"] {
        let folder = Folder::new(&service, &format!("folder of {name}"));
        folder.database(name, "wal").close().unwrap();
        move_all(&service, &folder, name, 1);
    }
    let folder = Folder::new(&service, "bytes");
    let name = OsStr::from_bytes(b"no \xff utf-8.db");
    folder.database(name, "wal").close().unwrap();
    move_all(&service, &folder, name, 1);
    // What lies beside it lies beside the file that a link leads to.
    let folder = Folder::new(&service, "links");
    std::os::unix::fs::symlink(service.path("folder of plain.db").join("plain.db"), folder.0.join("link"))
        .unwrap();
    move_all(&service, &folder, "link", 1);
    assert_eq!(service.stored(), 1);
}

#[test]
fn what_only_the_wal_holds_is_moved_after_a_crash_and_beside_a_writer() {
    let service = Service::new();
    let living = Folder::new(&service, "living");
    let connection = living.database("a.db", "wal");
    connection.execute_batch(MORE).unwrap();
    for (name, endings) in [("crashed", &["", "-wal"][..]), ("crashed with its index", &["", "-wal", "-shm"])]
    {
        let crashed = Folder::new(&service, name);
        crashed.crashed(&living, endings);
        move_all(&service, &crashed, "a.db", 2);
    }
    move_all(&service, &living, "a.db", 2);
    assert_eq!(service.stored(), 2);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    move_all(&service, &living, "a.db", 2);
    drop(connection);
    move_all(&service, &living, "a.db", 2);
}

#[test]
fn a_transaction_that_was_cut_off_is_not_read_and_what_to_do_is_told() {
    let service = Service::new();
    let living = Folder::new(&service, "living");
    let connection = living.database("a.db", "delete");
    // More than the cache holds, so that the database is written to before the end.
    connection.execute_batch("PRAGMA cache_size = 1; BEGIN").unwrap();
    for _ in 0..100 {
        connection.execute("INSERT INTO events VALUES ('t', 'x', '', '', ?)", ["x".repeat(4_000)]).unwrap();
    }
    let crashed = Folder::new(&service, "crashed");
    crashed.crashed(&living, &["", "-journal"]);
    let before = crashed.content();
    let (code, told) = moved(&service, &crashed.0.join("a.db"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("Copy it, together with the files"), "{told}");
    assert!(crashed.content() == before, "the source changed");
    // What is told works.
    let copy = Folder::new(&service, "copy");
    copy.crashed(&crashed, &["", "-journal"]);
    let rows = Connection::open(copy.0.join("a.db")).unwrap();
    rows.query_row("SELECT COUNT(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    drop(rows);
    move_all(&service, &copy, "a.db", 1);
}
