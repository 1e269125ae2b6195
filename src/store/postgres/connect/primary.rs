//! Which server is the primary.
//!
//! What a server shows and what another one confirms do not belong together: a primary that dies may
//! have shown what no standby has, and the next one commits all the same. So a read and the commit
//! that covers it must meet one primary.

use std::time::{Instant, SystemTime};

use crate::sync::Mutex;

/// The server that connections were made to last.
#[derive(Debug, Default)]
pub(super) struct Primary(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    number: u64,
    /// When it was started.
    server: Option<SystemTime>,
    /// Connections that were made before this may be to another server.
    since: Option<Instant>,
}

/// Another one with each change of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrimaryNumber(u64);

impl Primary {
    /// A connection was made to a server that was started at `server`; it is `now`.
    pub(super) fn meet(&self, server: SystemTime, now: Instant) {
        let mut met = self.0.lock();
        let Some(before) = met.server.replace(server) else { return };
        if before != server {
            met.number += 1;
            met.since = Some(now);
        }
    }

    /// Whether a connection that was made at `created` is to this server.
    pub(super) fn is_present(&self, created: Instant) -> bool {
        self.0.lock().since.is_none_or(|since| created > since)
    }

    pub(super) fn number(&self) -> PrimaryNumber {
        PrimaryNumber(self.0.lock().number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn a_change_of_the_server_ends_connections_that_were_made_before() {
        let (primary, begin) = (Primary::default(), SystemClock.monotonic());
        let at = |second| begin + Duration::from_secs(second);
        let (one, other) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        primary.meet(one, at(1));
        let number = primary.number();
        primary.meet(one, at(2));
        assert!(primary.is_present(begin) && primary.number() == number);
        primary.meet(other, at(3));
        assert_ne!(primary.number(), number);
        assert!(!primary.is_present(at(2)) && !primary.is_present(at(3)) && primary.is_present(at(4)));
        // As it was, and not the one that it was: what happened meanwhile is not known.
        primary.meet(one, at(5));
        assert_ne!(primary.number(), number);
        assert!(!primary.is_present(at(4)));
    }
}
