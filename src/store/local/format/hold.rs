//! What a process holds of its store: the directory, and `LOCK` in it.
//!
//! The lock of `LOCK` keeps other versions away, that of the directory itself can't be removed by
//! hand. Neither follows a name: whoever renames or removes the directory leaves this process
//! writing to what nobody will open again. So what is held is compared with what is there, each
//! second and before each change of MANIFEST.

use std::path::{Path, PathBuf};

use super::layout::LOCK;
use crate::disk::{Disk, Held};
use crate::error::{During, Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicBool, Ordering};

/// A data directory that is this process's alone; released when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    dir: PathBuf,
    directory: Box<dyn Held>,
    lock: Box<dyn Held>,
    /// Whether it was said that something can't be seen: it may stay so for long.
    was_unclear: AtomicBool,
}

impl Hold {
    /// Takes a data directory, which is made if there is none, and makes its name and the names in
    /// it durable: what is read there from now on is still there after a power cut, whatever the
    /// process before this one had no time to sync.
    ///
    /// # Errors
    /// `Locked` if another process has it; `Unusable` if it can't be made or used; `Io`.
    pub(crate) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let refused = |what: &str, e: std::io::Error| match e.kind() {
            std::io::ErrorKind::WouldBlock => {
                let message = format!("{} is in use by another sekali: stop that one first", dir.display());
                Error::new(ErrorKind::Locked, message)
            }
            _ => {
                let message = format!("cannot use {} as data directory: {what}{e}", dir.display());
                Error::new(ErrorKind::Unusable, message)
            }
        };
        let directory = match disk.lock_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                disk.create_dir_all(dir).map_err(|e| refused("", e))?;
                disk.lock_dir(dir)
            }
            taken => taken,
        };
        let directory = directory.map_err(|e| refused("", e))?;
        let lock = disk.lock(&dir.join(LOCK)).map_err(|e| refused("of LOCK in it, ", e))?;
        let was_unclear = AtomicBool::new(false);
        let hold = Self { dir: dir.to_owned(), directory, lock, was_unclear };
        hold.check()?;
        disk.sync_dir(dir).during("sync", dir)?;
        sync_above(disk, dir)?;
        Ok(hold)
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// An error if another directory, another `LOCK`, or none, has taken the place of what is held.
    /// What can't be told is no such thing.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_file(&self.dir, self.directory.is_at(&self.dir))?;
        let path = self.dir.join(LOCK);
        self.check_file(&path, self.lock.is_at(&path))
    }

    /// An error if something is known not to be where it was.
    pub(crate) fn check_file(&self, path: &Path, told: std::io::Result<bool>) -> Result<()> {
        match told {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!(
                    "{} was removed, renamed, replaced or cut under the running service: put back what was there, then start it again",
                    path.display()
                );
                Err(Error::new(ErrorKind::Io, message))
            }
            Err(e) => {
                if !self.was_unclear.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %path.display(), error = %e, "it can't be seen whether this is still there");
                }
                Ok(())
            }
        }
    }
}

/// Makes the names of the directories above a store durable: a power cut would take it away as a
/// whole, and the next start would make an empty store.
fn sync_above(disk: &dyn Disk, dir: &Path) -> Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    for above in dir.ancestors().skip(1) {
        let above = if above == Path::new("") { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            // Not made by us, then, or of a file system that knows no such sync.
            Err(e)
                if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported) => {
            }
            done => done.during("sync", above)?,
        }
    }
    Ok(())
}
