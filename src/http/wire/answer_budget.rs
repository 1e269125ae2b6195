//! The budget of answers: how many of their bytes wait for their readers.
//!
//! A client that reads slowly has its answers wait in memory. All answers share one budget, and
//! what a client may hold depends on what is free: the fuller the budget, the less each client may
//! have, so that something is left for one that holds nothing yet. Its connections share what it
//! may have in the same way. (Choudhury and Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", 1998.)
//!
//! ```text
//! permit ─> a piece is made ─> HTTP holds it ─> it has left, or its connection ended: the bytes are free
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::http::wire::connection::Connection;
use crate::limits::{
    ADMISSION_SECONDS, ANSWER_BYTES_FREE_SHARE, ANSWER_BYTES_INFLIGHT_MAX, ANSWER_BYTES_RESERVED,
    ANSWER_BYTES_UNCOUNTED, ANSWER_WAIT_SECONDS,
};
use crate::quota::QuotaKey;
use crate::sync::Mutex;

/// How often an answer that waits for a permit tries again.
const LOOK: Duration = Duration::from_millis(10);
/// The smallest permit that is worth a piece: with less free, its reader waits.
const LEAST_BYTES: usize = 4 << 10;

/// Which part of the budget an answer takes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Made at once, and soon gone: has a reserve.
    Whole,
    /// Made piece by piece.
    Stream,
}

/// The budget of all connections.
#[derive(Debug, Default)]
pub(crate) struct AnswerBudget {
    held: Mutex<HeldBytes>,
}

/// Bytes held, by kind, and by the clients that hold some.
#[derive(Debug, Default)]
struct HeldBytes {
    whole: usize,
    streams: usize,
    clients: HashMap<QuotaKey, usize>,
}

impl HeldBytes {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Whole => &mut self.whole,
            Kind::Stream => &mut self.streams,
        }
    }

    /// Bytes that answers of a kind may still take.
    fn free(&self, kind: Kind) -> usize {
        let free = ANSWER_BYTES_INFLIGHT_MAX.saturating_sub(self.whole + self.streams);
        match kind {
            Kind::Whole => free,
            Kind::Stream => {
                free.min((ANSWER_BYTES_INFLIGHT_MAX - ANSWER_BYTES_RESERVED).saturating_sub(self.streams))
            }
        }
    }

    /// Bytes that answers of a kind to this client may still take.
    fn free_for(&self, key: QuotaKey, kind: Kind) -> usize {
        self.free(kind).saturating_sub(self.clients.get(&key).copied().unwrap_or_default())
    }

    fn take(&mut self, key: QuotaKey, kind: Kind, bytes: usize) {
        *self.of(kind) += bytes;
        *self.clients.entry(key).or_default() += bytes;
    }

    fn give(&mut self, key: QuotaKey, kind: Kind, bytes: usize) {
        *self.of(kind) -= bytes;
        if let Some(held) = self.clients.get_mut(&key) {
            *held -= bytes;
            if *held == 0 {
                self.clients.remove(&key);
            }
        }
    }
}

impl AnswerBudget {
    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        let held = self.held.lock();
        held.whole + held.streams
    }
}

/// The account with the budget of a connection and of the client that asks by it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    budget: Arc<AnswerBudget>,
    connection: Arc<Connection>,
    key: QuotaKey,
}

impl Account {
    pub(crate) fn new(budget: &Arc<AnswerBudget>, connection: &Arc<Connection>, key: QuotaKey) -> Self {
        Self { budget: Arc::clone(budget), connection: Arc::clone(connection), key }
    }

    /// The number of its connection.
    pub(crate) fn number(&self) -> u64 {
        self.connection.number()
    }

    /// The client that it belongs to.
    pub(crate) fn key(&self) -> QuotaKey {
        self.key
    }

    /// A permit for as much as the connection may have, from `least` to `most` bytes.
    pub(crate) fn take(&self, kind: Kind, least: usize, most: usize) -> Option<AnswerPermit> {
        let mut permit = AnswerPermit { account: self.clone(), kind, bytes: 0 };
        permit.add(least, most).then_some(permit)
    }

