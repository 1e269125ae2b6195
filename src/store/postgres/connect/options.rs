//! What a user sets of a store in databases.

use tokio_postgres::Config;

use super::connector::complete;
use crate::config::Durability;

/// What a user sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// The databases that share the store's slots.
    pub databases: Vec<Database>,
    /// The user's password, where a URL has none.
    pub password: Option<Vec<u8>>,
    /// What an answer promises.
    pub durability: Durability,
    /// Refuse to make a store where there is none.
    pub must_exist: bool,
    /// Most topics that there may be.
    pub topics_max: usize,
}

/// One of the databases that share a store's slots.
#[derive(Clone, Debug)]
pub struct Database {
    /// What people call it: its URL without secrets.
    pub name: String,
    /// Servers, database and user.
    pub connections: Config,
    /// The slots that it has to own, in order.
    pub slots: Vec<usize>,
}

impl Options {
    /// The databases with all that a connection needs, in the order of their first slots; those
    /// without any come last.
    pub(crate) fn ordered(&self) -> Vec<Database> {
        let complete = |database: &Database| {
            let connections = complete(database.connections.clone(), self.password.as_deref());
            Database { connections, ..database.clone() }
        };
        let mut databases: Vec<Database> = self.databases.iter().map(complete).collect();
        databases.sort_by_key(|database| database.slots.first().copied().unwrap_or(usize::MAX));
        databases
    }
}
