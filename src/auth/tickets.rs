//! Tickets: what a page in a browser shows once, in the place of a token, where it can't send
//! headers.
//!
//! A ticket stands in a URL, which is logged on its way and kept by browsers. So it can be used
//! once, and soon.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::token::random;
use crate::error::Error;
use crate::limits::{AUTH_TICKET_SECONDS, AUTH_TICKETS_CLIENT_MAX, AUTH_TICKETS_MAX};
use crate::quota::QuotaKey;
use crate::sync::Mutex;

/// Characters of a ticket: 22 of 62 values each are 130 bits.
const TICKET_CHARS: usize = 22;

/// The tickets that were given and not used.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<HashMap<String, Ticket>>);

#[derive(Debug)]
struct Ticket {
    caller: Caller,
    /// Whom it is counted for.
    client: QuotaKey,
    until: Instant,
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum NoTicket {
    /// Too many wait to be used.
    #[error("too many tickets wait to be used; ask for one when it is needed")]
    Full,
    /// Too many of this client do.
    #[error("this client has too many tickets that wait to be used; ask for one when it is needed")]
    Share,
    /// The operating system gives no randomness.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Tickets {
    /// A ticket for a caller, which is counted for `client`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn issue(&self, caller: Caller, client: QuotaKey, now: Instant) -> Result<String, NoTicket> {
        let mut tickets = self.0.lock();
        let own = |tickets: &HashMap<String, Ticket>| {
            tickets.values().filter(|ticket| ticket.client == client).count()
        };
        if tickets.len() >= AUTH_TICKETS_MAX || own(&tickets) >= AUTH_TICKETS_CLIENT_MAX {
            tickets.retain(|_, ticket| ticket.until > now);
        }
        if own(&tickets) >= AUTH_TICKETS_CLIENT_MAX {
            return Err(NoTicket::Share);
        }
        if tickets.len() >= AUTH_TICKETS_MAX {
            return Err(NoTicket::Full);
        }
        let text = random(TICKET_CHARS)?;
        let until = now + Duration::from_secs(AUTH_TICKET_SECONDS);
        tickets.insert(text.clone(), Ticket { caller, client, until });
        Ok(text)
    }

    /// Whose ticket this is. It can't be used again.
    pub fn redeem(&self, ticket: &str, now: Instant) -> Option<Caller> {
        let Ticket { caller, until, .. } = self.0.lock().remove(ticket)?;
        (until > now && !caller.has_ended()).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn client(number: usize) -> QuotaKey {
        QuotaKey::Grant(number as u64)
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let (tickets, now) = (Tickets::default(), SystemClock.monotonic());
        let one = tickets.issue(Caller::anyone(), client(1), now).unwrap();
        assert!(tickets.redeem("", now).is_none());
        assert!(tickets.redeem(&one, now).is_some());
        assert!(tickets.redeem(&one, now).is_none());
        let late = tickets.issue(Caller::anyone(), client(1), now).unwrap();
        assert!(tickets.redeem(&late, now + Duration::from_secs(AUTH_TICKET_SECONDS)).is_none());
    }

    #[test]
    fn a_client_that_takes_all_it_may_leaves_tickets_for_others_and_old_ones_make_room() {
        let (tickets, now) = (Tickets::default(), SystemClock.monotonic());
        let issue = |number, now| tickets.issue(Caller::anyone(), client(number), now);
        for hog in 0..AUTH_TICKETS_MAX / AUTH_TICKETS_CLIENT_MAX {
            for _ in 0..AUTH_TICKETS_CLIENT_MAX {
                issue(hog, now).unwrap();
            }
            assert!(matches!(issue(hog, now), Err(NoTicket::Share)), "{hog}");
        }
        assert!(matches!(issue(99, now), Err(NoTicket::Full)));
        let later = now + Duration::from_secs(AUTH_TICKET_SECONDS);
        assert!(issue(99, later).is_ok() && issue(0, later).is_ok());
    }
}
