//! A directory or file that a process has taken, and who else may get at it.

use std::fmt::Debug;
use std::fs::{self, File, Metadata};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Others may write: of a directory, they may add, rename and remove what is in it.
const OTHERS_WRITE: u32 = 0o002;
/// Of a directory: only who owns what is in it may rename or remove it.
const STICKY: u32 = 0o1000;

/// What is taken for this process alone, whatever its name becomes; released when dropped, or when
/// the process ends.
pub trait Held: Send + Sync + Debug {
    /// Whether `path` leads to it. A path that leads nowhere does not.
    ///
    /// # Errors
    /// If that can't be told; then it may well be there.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// A file or directory with its lock.
#[derive(Debug)]
pub(super) struct Locked(File);

impl Drop for Locked {
    /// Closing it is not enough: a child that another thread begins at this moment shares the lock
    /// until it runs its program.
    fn drop(&mut self) {
        // Where it can't be unlocked, closing it has to do.
        let _ = self.0.unlock();
    }
}

impl Held for Locked {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_at(&self.0, path)
    }
}

/// Whether `path` leads to an open file or directory.
pub(super) fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    use ErrorKind::{NotADirectory, NotFound, StaleNetworkFileHandle};
    let same = open.metadata().and_then(|own| {
        let found = fs::metadata(path)?;
        Ok((found.dev(), found.ino()) == (own.dev(), own.ino()))
    });
    match same {
        // The last one is how NFS says that what is open was removed.
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | StaleNetworkFileHandle) => Ok(false),
        same => same,
    }
}

/// Takes a file, which is created if need be.
pub(super) fn file(path: &Path) -> io::Result<Locked> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(super::FILE_MODE);
    let file = super::open_own(&mut options, path)?;
    taken(&file)?;
    Ok(Locked(file))
}

/// Takes a directory that only its owner, a group and root can change. Where a directory can't be
/// locked, as on NFS, the log says so.
pub(super) fn directory(path: &Path) -> io::Result<Locked> {
    let flags = OFlags::DIRECTORY.bits().cast_signed();
    let directory = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    refuse_strangers(path, &directory.metadata()?, rustix::process::geteuid().as_raw())?;
    match taken(&directory) {
        Err(e) if cannot_lock_directories(&e) => {
            tracing::warn!(
                path = %path.display(),
                error = %e,
                "the directory itself can't be locked on this file system; LOCK alone keeps a second process away: never remove it"
            );
            Ok(Locked(directory))
        }
        taken => taken.map(|()| Locked(directory)),
    }
}

fn taken(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// NFS locks by byte ranges, for which it wants a file that is open to be written; others know no
/// locks of directories.
fn cannot_lock_directories(error: &Error) -> bool {
    let known = [Errno::BADF, Errno::INVAL, Errno::ISDIR, Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP];
    Errno::from_io_error(error).is_some_and(|errno| known.contains(&errno))
}

/// Refuses a directory that belongs to neither `user` nor root, or in which anyone may put, rename
/// and remove files: what is found there, or was synced there, could be anybody's.
pub(super) fn refuse_strangers(path: &Path, found: &Metadata, user: u32) -> io::Result<()> {
    let path = path.display();
    let refused = |sentence| Err(Error::new(ErrorKind::PermissionDenied, sentence));
    let (owner, mode) = (found.uid(), found.mode());
    if owner != user && owner != 0 {
        return refused(format!(
            "it belongs to user {owner}, and this process runs as user {user}: run it as user {owner}, or give the \
             directory away with `chown -R {user} {path}`"
        ));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return refused(format!(
            "anyone may write to it (mode {:04o}): run `chmod o-w {path}`, or name a directory in it that does not exist yet, \
             which is then made for this user alone",
            mode & 0o7777
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_refused_if_strangers_own_it_or_may_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let owner = fs::metadata(dir.path()).unwrap().uid();
        let check = |mode: u32, user: u32| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            refuse_strangers(dir.path(), &fs::metadata(dir.path()).unwrap(), user)
        };
        // As volumes come: root's or one's own, with a group that may write, or for all with the
        // sticky bit.
        for mode in [0o700, 0o755, 0o750, 0o775, 0o2775, 0o1777] {
            check(mode, owner).unwrap();
        }
        for mode in [0o777, 0o2777, 0o702] {
            let refused = check(mode, owner).unwrap_err().to_string();
            assert!(refused.contains("chmod o-w") && refused.contains(&format!("{mode:04o}")), "{refused}");
        }
        // Root's directories are root's to give.
        let of_another = check(0o700, owner + 1);
        assert_eq!(of_another.is_err(), owner != 0, "{of_another:?}");
    }

    #[test]
    fn what_is_held_is_told_from_what_took_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = file(&path).unwrap();
        assert!(held.is_at(&path).unwrap());
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(!held.is_at(&path).unwrap() && held.is_at(&elsewhere).unwrap());
        fs::write(&path, "").unwrap();
        assert!(!held.is_at(&path).unwrap());
        assert!(!held.is_at(&path.join("below")).unwrap(), "a file has nothing below it");
    }

    #[test]
    fn a_directory_is_taken_once_whatever_happens_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere"));
        fs::create_dir(&path).unwrap();
        let held = directory(&path).unwrap();
        assert_eq!(directory(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        fs::rename(&path, &elsewhere).unwrap();
        assert_eq!(directory(&elsewhere).unwrap_err().kind(), ErrorKind::WouldBlock);
        // As a child of another thread has for a moment.
        let shared = held.0.try_clone().unwrap();
        drop(held);
        directory(&elsewhere).unwrap();
        drop(shared);
    }
}
