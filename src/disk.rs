//! The file system, through a seam behind which faults can be played.
//!
//! Everything but sled reaches the disk through [`Disk`] and [`DiskFile`]. [`SystemDisk`] goes
//! through `std`, so that faults can be played from outside of the process too.

mod held;

use std::fmt::Debug;
use std::fs;
use std::io::{self, Error, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use self::held::Held;
use crate::sync;

/// Files are their owner's alone: MANIFEST has the store's secret, journals what was sent.
const FILE_MODE: u32 = 0o600;
/// And directories.
const DIR_MODE: u32 = 0o700;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read here and there: nothing is read ahead. A system may read megabytes
    /// ahead of each of many files, and a sync that is waited for goes behind all of that.
    Random,
    /// An existing file, to read and write.
    Write,
    /// A new, empty file, to read and write; an error if anything has its name. A
    /// question that was answered wrongly then ends in an error, and not with an empty file.
    New,
}

/// An open file. Places are given with each call, so that a handle can be shared.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// What the operating system says; part may be written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes data durable, and the length if it changed (`fdatasync`). A failure is final: what was
    /// written since the last success may be lost, and a second call would lie.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Says that so many bytes from `offset` on will be read soon. It is advice: a disk may do
    /// nothing.
    fn prefetch(&self, offset: u64, length: NonZeroU64) {
        let _ = (offset, length);
    }

    /// Whether `path` leads to this file. What has no name of its own is wherever it is looked for.
    ///
    /// # Errors
    /// If that can't be told; then it may well be there.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(true)
    }
}

impl dyn DiskFile + '_ {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; else what the operating system says.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the file ends too early")),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A file system.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a directory, and those above it that are missing. A symbolic link of this name is an
    /// error.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names of what is in a directory, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether there is something at `path`, be it a link that leads nowhere.
    ///
    /// # Errors
    /// It could not be told: what the operating system says. That is not absence.
    fn presence(&self, path: &Path) -> io::Result<bool>;

    /// Renames a file, replacing what is at `to`.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; it is no error if there is none.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it; it is no error if there is none.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names are in a directory.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes a file for this process alone, creating it if need be; released when the guard is
    /// dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it; else what the operating system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>>;

    /// Takes a directory for this process alone, which no removal of a file in it undoes; released
    /// as with [`Disk::lock`].
    ///
    /// # Errors
    /// `WouldBlock` if another process has it; `PermissionDenied` if others may change what is in
    /// it; else what the operating system says.
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Held>>;

    /// Refuses a directory that is a symbolic link, or in which others may change what there is. One
    /// that is missing is none.
    ///
    /// # Errors
    /// `PermissionDenied` with what to do about it; else what the operating system says.
    fn check_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written under `path`.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Tells the system that a file will hardly be read from `from` up to `to`, or to its end: what
    /// is durable of it may leave the cache. Advice, to be followed or not.
    fn uncache(&self, path: &Path, from: u64, to: Option<u64>);
}

/// Whether there is nothing at `path`. Much is done where something is not: so its directory must
/// say the same.
///
/// # Errors
/// It could not be told: what the operating system says, or that the two contradict each other.
pub fn is_absent(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    if disk.presence(path)? {
        return Ok(false);
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    match disk.list(above) {
        Ok(names) if names.iter().any(|listed| name == listed.as_str()) => {
            Err(Error::other("its directory lists it, and it is not found there"))
        }
        Ok(_) => Ok(true),
        // A link that leads nowhere is there: what is behind it can't be told.
        Err(e) if e.kind() == ErrorKind::NotFound && !disk.presence(above)? => Ok(true),
        Err(e) => Err(e),
    }
}

/// What the name of a temporary file ends with.
const TEMPORARY: &str = "tmp";

/// Where what is to replace the file at `path` is written first: a name beside it that nobody can
/// have guessed, and that [`is_temporary`] knows.
///
/// # Errors
/// What the operating system says if it gives no random bytes.
pub fn temporary(path: &Path) -> io::Result<PathBuf> {
    Ok(path.with_added_extension(format!("{:016x}.{TEMPORARY}", sync::random_u64()?)))
}

/// Replaces the file at `path` by one with `content`, so that a crash leaves the old or the new
/// one, whole.
///
/// # Errors
/// What the operating system says; the old file is then untouched, or the new one is in place but
/// not yet durable.
pub fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary(path)?;
    let replaced = write_and_rename(disk, &temporary, path, content);
    if replaced.is_err() {
        // Whoever tries again takes another name. What can't be removed now is by the next start.
        let _ = disk.remove_file(&temporary);
    }
    replaced?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn write_and_rename(disk: &dyn Disk, temporary: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let file = disk.open(temporary, Open::New)?;
    file.write_all_at(content, 0)?;
    file.sync()?;
    disk.rename(temporary, path)
}

/// Whether something named `other` was to replace the file named `name`; earlier versions left out
/// what can't be guessed.
pub fn is_temporary(other: &str, name: &str) -> bool {
    let rest = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| rest.rsplit('.').next() == Some(TEMPORARY))
}