    /// Refuses to make a whole answer of at least so many bytes if there is no room for it now.
    ///
    /// # Errors
    /// `Overloaded`: the budget is spent.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<()> {
        let has_room = bytes <= ANSWER_BYTES_UNCOUNTED || self.take(Kind::Whole, bytes, bytes).is_some();
        if has_room { Ok(()) } else { Err(budget_spent()) }
    }

    /// A permit as [`Account::take`] gives it; waits for it no longer than `patience`.
    ///
    /// # Errors
    /// `Overloaded`: there was none.
    pub(crate) async fn wait(
        &self,
        kind: Kind,
        least: usize,
        most: usize,
        patience: Duration,
    ) -> Result<AnswerPermit> {
        let looks = async {
            loop {
                match self.take(kind, least, most) {
                    Some(permit) => return permit,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        tokio::time::timeout(patience, looks).await.map_err(|_| budget_spent())
    }

    /// A permit for a piece of at most `most` bytes, or for less of it. Where streams have taken
    /// everything else, the first piece of an answer may be a small one of the reserve, so that a
    /// short page is served even then.
    ///
    /// # Errors
    /// `Overloaded`: there was none.
    pub(crate) async fn piece(&self, least: usize, most: usize, is_first: bool) -> Result<AnswerPermit> {
        let least = least.max(LEAST_BYTES);
        let most = most.max(least);
        if let Some(permit) = self.take(Kind::Stream, least, most) {
            return Ok(permit);
        }
        if is_first && let Some(permit) = self.take(Kind::Whole, least, least) {
            return Ok(permit);
        }
        let seconds = if is_first { ADMISSION_SECONDS } else { ANSWER_WAIT_SECONDS };
        self.wait(Kind::Stream, least, most, Duration::from_secs(seconds)).await
    }
}

/// What is answered when the budget is spent.
pub(crate) fn budget_spent() -> Error {
    let message = "too many answers wait for their readers; send the request again later";
    Error::new(ErrorKind::Overloaded, message)
}

/// Leave to hold a number of bytes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct AnswerPermit {
    account: Account,
    kind: Kind,
    bytes: usize,
}

impl AnswerPermit {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more, if at least `least` bytes are to be had.
    fn add(&mut self, least: usize, most: usize) -> bool {
        let mut held = self.account.budget.held.lock();
        let own = &self.account.connection.answer_bytes;
        let share = held.free_for(self.account.key, self.kind) / ANSWER_BYTES_FREE_SHARE;
        let bytes = most.min(share.saturating_sub(own.load(Ordering::Relaxed)));
        if bytes < least {
            return false;
        }
        // Changed under the lock alone.
        own.fetch_add(bytes, Ordering::Relaxed);
        held.take(self.account.key, self.kind, bytes);
        self.bytes += bytes;
        true
    }

    /// Makes it fit `bytes`; false if it must grow and can't.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(0) => true,
            Some(more) => self.add(more, more),
            None => {
                self.give_back(self.bytes - bytes);
                true
            }
        }
    }

    fn give_back(&mut self, bytes: usize) {
        let mut held = self.account.budget.held.lock();
        self.account.connection.answer_bytes.fetch_sub(bytes, Ordering::Relaxed);
        held.give(self.account.key, self.kind, bytes);
        self.bytes -= bytes;
    }

    /// Bytes that give the permit back when they are dropped.
    pub(crate) fn hold(self, bytes: impl Into<Bytes>) -> Bytes {
        Bytes::from_owner(Held { bytes: bytes.into(), _room: self })
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

struct Held {
    bytes: Bytes,
    _room: AnswerPermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    /// The account of another connection of a client.
    fn account(budget: &Arc<AnswerBudget>, client: u8) -> Account {
        let key = Peer::from([10, 0, 0, client]).into();
        Account::new(budget, &Arc::new(Connection::within_process()), key)
    }

    #[test]
    fn a_client_with_many_connections_leaves_half_for_the_others() {
        let budget = Arc::new(AnswerBudget::default());
        let mut held = Vec::new();
        for _ in 0..200 {
            let greedy = account(&budget, 1);
            held.extend(std::iter::from_fn(|| greedy.take(Kind::Stream, 1, 64 << 10)));
        }
        let streams = ANSWER_BYTES_INFLIGHT_MAX - ANSWER_BYTES_RESERVED;
        assert!((streams / 3..=streams / 2).contains(&budget.held()), "{}", budget.held());
        let other = account(&budget, 2).take(Kind::Stream, 1 << 20, 2 << 20);
        assert!(other.is_some(), "another client has room for a large event");
        drop((held, other));
        assert!(budget.held.lock().clients.is_empty());
    }

    #[test]
    fn twenty_that_hold_all_they_may_leave_room_for_one_that_holds_nothing() {
        const PIECE: usize = 64 << 10;
        let budget = Arc::new(AnswerBudget::default());
        let mut held = Vec::new();
        for _ in 0..20 {
            let greedy = account(&budget, 1);
            let mut own = 0;
            while let Some(permit) = greedy.take(Kind::Stream, 1, PIECE) {
                own += permit.bytes();
                held.push(permit);
            }
            assert!(own > 0, "all is gone after {}", budget.held());
        }
        assert!(budget.held() < ANSWER_BYTES_INFLIGHT_MAX - ANSWER_BYTES_RESERVED);
        assert!(account(&budget, 1).take(Kind::Stream, 8 << 10, PIECE).is_some());
        let whole = account(&budget, 1).take(Kind::Whole, 1 << 20, 1 << 20);
        assert!(whole.is_some(), "streams take what is kept for whole answers");
        drop(held);
        assert_eq!(budget.held(), 1 << 20);
        let kept = whole.map(|permit| permit.hold(vec![0; 10]));
        assert_eq!(budget.held(), 1 << 20);
        drop(kept);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn room_grows_and_shrinks_with_what_it_is_for() {
        let budget = Arc::new(AnswerBudget::default());
        let account = account(&budget, 1);
        let mut permit = account.take(Kind::Stream, 1, 100).unwrap();
        assert!(permit.resize(10) && budget.held() == 10);
        assert!(permit.resize(1_000) && budget.held() == 1_000);
        assert!(!permit.resize(ANSWER_BYTES_INFLIGHT_MAX) && budget.held() == 1_000);
        drop(permit);
        assert_eq!((budget.held(), account.connection.answer_bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
