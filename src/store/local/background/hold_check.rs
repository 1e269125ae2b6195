//! The thread that compares what this process holds of its data directory with what is there.

use std::time::Duration;

use crate::store::local::shared::Shared;
use crate::sync;

/// How often what is held is compared with what is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread. Returns when the store stops.
pub(crate) fn run(shared: &Shared) {
    while !shared.is_stopping() {
        // A disk on which looking hangs is one that hangs.
        let seen = shared.watches.hold.during(shared.now(), || {
            shared.manifest.hold().check()?;
            let Some(live) = shared.generations().last().cloned() else { return Ok(()) };
            let path = live.journal_path();
            shared.manifest.hold().check_file(&path, live.journal()?.is_at(&path))
        });
        match seen {
            Err(e) => shared.fail(&e),
            Ok(()) => sync::park_timeout(LOOK_EVERY),
        }
    }
}