/// Bytes that [`Behind`] syncs at once.
const BEHIND_BYTES: usize = 256 << 10;

/// A file that is written from front to back, and that no answer waits for: others sync theirs
/// beside it, so never much of it is for the disk to do at once.
#[derive(Debug)]
pub struct Behind {
    file: Arc<dyn DiskFile>,
    at: u64,
    unsynced: usize,
}

impl Behind {
    /// Goes on writing `file` at `at`.
    pub fn new(file: Arc<dyn DiskFile>, at: u64) -> Self {
        Self { file, at, unsynced: 0 }
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// What the operating system says; the file is then of no use.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len();
        if self.unsynced >= BEHIND_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes all of the file durable; the caller makes its name so.
    ///
    /// # Errors
    /// As [`Behind::write`].
    pub fn finish(self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Reads a whole file.
///
/// # Errors
/// What the operating system says.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let len = usize::try_from(file.len()?).map_err(Error::other)?;
    let mut content = vec![0; len];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl DiskFile for fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        held::is_at(self, path)
    }

    #[cfg(target_os = "linux")]
    fn prefetch(&self, offset: u64, length: NonZeroU64) {
        let _ = rustix::fs::fadvise(self, offset, Some(length), rustix::fs::Advice::WillNeed);
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a file of a store. None is a symbolic link: whoever could make one could have any file read
/// or overwritten.
fn open_own(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    open_regular(options, OFlags::NOFOLLOW, path).map_err(|e| match Errno::from_io_error(&e) {
        Some(Errno::LOOP) => is_link(),
        _ => e,
    })
}

/// What the system calls a loop.
fn is_link() -> Error {
    let sentence = "it is a symbolic link, and what is a store's own is not: put what it leads to there";
    Error::new(ErrorKind::PermissionDenied, sentence)
}

/// Opens a regular file. Anything else is an error: a pipe would have whoever opens it wait for its
/// other end.
///
/// # Errors
/// What the operating system says; `InvalidInput` for what is no regular file.
pub fn open_regular(options: &mut fs::OpenOptions, flags: OFlags, path: &Path) -> io::Result<fs::File> {
    let is_not = || Error::new(ErrorKind::InvalidInput, "it is no regular file: put the file itself there");
    let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
    match options.custom_flags(flags).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(is_not()),
        // A pipe that nobody reads, or a socket.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::NXIO) => Err(is_not()),
        Err(e) => Err(e),
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match how {
            Open::Read | Open::Random => {}
            Open::Write => _ = options.write(true),
            Open::New => _ = options.write(true).create_new(true),
        }
        let file = open_own(&mut options, path)?;
        #[cfg(target_os = "linux")]
        if how == Open::Random {
            // It is advice: without it, reading is only less smooth.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
        }
        Ok(Arc::new(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if let Some(above) = path.parent().filter(|above| *above != Path::new("")) {
            fs::create_dir_all(above)?;
        }
        match fs::DirBuilder::new().mode(DIR_MODE).create(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match fs::symlink_metadata(path)?.is_dir() {
                true => Ok(()),
                false => {
                    Err(Error::new(e.kind(), "something that is no directory has this name: move it away"))
                }
            },
            done => done,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn presence(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        missing_is_fine(fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        missing_is_fine(fs::remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        Ok(Box::new(held::file(path)?))
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        Ok(Box::new(held::directory(path)?))
    }

    fn check_dir(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => Err(is_link()),
            Ok(found) => held::refuse_strangers(path, &found, rustix::process::geteuid().as_raw()),
            Err(e) => missing_is_fine(Err(e)),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux takes advice"))]
    fn uncache(&self, path: &Path, from: u64, to: Option<u64>) {
        #[cfg(target_os = "linux")]
        if let Ok(file) = fs::File::open(path) {
            let length = to.and_then(|to| NonZeroU64::new(to.saturating_sub(from)));
            let _ = rustix::fs::fadvise(&file, from, length, rustix::fs::Advice::DontNeed);
        }
    }
}
