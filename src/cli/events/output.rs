//! What `--output` names: a file, which is replaced once the new one is complete, or anything else that can be written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Mode of a new file, before the umask; and of one whose mode is yet to be set, which nobody else shall open till then.
const NEW_MODE: u32 = 0o666;
const PRIVATE_MODE: u32 = 0o600;

pub(super) struct Output {
    file: File,
    /// Where it is written, and what it becomes; `None` if there is nothing to replace.
    replacement: Option<(PathBuf, PathBuf)>,
}

impl Output {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            // A pipe or a device is where it is for whoever reads it: a file in its place would reach nobody.
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Self { file, replacement: None });
        }
        let target = behind_links(path)?;
        let partial = target.with_added_extension("partial");
        let mode = if existing.is_some() { PRIVATE_MODE } else { NEW_MODE };
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        let output = Self { file, replacement: Some((partial, target)) };
        if let Some(existing) = existing {
            output.file.set_permissions(existing.permissions())?;
        }
        Ok(output)
    }

    /// Puts what was written in its place.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        if let Some((partial, target)) = &self.replacement {
            self.file.sync_all()?;
            fs::rename(partial, target)?;
            self.replacement = None;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.replacement {
            // What is not complete would be taken for what is.
            let _ = fs::remove_file(partial);
        }
    }
}

/// The place that a path stands for, also where a link leads to a file that is not there yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // Ends, as links that go round are another error.
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => behind_links(&path.parent().unwrap_or(Path::new("")).join(to)),
            Err(_) => Ok(path.to_owned()),
        },
        place => place,
    }
}
