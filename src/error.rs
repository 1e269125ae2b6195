//! What can go wrong, by what the caller should do about it.

use std::path::Path;

/// What a failed call means to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Mend the request: its cursor or receipt is not one of this store's.
    BadCursor,
    /// Start again from an earlier or later cursor: what this one points to is gone.
    ExpiredCursor,
    /// Make the consumer first: there is none with this name.
    NoConsumer,
    /// Read again: what the request rests on is so no more, as a lease that is over.
    Conflict,
    /// Don't retry: this kind of store can't do it.
    Unsupported,
    /// Retry later; nothing of this request was decided.
    Overloaded,
    /// Retry later: an index that this request needs is being rebuilt. Part of a batch may be
    /// stored.
    Rebuilding,
    /// Retry: whether the events were stored is unknown, and sending them again is safe.
    Unsure,
    /// Free space, then retry: the disk is full, or the store holds as many topics as it may.
    NoSpace,
    /// Don't retry here: the store is stopping.
    Stopping,
    /// Another process has the data directory.
    Locked,
    /// The data directory can't be used as it is: missing, not writable, not a store, of a newer
    /// format.
    Unusable,
    /// What is on disk is damaged and can't be mended without losing events.
    Corrupt,
    /// The operating system refused an operation on a file.
    Io,
}

/// An error of the store: a kind for programs, a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<std::io::Error>,
}

/// The result of a call to the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`, a sentence that names what to do where there is
    /// something to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A refusal of the operating system while doing `what` to `path`.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            // What was written was cut off.
            std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("cannot {what} {}: {source}", path.display()), source: Some(source) }
    }

    /// Damage found in `path` at byte `offset`.
    pub fn corrupt(path: &Path, offset: u64, what: &str) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{} is damaged at byte {offset}: {what}", path.display()))
    }

    /// The same error with what to do about it, if it is a refusal of the operating system: then
    /// the disk is to be cured, not the store.
    pub(crate) fn with_cure(self, cure: &str) -> Self {
        match self.kind {
            ErrorKind::Io => Self { message: format!("{}; {cure}", self.message), ..self },
            _ => self,
        }
    }

    /// What a call is answered while the store stops.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorKind::Stopping, "the service is stopping; send the request again later")
    }

    /// The same error for a batch of which another part was or may be decided.
    pub(crate) fn in_part(self) -> Self {
        match self.kind {
            ErrorKind::Overloaded | ErrorKind::Stopping => {
                let message =
                    format!("part of the batch may be stored, sending all of it again is safe: {self}");
                Self::new(ErrorKind::Unsure, message)
            }
            _ => self,
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Names the path in every I/O error: `file.read(..).during("read", &path)?`.
pub(crate) trait During<T> {
    /// Wraps the error with what was being done, and to which path.
    fn during(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(what, path, e))
    }
}
