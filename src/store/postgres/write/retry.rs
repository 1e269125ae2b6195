//! Statements that are sent until they are answered, or until nobody waits for them any more.
//!
//! | the statement | then |
//! |---|---|
//! | surely did nothing (a lock, a serialization failure, no connection) | it is sent again |
//! | may have been carried out (its connection was lost, the server stopped, a wait was cancelled) | it is sent again, as it is: it must know itself |
//! | has no answer when time is over | its outcome is unknown, and its connection is given up |

use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::DATABASE_REQUEST_SECONDS;
use crate::store::postgres::connect::connection::{Lease, Statement};
use crate::store::postgres::connect::fault::Fate;
use crate::store::postgres::node::group::Group;
use crate::store::postgres::node::pauses::Pauses;
use crate::store::postgres::node::shared::Shared;
use crate::sync;

/// Why a statement has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was refused, and did nothing.
    Refused(Error),
    /// Time is over, and it did nothing.
    Undone(String),
    /// Time is over, and it may have been carried out.
    Unknown(String),
}

/// A connection to a database for a statement that commits; nothing was sent if there is none in
/// time.
///
/// # Errors
/// `Overloaded`, `Stopping`.
pub(crate) async fn connect(shared: &Shared, group: &Group, deadline: Instant) -> Result<Lease> {
    let mut pauses = Pauses::default();
    loop {
        let left = deadline.saturating_duration_since(shared.now());
        let failed = match sync::timeout(left, group.connections.write()).await {
            Some(Ok(connection)) if !left.is_zero() => return Ok(connection),
            Some(Err(e)) => e,
            _ => Error::new(ErrorKind::Overloaded, "the database gave no connection in time; retry later"),
        };
        if failed.kind() != ErrorKind::Overloaded || pauses.pass(&*shared.clock, deadline).await.is_none() {
            return Err(failed);
        }
    }
}

/// Sends a statement until it is answered, first over this connection; `slot` is for the log.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn until_answered<T, F: Future<Output = Result<T, Fate>>>(
    shared: &Shared,
    group: &Group,
    slot: Option<usize>,
    deadline: Instant,
    mut connection: Result<Lease>,
    mut send: impl FnMut(Lease) -> F,
) -> Result<T, Failure> {
    let (mut unknown, mut pauses) = (None, Pauses::default());
    loop {
        let (fate, is_over) = match connection {
            Ok(lease) => {
                let left = deadline.saturating_duration_since(shared.now());
                match sync::timeout(left, send(lease)).await {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(fate)) => (fate, false),
                    None => (Fate::Unknown("no answer in time".to_owned()), true),
                }
            }
            Err(e) if e.kind() == ErrorKind::Overloaded => (Fate::Undecided(e.to_string()), false),
            Err(e) => (Fate::Refused(e), true),
        };
        let why = match fate {
            Fate::Refused(e) if unknown.is_none() => return Err(Failure::Refused(e)),
            Fate::Refused(e) => e.to_string(),
            Fate::Undecided(why) => why,
            Fate::Unknown(why) => {
                unknown = Some(why.clone());
                why
            }
        };
        shared.retried(slot, &why);
        if is_over || pauses.pass(&*shared.clock, deadline).await.is_none() {
            return Err(unknown.map_or(Failure::Undone(why), Failure::Unknown));
        }
        connection = connect(shared, group, deadline).await;
    }
}

/// Carries out a statement that changes a consumer, where consumers are. Carried out twice, it must
/// change nothing more.
///
/// # Errors
/// `Overloaded` and `Stopping`: nothing was changed. `Unsure`: it may be. Those of the statement.
pub(crate) async fn change(
    shared: &Shared,
    statement: Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>> {
    let home = shared.groups.home();
    home.check_promise()?;
    let deadline = shared.now() + Duration::from_secs(DATABASE_REQUEST_SECONDS);
    let connection = connect(shared, home, deadline).await;
    let send = |lease| home.connections.commit(lease, statement, parameters);
    until_answered(shared, home, None, deadline, connection, send).await.map_err(|failure| match failure {
        Failure::Refused(e) => {
            if e.kind() == ErrorKind::Corrupt {
                shared.fail(e.to_string());
            }
            e
        }
        Failure::Undone(why) => {
            let message = format!("the database takes no changes ({why}); nothing was changed, retry later");
            Error::new(ErrorKind::Overloaded, message)
        }
        Failure::Unknown(why) => {
            let message = format!("whether the change was made is unknown ({why}); sending it again is safe");
            Error::new(ErrorKind::Unsure, message)
        }
    })
}
