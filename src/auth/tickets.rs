//! Tickets: what a page in a browser shows once, in the place of a token, where it can't send
//! headers.
//!
//! A ticket stands in a URL, which is logged on its way and kept by browsers. So it can be used
//! once, and soon.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::token::random;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{AUTH_TICKET_SECONDS, AUTH_TICKETS_MAX};
use crate::sync::Mutex;

/// Characters of a ticket: 22 of 62 values each are 130 bits.
const TICKET_CHARS: usize = 22;

/// The tickets that were given and not used.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<HashMap<String, Ticket>>);

#[derive(Debug)]
struct Ticket {
    caller: Caller,
    until: Instant,
}

impl Tickets {
    /// A ticket for a caller.
    ///
    /// # Errors
    /// `Overloaded`: too many wait to be used. `Io`: the operating system gives no randomness.
    pub fn issue(&self, caller: Caller, now: Instant) -> Result<String> {
        let mut tickets = self.0.lock();
        if tickets.len() >= AUTH_TICKETS_MAX {
            tickets.retain(|_, ticket| ticket.until > now);
        }
        if tickets.len() >= AUTH_TICKETS_MAX {
            let message = "too many tickets wait to be used; ask for one when it is needed";
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        let text = random(TICKET_CHARS)?;
        let until = now + Duration::from_secs(AUTH_TICKET_SECONDS);
        tickets.insert(text.clone(), Ticket { caller, until });
        Ok(text)
    }

    /// Whose ticket this is. It can't be used again.
    pub fn redeem(&self, ticket: &str, now: Instant) -> Option<Caller> {
        let Ticket { caller, until } = self.0.lock().remove(ticket)?;
        (until > now && !caller.has_ended()).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let (tickets, now) = (Tickets::default(), SystemClock.monotonic());
        let one = tickets.issue(Caller::anyone(), now).unwrap();
        assert!(tickets.redeem("", now).is_none());
        assert!(tickets.redeem(&one, now).is_some());
        assert!(tickets.redeem(&one, now).is_none());
        let late = tickets.issue(Caller::anyone(), now).unwrap();
        assert!(tickets.redeem(&late, now + Duration::from_secs(AUTH_TICKET_SECONDS)).is_none());
    }

    #[test]
    fn there_are_so_many_at_most_and_old_ones_make_room() {
        let (tickets, now) = (Tickets::default(), SystemClock.monotonic());
        for _ in 0..AUTH_TICKETS_MAX {
            tickets.issue(Caller::anyone(), now).unwrap();
        }
        assert!(tickets.issue(Caller::anyone(), now).is_err());
        assert!(tickets.issue(Caller::anyone(), now + Duration::from_secs(AUTH_TICKET_SECONDS)).is_ok());
    }
}
