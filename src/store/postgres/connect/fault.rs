//! What a failed statement means.

use std::error::Error as _;

use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::error::SqlState;

use crate::error::{Error, ErrorKind};

/// What a statement that failed has done, and whether it may be sent again.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Nothing; sent again, it may succeed.
    Undecided(String),
    /// It may have been carried out.
    Unknown(String),
    /// Nothing, and sent again it would fail again.
    Refused(Error),
}

/// The error that a row of a slot is missing, as the function of the schema raises it.
const NO_SLOT: &str = "SK404";

impl From<&tokio_postgres::Error> for Fate {
    fn from(e: &tokio_postgres::Error) -> Self {
        let Some(code) = e.code() else { return Self::Unknown(sentence(e)) };
        match code {
            // A cancelled statement, one of a primary that has become a standby, one that met a
            // lock, and one that a distributed database could not put in order.
            &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::LOCK_NOT_AVAILABLE
            | &SqlState::QUERY_CANCELED
            | &SqlState::READ_ONLY_SQL_TRANSACTION
            | &SqlState::TOO_MANY_CONNECTIONS
            | &SqlState::OUT_OF_MEMORY => Self::Undecided(sentence(e)),
            &SqlState::DISK_FULL => {
                let message = "the database's disk is full: free space there, then send the request again";
                Self::Refused(Error::new(ErrorKind::NoSpace, message))
            }
            &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_FUNCTION => {
                Self::Refused(foreign(&sentence(e)))
            }
            code if code.code() == NO_SLOT => Self::Refused(foreign(&sentence(e))),
            // What ends a connection: a server that stops, crashes or starts, a protocol cut short.
            code if code.code().starts_with("57P") || code.code().starts_with("08") => {
                Self::Unknown(sentence(e))
            }
            _ => Self::Refused(Error::new(
                ErrorKind::Io,
                format!("the database refused a statement: {}", sentence(e)),
            )),
        }
    }
}

impl Fate {
    /// The answer to a read that met it.
    pub(crate) fn of_read(self) -> Error {
        match self {
            Self::Undecided(why) | Self::Unknown(why) => {
                Error::new(ErrorKind::Overloaded, format!("the database did not answer ({why}); retry later"))
            }
            Self::Refused(e) => e,
        }
    }
}

/// What answers is another database than the store's.
pub(crate) fn foreign(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("this is not the store's database: {why}"))
}

/// A failed read.
pub(crate) fn read_failed(e: &tokio_postgres::Error) -> Error {
    Fate::from(e).of_read()
}

/// A read that had no answer for so long that its server stands still.
pub(crate) fn silent() -> Error {
    Fate::Undecided("it has been silent for too long".to_owned()).of_read()
}

/// Why no connection was to be had, or it is none to the store's database: nothing was sent.
pub(crate) fn unreachable(e: &PoolError) -> Error {
    let why = match e {
        PoolError::Timeout(_) => "no connection within the time for it".to_owned(),
        PoolError::Backend(e) => sentence(e),
        PoolError::PostCreateHook(HookError::Backend(e)) => match Fate::from(e) {
            Fate::Refused(e) if e.kind() == ErrorKind::Corrupt => return e,
            _ => format!("a session can't be set up: {}", sentence(e)),
        },
        PoolError::PostCreateHook(HookError::Message(why)) => return foreign(why),
        PoolError::Closed => {
            let message = "the service is stopping; send the request again later";
            return Error::new(ErrorKind::Stopping, message);
        }
        PoolError::NoRuntimeSpecified => "no runtime".to_owned(),
    };
    Error::new(ErrorKind::Overloaded, format!("the database can't be reached ({why}); retry later"))
}

/// What an error says, with its causes: the library's own sentence alone is "db error".
pub(crate) fn sentence(e: &tokio_postgres::Error) -> String {
    match (e.as_db_error(), e.source()) {
        (Some(said), _) => format!("{} ({})", said.message(), said.code().code()),
        (None, Some(cause)) => format!("{e}: {cause}"),
        (None, None) => e.to_string(),
    }
}
