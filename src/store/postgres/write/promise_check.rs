//! Looks again and again whether each database keeps the promise, and says so before a sender finds
//! out.

use std::sync::Weak;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::store::postgres::connect::connection::{REPLACED, Statement};
use crate::store::postgres::connect::fault::foreign;
use crate::store::postgres::connect::identity::{self, Identity};
use crate::store::postgres::node::coverage::{behind, read_rows};
use crate::store::postgres::node::group::{Group, Trouble};
use crate::store::postgres::node::shared::Shared;
use crate::store::postgres::open::opening::prove;
use crate::store::postgres::open::schema::{self, NEWEST, fault_of_settings};

/// What the server is set to.
const SETTINGS: Statement = ("settings", schema::SETTINGS);
/// Which database it is, and the version of its schema.
const STORE: Statement = ("settings", identity::IDENTITY);
/// Standbys that commits may wait for, and whether the user may not see of each whether it is one.
const STANDBYS: Statement = (
    "standbys",
    "SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), count(*) > count(sync_state)
     FROM pg_stat_replication",
);
/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the database at this place until the store is gone.
pub(crate) async fn keep(shared: Weak<Shared>, place: usize) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let group = shared.groups.get(place);
        match look(&shared, group).await {
            Ok(trouble) => group.set_trouble(trouble),
            Err(e) => shared.fail(e.to_string()),
        }
    }
}

/// What is wrong with a database.
///
/// # Errors
/// `Corrupt`: it is no longer the store's.
pub(crate) async fn look(shared: &Shared, group: &Group) -> Result<Option<Trouble>> {
    match try_out(shared, group).await {
        Err(e) if e.kind() == ErrorKind::Corrupt => Err(e),
        Err(e) if group.connections.identity().is_none() => Ok(Some(Trouble::Unsafe(e.to_string()))),
        Err(e) => {
            if e.kind() == ErrorKind::Overloaded {
                // The next look is at whichever server is the primary then.
                group.connections.forget();
            }
            Ok(Some(Trouble::Silent(e.to_string())))
        }
        Ok(fault) => Ok(fault.map(Trouble::Unsafe)),
    }
}

/// What of its settings would break the promise.
async fn try_out(shared: &Shared, group: &Group) -> Result<Option<String>> {
    if group.connections.identity().is_none() {
        group.connections.prove(prove(&group.database, &shared.store, shared.durability).await?);
    }
    // Before the rows are read: other answers may come meanwhile.
    let covered = group.coverage.present();
    let client = group.connections.read().await?;
    let settings = client.rows(SETTINGS, &[]).await?;
    if let Some(fault) = settings.first().and_then(|row| fault_of_settings(row, shared.durability)) {
        return Ok(Some(fault.to_owned()));
    }
    let store = client.rows(STORE, &[]).await?;
    if Identity::of(&store) != group.connections.identity() {
        return Err(foreign(REPLACED));
    }
    group.set_version(store.first().map_or(NEWEST, |row| row.get(3)));
    // Who may not see it, or has a relative of PostgreSQL, goes without.
    let standbys = client.rows(STANDBYS, &[]).await.ok();
    let row = standbys.as_ref().and_then(|rows| rows.first()).filter(|row| !row.get::<_, bool>(1));
    group.set_standbys(row.map(|row| row.get(0)));
    let rows = read_rows(&client, &group.slots).await?;
    // Also while nothing is stored: this is how the loss of the standbys is noticed. It is the
    // server whose rows were read, so they are not those of a former primary: that has no standbys
    // any more.
    group.coverage.commit_by(&group.connections, client.into_lease()).await?;
    if let Some(slot) = behind(&covered, &rows) {
        let message = format!(
            "the database has lost events of slot {slot} that it had acknowledged: it was restored from an older copy, or a \
             standby without them became the primary; compare with the former primary before anything is sent again"
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    group.looked(&rows);
    Ok(None)
}
