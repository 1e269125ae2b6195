//! Opening the databases of a store together: they must be those of one store, and own its slots as
//! the configuration says. Where all are empty, a store is made.
//!
//! The first database decides what the store is, and the others are made from it. Each is made in one
//! transaction that locks, so nodes that start at the same time make one store. The first one notes
//! when all are made: from then on an empty database is a mistake, and one that does not answer keeps
//! no node from starting. What is its own is taken from the configuration, and seen to be so before
//! anything is sent to it ([`prove`]).

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tracing::{info, warn};

use super::connector::connect;
use super::fault::sentence;
use super::options::{Database, Options};
use super::schema::{
    Identity, New, STANDBYS, State, Store, check_server, confirmed, existing, migrate, state, unusable,
    version,
};
use crate::config::{Durability, Slots};
use crate::error::{Error, ErrorKind, Result};

/// A store whose databases can be served.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) store: Store,
    /// Each with what it is known by, or why it could not be looked at.
    pub(crate) databases: Vec<(Database, Result<Identity, String>)>,
    /// The place of the database that has the consumers.
    pub(crate) home: usize,
}

/// A database for which no primary answers, and why.
type Away = (Database, Error);

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
    async fn connect(database: Database, durability: Durability) -> Result<Self> {
        let (client, connection) =
            connect(&database.connections, durability).await.map_err(|e| of(&database, &e))?;
        Ok(Self { database, client, connection, state: None })
    }

    /// Looks at the databases, and brings their schemas up to date. The first is looked at last: what
    /// another node makes meanwhile, it makes from that one. Those that do not answer are apart.
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

    async fn look(&mut self, durability: Durability) -> Result<()> {
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

/// Opens the databases of a store, or makes one.
///
/// # Errors
/// `Unusable`: what is wrong, and what to do.
pub(crate) async fn prepare(options: &Options, must_exist: bool) -> Result<Prepared> {
    let (mut sites, away) = Site::all(options.ordered(), options.durability).await?;
    let states = || sites.iter().filter_map(|site| site.state.as_ref());
    let is_known = states().count() == sites.len() && states().any(|state| state.is_home && state.is_whole);
    if let Some((_, e)) = away.first().filter(|_| !is_known) {
        return Err(lasting(e));
    }
    if let Some(empty) = sites.iter().find(|site| site.state.is_none()) {
        if must_exist {
            let why = unusable("it holds no store, and must_exist is set: is it the right one?");
            return Err(of(&empty.database, &why));
        }
        make(&mut sites).await?;
    }
    let (store, home) = one_store(&sites)?;
    check_owners(&sites, &away, store.slots)?;
    if sites[home].state.as_ref().is_some_and(|state| !state.is_whole) {
        let whole = "UPDATE sekali_store SET is_whole = true";
        let client = &sites[home].client;
        let noted = async {
            let standbys = client.query_one(STANDBYS, &[]).await?.get(0);
            confirmed(standbys, client.execute(whole, &[])).await
        };
        let noted = noted.await;
        noted.map_err(|e| of(&sites[home].database, &unusable(&sentence(&e))))?;
    }
    let identified = |site: &Site| Some((site.database.clone(), Ok(site.state.as_ref()?.identity())));
    let databases = sites.iter().filter_map(identified);
    let away = away.into_iter().map(|(database, e)| (database, Err(e.to_string())));
    Ok(Prepared { store, databases: databases.chain(away).collect(), home })
}

/// Looks at a database that did not answer when the store was opened: it must be the part of it that
/// it was taken for. It is known again by what is returned.
///
/// # Errors
/// `Overloaded`: it does not answer. `Unusable`.
pub(crate) async fn prove(database: &Database, store: &Store, durability: Durability) -> Result<Identity> {
    let mut site = Site::connect(database.clone(), durability).await?;
    site.look(durability).await.map_err(|e| of(database, &e))?;
    let why = match &site.state {
        None => "it holds no store: is it the right one?".to_owned(),
        Some(state) if !state.store.is_same(store) => "it is part of another store".to_owned(),
        Some(state) if state.is_home => {
            "it has the consumers, and so has another one: one is a copy".to_owned()
        }
        Some(state) if state.owned != database.slots => format!(
            "it has the slots {}, and the configuration says {}: correct that, or stop all nodes and move slots with \
             `sekali regroup`",
            slots(&state.owned),
            slots(&database.slots)
        ),
        Some(state) => return Ok(state.identity()),
    };
    Err(of(database, &unusable(&why)))
}

/// Makes what is missing of a new store.
async fn make(sites: &mut [Site]) -> Result<()> {
    if sites.iter().all(|site| site.state.is_none()) {
        warn!("there is no store: one is made");
        let owned = sites[0].database.slots.clone();
        sites[0].make(None, &owned).await?;
    }
    let home = sites.iter().filter_map(|site| site.state.as_ref()).find(|state| state.is_home).cloned();
    for site in sites.iter_mut().filter(|site| site.state.is_none()) {
        if let Some(home) = home.as_ref().filter(|home| !home.is_whole) {
            let owned = site.database.slots.clone();
            site.make(Some(&home.store), &owned).await?;
            continue;
        }
        // Another node may have made it since it was looked at, and then noted that the store is whole.
        site.state = existing(&site.client).await.map_err(|e| of(&site.database, &e))?;
        if site.state.is_none() {
            let why = "it holds no store, and the others are those of a store that was made whole: is it the right one? \
                       A new database is given slots by `sekali regroup`";
            return Err(of(&site.database, &unusable(why)));
        }
    }
    Ok(())
}

/// The store that these databases are parts of, and the place of its home.
///
/// # Errors
/// `Unusable`: they are not of one store, or not all of it.
pub(crate) fn one_store(sites: &[Site]) -> Result<(Store, usize)> {
    let states = || sites.iter().filter_map(|site| Some((site, site.state.as_ref()?)));
    let Some((first, state)) = states().next() else { return Err(unusable("there is no store in it")) };
    for (place, (site, other)) in states().enumerate() {
        if !other.store.is_same(&state.store) {
            let why = format!(
                "it is part of another store than {}: name the databases of one store",
                first.database.name
            );
            return Err(of(&site.database, &unusable(&why)));
        }
        if let Some((twin, _)) = states().take(place).find(|(_, earlier)| earlier.database == other.database)
        {
            let why =
                format!("it is the same database as {}, or a copy of it: name each once", twin.database.name);
            return Err(of(&site.database, &unusable(&why)));
        }
    }
    let is_home = |site: &Site| site.state.as_ref().is_some_and(|state| state.is_home);
    let Some(home) = sites.iter().position(is_home) else {
        return Err(unusable(
            "none of those that are named is the store's first one, which has the consumers: name it too",
        ));
    };
    let store = Store {
        is_filling: states().any(|(_, state)| state.store.is_filling),
        arrival_slack: states().map(|(_, state)| state.store.arrival_slack).max().unwrap_or_default(),
        ..state.store
    };
    Ok((store, home))
}

/// Checks that each slot is where the configuration says, and nowhere else. What is said of databases
/// that are away is believed, unless another one has it.
///
/// # Errors
/// `Unusable`.
pub(crate) fn check_owners(sites: &[Site], away: &[Away], slots_total: usize) -> Result<()> {
    for slot in 0..slots_total {
        let is_meant = |database: &&Database| database.slots.contains(&slot);
        let is_known = sites.iter().any(|site| site.owns(slot) || site.leaving(slot).is_some());
        let of_away = away.iter().map(|(database, _)| database).find(is_meant);
        if of_away.is_some() && !is_known {
            continue;
        }
        let meant = sites.iter().map(|site| &site.database).find(is_meant).or(of_away);
        let owner = owner(sites, slot, slots_total)?;
        let Some(meant) = meant else {
            return Err(unusable(&format!(
                "the store has {slots_total} slots, and no database is named for slot {slot}"
            )));
        };
        match owner {
            Some(owner) if std::ptr::eq(&owner.database, meant) => {}
            Some(owner) => {
                let why = format!(
                    "slot {slot} is in {}, and the configuration says that it is in {}: correct that, or stop all nodes and move \
                     the slot with `sekali regroup`",
                    owner.database.name, meant.name
                );
                return Err(unusable(&why));
            }
            None => {
                let why = format!(
                    "slot {slot} is on its way from one database to another: run `sekali regroup` until it says that all \
                     slots are in their places"
                );
                return Err(unusable(&why));
            }
        }
    }
    Ok(())
}

/// The database that has a slot; `None` if it is on its way.
///
/// # Errors
/// `Unusable`: no database has it, or several have.
pub(crate) fn owner(sites: &[Site], slot: usize, slots_total: usize) -> Result<Option<&Site>> {
    let mut owners = sites.iter().filter(|site| site.owns(slot));
    match (owners.next(), owners.next()) {
        (Some(owner), None) => Ok(Some(owner)),
        (Some(one), Some(other)) => {
            let why = format!(
                "slot {slot} is in {} and in {}: one of them is an older copy; find out which, and do not start nodes before",
                one.database.name, other.database.name
            );
            Err(unusable(&why))
        }
        (None, _) if sites.iter().any(|site| site.leaving(slot).is_some()) => Ok(None),
        (None, _) => {
            let why = format!(
                "slot {slot} is in no database that is named, of {slots_total} slots that the store has: name all of \
                 its databases, each restored whole"
            );
            Err(unusable(&why))
        }
    }
}
