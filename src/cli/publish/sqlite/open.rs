//! Opening a database so that nothing of it, and nothing beside it, is changed.
//!
//! | beside the database | is opened | because |
//! |---|---|---|
//! | no `-wal` | with SQLite's own locks | reading takes nothing but locks |
//! | a `-wal` without content, or none in WAL mode | as a file that does not change (`immutable`) | SQLite would make a `-wal` and a `-shm` |
//! | a `-wal` with content, and a `-shm` | with SQLite's own locks | somebody may be writing, and both files are there already |
//! | a `-wal` with content alone | with an index of the `-wal` in memory, which is SQLite's for one user alone | SQLite would make a `-shm` |
//!
//! Where no lock is held, the files are looked at again at the end.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::super::super::remote::UNRESERVED;
use super::super::super::{Exit, Failure};

/// Bytes of a database's head, and what those are that say whether it is in WAL mode.
const HEAD_BYTES: usize = 20;
const MAGIC: &[u8] = b"SQLite format 3\0";
const WAL_MODE: u8 = 2;

/// Parameters for a database without locks. One that is read by one user alone needs no index of the `-wal` in a file.
const ALONE: &str = "mode=ro&vfs=unix-none";

/// A database that is only read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// As the user has named it.
    path: PathBuf,
    /// Files that nothing keeps others from changing, as they were before.
    unlocked: Vec<(PathBuf, Option<Stamp>)>,
}

/// What shows that a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::new(Exit::Fault, format!("cannot read {}: {e}", path.display()));
        // SQLite looks for what lies beside the file that a link leads to.
        let real = fs::canonicalize(path).map_err(failed)?;
        if !fs::metadata(&real).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no file")));
        }
        let is_in_wal_mode = read_head(&real).map_err(failed)?;
        let (wal, shared) = (beside(&real, "-wal"), beside(&real, "-shm"));
        let wal_bytes = stamp(&wal).map_err(failed)?.map(|stamp| stamp.bytes);
        let has_shared = stamp(&shared).map_err(failed)?.is_some();
        let (parameters, unlocked) = match wal_bytes {
            None if !is_in_wal_mode => ("mode=ro", vec![]),
            None | Some(0) => ("mode=ro&immutable=1", vec![real.clone()]),
            Some(_) if has_shared => ("mode=ro", vec![]),
            Some(_) => (ALONE, vec![real.clone(), wal]),
        };
        let unlocked: io::Result<_> = unlocked.into_iter().map(|path| Ok((stamp(&path)?, path))).collect();
        let unlocked: Vec<(_, PathBuf)> = unlocked.map_err(failed)?;
        let unlocked = unlocked.into_iter().map(|(stamp, path)| (path, stamp)).collect();

        let unreadable = |e| unreadable(path, e);
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let uri = format!("file://{}?{parameters}", escaped(&real));
        let connection = Connection::open_with_flags(uri, flags).map_err(unreadable)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(unreadable)?;
        if parameters == ALONE {
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE").map_err(unreadable)?;
        }
        // All that follows is of one moment.
        connection.execute_batch("BEGIN; SELECT COUNT(*) FROM sqlite_schema").map_err(unreadable)?;
        Ok(Self { connection, path: path.to_owned(), unlocked })
    }

    /// A fault of SQLite, as a sentence.
    pub(super) fn unreadable(&self, fault: rusqlite::Error) -> Failure {
        // Half of a change that somebody makes looks like damage.
        self.check_unchanged().err().unwrap_or_else(|| unreadable(&self.path, fault))
    }

    /// A failure if somebody has written to the database since it was opened, and no lock has kept that apart.
    pub(super) fn check_unchanged(&self) -> Result<(), Failure> {
        for (path, before) in &self.unlocked {
            if stamp(path).ok().as_ref() != Some(before) {
                let sentence = format!(
                    "{} changed while it was read: run the same command again, best once nothing writes to it",
                    path.display()
                );
                return Err(Failure::new(Exit::Fault, sentence));
            }
        }
        Ok(())
    }
}

/// Whether the database is in WAL mode.
fn read_head(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    // Of an empty database, SQLite removes what lies beside it.
    if head.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    if !head.starts_with(MAGIC) || head.len() < HEAD_BYTES {
        return Err(io::Error::other("it is no SQLite database"));
    }
    Ok(head.ends_with(&[WAL_MODE, WAL_MODE]))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A file as it is; `None` if it is not there.
fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let of = |file: Metadata| Stamp {
        inode: file.ino(),
        bytes: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
    };
    match fs::metadata(path) {
        Ok(file) => Ok(Some(of(file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// An absolute path in a URI.
fn escaped(path: &Path) -> String {
    const IN_PATH: &AsciiSet = &UNRESERVED.remove(b'/');
    percent_encode(path.as_os_str().as_bytes(), IN_PATH).to_string()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(path: &Path, fault: rusqlite::Error) -> Failure {
    let path = path.display();
    let advice = match fault.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => format!(
            ". It was not closed cleanly, or not all of it can be read. Copy it, together with the files \
             {path}-wal and {path}-journal if they are there, to a folder that you can write to, open the copy \
             once with `sqlite3 COPY .tables`, and publish the copy"
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ". Another process has locked it: run the same command again".to_owned()
        }
        _ => String::new(),
    };
    Failure::new(Exit::Fault, format!("cannot read {path}: {fault}{advice}"))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn what_changes_while_no_lock_is_held_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a)").unwrap();
        writer.close().unwrap();
        let opened = Opened::open(&path).unwrap();
        opened.check_unchanged().unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 4096]).unwrap();
        let told = opened.check_unchanged().unwrap_err().to_string();
        assert!(told.contains("changed while it was read"), "{told}");
    }
}
