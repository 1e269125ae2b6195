//! The thread that compares what this process holds of its data directory with what is there.

use std::time::Duration;

use crate::store::local::shared::Shared;
use crate::sync;

/// How often what is held is compared with what is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread. Returns when the store stops.
///
/// A journal that is sealed is looked at in its turn: events of which nothing is left would be
/// answered as known.
pub(crate) fn run(shared: &Shared) {
    let mut turn = 0;
    while !shared.is_stopping() {
        // A disk on which looking hangs is one that hangs.
        let seen = shared.watches.hold.during(shared.now(), || {
            shared.manifest.hold().check()?;
            let generations = shared.generations();
            let Some(live) = generations.last() else { return Ok(()) };
            let path = live.journal_path();
            shared.manifest.hold().check_file(&path, live.journal()?.is_at(&path))?;
            turn = (turn + 1) % generations.len();
            let path = generations[turn].journal_path();
            let is_whole = generations[turn].has_whole_journal(&*shared.seams.disk);
            shared.manifest.hold().check_file(&path, is_whole)
        });
        match seen {
            Err(e) => shared.fail(&e),
            Ok(()) => sync::park_timeout(LOOK_EVERY),
        }
    }
}
