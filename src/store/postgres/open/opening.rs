//! Opening the databases of a store together: they must be those of one store, and own its slots as
//! the configuration says. Where all are empty, a store is made.
//!
//! The first database decides what the store is, and the others are made from it. Each is made in
//! one transaction that locks, so nodes that start at the same time make one store. The first one
//! notes when all are made: from then on an empty database is a mistake, and one that does not
//! answer keeps no node from starting. What is its own is taken from the configuration, and seen to
//! be so before anything is sent to it ([`prove`]).

use tracing::warn;

use super::owners::{check_owners, one_store};
use super::schema::{Store, confirmed, existing, unusable};
use super::site::{Site, lasting, of, slots};
use crate::config::Durability;
use crate::error::Result;
use crate::store::postgres::connect::fault::sentence;
use crate::store::postgres::connect::identity::{Identity, STANDBYS};
use crate::store::postgres::connect::options::{Database, Options};

/// A store whose databases can be served.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) store: Store,
    /// Each with what it is known by, or why it could not be looked at.
    pub(crate) databases: Vec<(Database, Result<Identity, String>)>,
    /// The place of the database that has the consumers.
    pub(crate) home: usize,
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

/// Looks at a database that did not answer when the store was opened: it must be the part of it
/// that it was taken for. It is known again by what is returned.
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
        // Another node may have made it since it was looked at, and then noted that the store is
        // whole.
        site.state = existing(&site.client).await.map_err(|e| of(&site.database, &e))?;
        if site.state.is_none() {
            let why = "it holds no store, and the others are those of a store that was made whole: is it the right one? \
                       A new database is given slots by `sekali regroup`";
            return Err(of(&site.database, &unusable(why)));
        }
    }
    Ok(())
}
