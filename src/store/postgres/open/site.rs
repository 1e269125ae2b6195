//! A database of a store, as it is looked at and made.

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tracing::info;

use super::schema::{New, State, Store, check_server, existing, migrate, state, unusable, version};
use crate::config::{Durability, Slots};
use crate::error::{Error, ErrorKind, Result};
use crate::store::postgres::connect::connector::connect;
use crate::store::postgres::connect::options::Database;

/// A database for which no primary answers, and why.
pub(crate) type Away = (Database, Error);

/// A database that is looked at, over a connection of its own.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) database: Database,
    pub(crate) client: Client,
    connection: JoinHandle<()>,
    /// `None` if it is empty.
    pub(crate) state: Option<State>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Site {
    /// Connects to a database.
    ///
    /// # Errors
    /// `Overloaded`: no primary answers. `Unusable`.
    pub(crate) async fn connect(database: Database, durability: Durability) -> Result<Self> {
        let (client, connection) =
            connect(&database.connections, durability).await.map_err(|e| of(&database, &e))?;
        Ok(Self { database, client, connection, state: None })
    }

    /// Looks at the databases, and brings their schemas up to date. The first is looked at last:
    /// what another node makes meanwhile, it makes from that one. Those that do not answer are
    /// apart.
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) async fn all(
        databases: Vec<Database>,
        durability: Durability,
    ) -> Result<(Vec<Self>, Vec<Away>)> {
        let (mut sites, mut away) = (Vec::with_capacity(databases.len()), Vec::new());
        for database in databases.into_iter().rev() {
            match Self::connect(database.clone(), durability).await {
                Ok(mut site) => {
                    site.look(durability).await.map_err(|e| of(&site.database, &e))?;
                    sites.push(site);
                }
                Err(e) if e.kind() == ErrorKind::Overloaded => away.push((database, e)),
                Err(e) => return Err(e),
            }
        }
        sites.reverse();
        Ok((sites, away))
    }

    /// Looks at the databases without changing anything.
    ///
    /// # Errors
    /// `Unusable`: one holds no store of this version.
    pub(crate) async fn existing(databases: Vec<Database>, durability: Durability) -> Result<Vec<Self>> {
        let mut sites = Vec::with_capacity(databases.len());
        for database in databases {
            let mut site = Self::connect(database, durability).await.map_err(|e| lasting(&e))?;
            site.state = existing(&site.client).await.map_err(|e| of(&site.database, &e))?;
            if site.state.is_none() {
                return Err(of(&site.database, &unusable("it holds no store: is it the right one?")));
            }
            sites.push(site);
        }
        Ok(sites)
    }

    /// Looks at the database, and brings its schema up to date.
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) async fn look(&mut self, durability: Durability) -> Result<()> {
        check_server(&self.client, durability).await?;
        if version(&self.client).await?.is_some() {
            migrate(&mut self.client, &New { part_of: None, owned: &[] }).await?;
            self.state = Some(state(&self.client).await?);
        }
        Ok(())
    }

    /// Makes its part of a store in an empty database, with these slots.
    ///
    /// # Errors
    /// `Unusable`.
    pub(crate) async fn make(&mut self, part_of: Option<&Store>, owned: &[usize]) -> Result<()> {
        info!(database = self.database.name, slots = %slots(owned), "a part of the store is made");
        let made = async {
            migrate(&mut self.client, &New { part_of, owned }).await?;
            state(&self.client).await
        };
        self.state = Some(made.await.map_err(|e| of(&self.database, &e))?);
        Ok(())
    }

    /// The slots that it owns.
    pub(crate) fn owns(&self, slot: usize) -> bool {
        self.state.as_ref().is_some_and(|state| state.owned.contains(&slot))
    }

    /// The number of the database that gets a slot which this one has given up.
    pub(crate) fn leaving(&self, slot: usize) -> Option<u128> {
        let leaving = self.state.as_ref()?.leaving.iter();
        leaving.into_iter().find(|(leaving, _)| *leaving == slot).map(|(_, target)| *target)
    }
}

/// An error of a database, which it names.
pub(crate) fn of(database: &Database, e: &Error) -> Error {
    Error::new(e.kind(), format!("{}: {e}", database.name))
}

/// The same error where nobody waits for the database.
pub(crate) fn lasting(e: &Error) -> Error {
    Error::new(ErrorKind::Unusable, e.to_string())
}

pub(crate) fn slots(numbers: &[usize]) -> Slots {
    numbers.iter().copied().collect()
}
