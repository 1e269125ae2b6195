//! Which database has which slots: those that are named must be all of one store, and own its slots
//! as the configuration says.

use super::schema::{Store, unusable};
use super::site::{Away, Site, of};
use crate::error::Result;
use crate::store::postgres::connect::options::Database;

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

/// Checks that each slot is where the configuration says, and nowhere else. What is said of
/// databases that are away is believed, unless another one has it.
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
