//! The exit codes of commands, and the failures that lead to them.

use std::fmt::{self, Display};
use std::process::ExitCode;

use sekali::error::{Error, ErrorKind};

/// The exit codes. Scripts rely on them: a number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command has done its work.
    Success = 0,
    /// The command found a fault: damage, counts that differ, a service that is not ready.
    Fault = 1,
    // 2 is clap's: the command line is wrong.
    /// The configuration is wrong.
    Configuration = 3,
    /// Another process has the data directory.
    Locked = 4,
    /// The data directory can't be used: it is missing, not writable or full, holds no store, or
    /// one of a newer format.
    Unusable = 5,
    /// The address is in use, or can't be listened on.
    Listen = 6,
    /// What is on disk is damaged.
    Damaged = 7,
    /// The store failed while running; a restart recovers.
    StoreFailed = 8,
    /// The service could not be reached, or was busy for too long.
    Unreachable = 9,
    /// No such event is stored, says `get`.
    Absent = 10,
    /// Ctrl-C has ended the command.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Unusable | ErrorKind::NoSpace => Self::Unusable,
            ErrorKind::Corrupt => Self::Damaged,
            ErrorKind::BadCursor
            | ErrorKind::ExpiredCursor
            | ErrorKind::NoConsumer
            | ErrorKind::Unsupported
            | ErrorKind::Conflict
            | ErrorKind::Overloaded
            | ErrorKind::Rebuilding
            | ErrorKind::Unsure
            | ErrorKind::Stopping
            | ErrorKind::Io => Self::StoreFailed,
        }
    }
}

/// A command that could not do its work: how it ends, and a sentence for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    sentence: String,
}

impl Failure {
    /// A failure that ends with `exit` and says `sentence`.
    pub(crate) fn new(exit: Exit, sentence: impl Display) -> Self {
        Self { exit, sentence: sentence.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind().into(), error)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}
