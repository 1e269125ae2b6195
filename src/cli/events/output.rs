//! What `--output` names: a file, which is replaced once the new one is complete, or anything else
//! that can be written to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Mode of a new file, before the umask; and of one whose mode is yet to be set, which nobody else
/// shall open till then.
const NEW_MODE: u32 = 0o666;
const PRIVATE_MODE: u32 = 0o600;

#[derive(Debug)]
pub(super) enum Output {
    /// A new file beside the one at `path`, which it replaces in the end. Its name can't be
    /// foreseen, and it is created only where nothing is, so nobody can put a link there that leads
    /// elsewhere. It is removed unless it is completed, as it would be taken for what is complete.
    Replacement { file: NamedTempFile, path: PathBuf },
    /// A pipe or a device is where it is for whoever reads it: a file instead of it would reach
    /// nobody.
    Through(File),
}

impl Output {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            return Ok(Self::Through(OpenOptions::new().write(true).open(path)?));
        }
        let path = resolved(path)?;
        let mode = if existing.is_some() { PRIVATE_MODE } else { NEW_MODE };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = Builder::new()
            .prefix(".sekali-")
            .suffix(".partial")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        if let Some(existing) = existing {
            file.as_file().set_permissions(existing.permissions())?;
        }
        Ok(Self::Replacement { file, path })
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Self::Replacement { file, .. } => file.as_file(),
            Self::Through(file) => file,
        }
    }

    /// Moves what was written to the path that was named.
    pub(super) fn complete(self) -> io::Result<()> {
        if let Self::Replacement { file, path } = self {
            file.as_file().sync_all()?;
            file.persist(path)?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// The path without links, also where a link leads to a file that is not there yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // Ends, as links that go round are another error.
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => resolved(&path.parent().unwrap_or(Path::new("")).join(to)),
            Err(_) => Ok(path.to_owned()),
        },
        found => found,
    }
}
