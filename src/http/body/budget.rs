//! The budget of bodies: how many of their bytes are held at once, and by which of them.
//!
//! | part | of all | what takes it |
//! |---|---|---|
//! | first | 1/8 | the first 64 KiB of every whole body: what is small waits for nothing else |
//! | more | 5/16 | what comes after that, up to 4 MiB of a body, and all that a stream holds |
//! | large | 9/16 | bodies of more than 4 MiB, by large permit; others borrow what is free of it |
//!
//! Bytes are taken when they arrive, never when they are declared. A large permit is a permit for
//! the largest that its body can become; a body takes it once 4 MiB have arrived.
//!
//! Nothing waits in a circle:
//! - A body with a large permit has all the bytes that it can need: it waits for its sender, and
//!   for a permit of the decode pool, which is held without waiting for anything. So every large
//!   permit is given back, or its body ends because it comes too slowly.
//! - A body that waits for a large permit holds bytes of `first` and `more`, which no body with a
//!   large permit waits for. What is borrowed of `large` belongs to bodies that never want a large
//!   permit.
//! - In `first` and `more` bodies do hold some bytes and wait for others. Such a wait ends after
//!   [`ADMISSION_SECONDS`]; and when nothing but such bodies holds the budget, the one that got
//!   least is ended at once (`eviction.rs`).

use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::Semaphore;

use crate::http::body::eviction::{WaitingBodies, Want};
use crate::http::body::pace::Pace;
use crate::http::wire::problem::Problem;
use crate::limits::{
    ADMISSION_SECONDS, BODY_FIRST_BYTES, DECODED_BYTES_MAX, DECODER_BYTES_MAX, LARGE_BYTES_MIN,
    TICKET_SECONDS,
};

/// Bodies that wait for a large permit hold no more than this part of `more`.
const PARKED_PART: usize = 4;
/// Longest pause before a body that waits tries again. The first pauses are shorter.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The budget of all bodies.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    first: Part,
    more: Part,
    large: Part,
    /// Bodies that may wait for a large permit.
    parking: Semaphore,
    /// Bytes of `first` that one body may take.
    first_each: usize,
    /// A body with more bytes needs a large permit.
    large_from: usize,
    pub(crate) waiting: WaitingBodies,
}

#[derive(Debug)]
struct Part {
    free: Semaphore,
    bytes: usize,
}

impl Part {
    fn new(bytes: usize) -> Self {
        Self { free: Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)), bytes }
    }

    fn take(&self, bytes: usize) -> bool {
        match self.free.try_acquire_many(permits(bytes)) {
            Ok(acquired) => {
                acquired.forget();
                true
            }
            Err(_) => false,
        }
    }

    fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.free.add_permits(bytes);
        }
    }

    fn held(&self) -> usize {
        self.bytes.saturating_sub(self.free.available_permits())
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl BodyBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        let (first, large) = (bytes / 8, bytes / 16 * 9);
        let more = bytes - first - large;
        let large_from = LARGE_BYTES_MIN.min(more / 4);
        Self {
            first: Part::new(first),
            more: Part::new(more),
            large: Part::new(large),
            parking: Semaphore::new((more / PARKED_PART / large_from.max(1)).max(1)),
            first_each: BODY_FIRST_BYTES.min(first / 4),
            large_from,
            waiting: WaitingBodies::default(),
        }
    }

    /// Bytes that are taken, of all parts.
    pub(crate) fn held(&self) -> usize {
        self.first.held() + self.more.held() + self.large.held()
    }

    /// Whether half of what all bodies but the large ones use is free.
    pub(crate) fn is_half_free(&self) -> bool {
        self.first.held() + self.more.held() <= (self.first.bytes + self.more.bytes) / 2
    }

    /// The largest body after decompression.
    pub(crate) fn decoded_max(&self) -> usize {
        DECODED_BYTES_MAX.min(self.large.bytes / 9 * 8)
    }

    /// What a compressed body can need: its decoded bytes, and its decoder's.
    pub(crate) fn decoded_most(&self) -> usize {
        self.large.bytes.min(DECODED_BYTES_MAX + DECODER_BYTES_MAX)
    }

    /// The permit of a body that never needs more than `most` bytes.
    pub(crate) fn permit_for_body(&self, most: usize) -> BodyPermit<'_> {
        BodyPermit::new(self, most.min(self.large.bytes), self.first_each, most <= self.large_from)
    }

    /// The permit of a stream. It gets no large permit and borrows nothing, as it may last.
    pub(crate) fn permit_for_stream(&self) -> BodyPermit<'_> {
        BodyPermit::new(self, 0, 0, false)
    }
}

/// A whole body, and its permit.
#[derive(Debug)]
pub(crate) struct WholeBody<'a> {
    pub(crate) bytes: Bytes,
    pub(crate) permit: BodyPermit<'a>,
}

/// The budget that a permit belongs to.
#[derive(Debug)]
enum Of<'a> {
    Lent(&'a BodyBudget),
    Owned(Arc<BodyBudget>),
}

impl Deref for Of<'_> {
    type Target = BodyBudget;

    fn deref(&self) -> &BodyBudget {
        match self {
            Self::Lent(budget) => budget,
            Self::Owned(budget) => budget,
        }
    }
}

/// The bytes that a body holds, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct BodyPermit<'a> {
    budget: Of<'a>,
    first: usize,
    more: usize,
    large: usize,
    /// Bytes that it may take of `first`.
    first_max: usize,
    /// What a large permit is for; 0 if there is none to be had.
    most: usize,
    /// May use what is free of `large`.
    borrows: bool,
    is_large: bool,
}

impl<'a> BodyPermit<'a> {
    fn new(budget: &'a BodyBudget, most: usize, first_max: usize, borrows: bool) -> Self {
        Self {
            budget: Of::Lent(budget),
            first: 0,
            more: 0,
            large: 0,
            first_max,
            most,
            borrows,
            is_large: false,
        }
    }

    fn bytes(&self) -> usize {
        self.first + self.more + self.large
    }

    /// Bytes beside a large permit, and those of `large`, borrowed or by large permit.
    pub(crate) fn held(&self) -> (usize, usize) {
        (if self.is_large { 0 } else { self.bytes() }, self.large)
    }

    pub(crate) fn is_large(&self) -> bool {
        self.is_large
    }

    /// Grows to at least `bytes`. If that much is not free, it waits for a short time.
    pub(crate) async fn grow_to(&mut self, bytes: usize, pace: &mut Pace<'_>) -> Result<(), Problem> {
        if self.is_large {
            return Ok(());
        }
        if self.most > self.budget.large_from && bytes > self.budget.large_from {
            return Box::pin(self.get_large_permit(pace)).await;
        }
        if self.try_grow_to(bytes) {
            return Ok(());
        }
        // Boxed, as in all that seldom waits: the futures of those that don't stay small.
        Box::pin(self.grow_late_to(bytes, pace)).await
    }

    fn try_grow_to(&mut self, bytes: usize) -> bool {
        let budget = &*self.budget;
        // More than all there is could never be had.
        let bytes = bytes.min(self.first_max + budget.more.bytes);
        let mut missing = bytes.saturating_sub(self.bytes());
        let first = missing.min(self.first_max.saturating_sub(self.first));
        if first > 0 && budget.first.take(first) {
            self.first += first;
            missing -= first;
        }
        if missing == 0 {
            return true;
        }
        if budget.more.take(missing) {
            self.more += missing;
            return true;
        }
        let is_borrowed = self.borrows && budget.large.take(missing);
        if is_borrowed {
            self.large += missing;
        }
        is_borrowed
    }

    async fn grow_late_to(&mut self, bytes: usize, pace: &mut Pace<'_>) -> Result<(), Problem> {
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
        while waited < Duration::from_secs(ADMISSION_SECONDS) {
            pace.note_held(self.held());
            let wanted = bytes.saturating_sub(self.bytes());
            let all = self.budget.first.bytes + self.budget.more.bytes;
            pace.evict(Want::Bytes, wanted, all);
            pace.hold_up(tokio::time::sleep(pause)).await?;
            if self.try_grow_to(bytes) {
                return Ok(());
            }
            waited += pause;
            pause = PAUSE_MAX.min(2 * pause);
        }
        Err(busy())
    }

    /// Exchanges what it has for a large permit: the most that the body can become.
    async fn get_large_permit(&mut self, pace: &mut Pace<'_>) -> Result<(), Problem> {
        let BodyPermit { budget, most, .. } = self;
        let most = *most;
        if !budget.large.take(most) {
            let Ok(_parked) = budget.parking.try_acquire() else { return Err(busy()) };
            let mut large_permit = pin!(budget.large.free.acquire_many(permits(most)));
            let mut waited = Duration::ZERO;
            let acquired = loop {
                pace.evict(Want::Large, most, budget.large.bytes);
                let turn = tokio::time::timeout(PAUSE_MAX, large_permit.as_mut());
                match pace.hold_up(turn).await? {
                    Ok(Ok(acquired)) => break acquired,
                    Ok(Err(_)) => return Err(busy()),
                    Err(_) => waited += PAUSE_MAX,
                }
                if waited >= Duration::from_secs(TICKET_SECONDS) {
                    return Err(busy());
                }
            };
            acquired.forget();
        }
        self.give_back();
        (self.large, self.is_large) = (most, true);
        pace.note_held(self.held());
        Ok(())
    }

    /// Gives back what a whole body of `bytes` does not need of its large permit.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if self.is_large {
            let unused = self.large.saturating_sub(bytes);
            self.budget.large.give(unused);
            self.large -= unused;
        }
    }

    /// Moves `bytes` of this permit into another one.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let more = bytes.min(self.more);
        let first = (bytes - more).min(self.first);
        self.more -= more;
        self.first -= first;
        let budget = match &self.budget {
            Of::Lent(budget) => Of::Lent(budget),
            Of::Owned(budget) => Of::Owned(Arc::clone(budget)),
        };
        Self { budget, first, more, large: 0, first_max: 0, most: 0, borrows: false, is_large: false }
    }

    /// The same permit, which may outlive the request.
    pub(crate) fn into_owned(mut self, budget: &Arc<BodyBudget>) -> BodyPermit<'static> {
        let owned = BodyPermit {
            budget: Of::Owned(Arc::clone(budget)),
            first: self.first,
            more: self.more,
            large: self.large,
            first_max: self.first_max,
            most: self.most,
            borrows: self.borrows,
            is_large: self.is_large,
        };
        (self.first, self.more, self.large) = (0, 0, 0);
        owned
    }

    fn give_back(&mut self) {
        self.budget.first.give(std::mem::take(&mut self.first));
        self.budget.more.give(std::mem::take(&mut self.more));
        self.budget.large.give(std::mem::take(&mut self.large));
    }
}

impl Drop for BodyPermit<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The refusal of a body for which the budget is spent.
pub(crate) fn busy() -> Problem {
    let message = "too many requests are under way; send this one again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Caller;
    use crate::clock::SystemClock;
    use crate::http::body::eviction::Sender;
    use crate::limits::{BODY_BYTES_MAX, INFLIGHT_BYTES_MAX};
    use crate::peer::Peer;

    #[test]
    fn small_bodies_have_room_whatever_streams_and_large_bodies_hold() {
        let budget = BodyBudget::new(INFLIGHT_BYTES_MAX);
        let mut stream = budget.permit_for_stream();
        assert!(stream.try_grow_to(usize::MAX), "more than there is counts as all there is");
        let mut large_permit = budget.permit_for_body(budget.decoded_most());
        assert!(budget.large.take(budget.large.bytes));
        (large_permit.large, large_permit.is_large) = (budget.large.bytes, true);
        let mut permits_: Vec<_> = (0..200).map(|_| budget.permit_for_body(1_000)).collect();
        assert!(permits_.iter_mut().all(|permit| permit.try_grow_to(1_000)));
        let mut larger = budget.permit_for_body(1 << 20);
        assert!(!larger.try_grow_to(1 << 20), "there is no budget for what is larger");
        drop(large_permit);
        assert!(larger.try_grow_to(1 << 20), "what is free of the large part is lent");
        drop((stream, permits_, larger));
        assert_eq!(budget.held(), 0);
        assert!(budget.is_half_free());
    }

    #[test]
    fn what_cannot_become_large_never_needs_a_large_permit_and_what_can_borrows_nothing() {
        let budget = BodyBudget::new(INFLIGHT_BYTES_MAX);
        for (most, borrows) in
            [(1, true), (LARGE_BYTES_MIN, true), (LARGE_BYTES_MIN + 1, false), (BODY_BYTES_MAX, false)]
        {
            let permit = budget.permit_for_body(most);
            assert_eq!((permit.borrows, permit.most > budget.large_from), (borrows, !borrows), "{most}");
        }
        assert!(budget.decoded_most() <= budget.large.bytes && budget.decoded_max() == DECODED_BYTES_MAX);
        for bytes in [4 << 10, 1 << 20, 64 << 20, 1 << 30] {
            let budget = BodyBudget::new(bytes);
            assert!(
                budget.decoded_max() <= budget.decoded_most()
                    && budget.large_from <= budget.more.bytes / PARKED_PART
            );
            assert_eq!(budget.first.bytes + budget.more.bytes + budget.large.bytes, bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_permit_waits_for_the_one_before_and_gives_back_what_it_does_not_need() {
        let budget = BodyBudget::new(INFLIGHT_BYTES_MAX);
        let (sender, caller) = (Sender { connection: 1, key: Peer::User(0).into() }, Caller::anyone());
        let mut pace = Pace::of_body(&budget.waiting, &SystemClock, (sender, &caller));
        let mut first = budget.permit_for_body(budget.decoded_most());
        first.grow_to(LARGE_BYTES_MIN + 1, &mut pace).await.unwrap();
        assert!(first.is_large());
        let mut second = budget.permit_for_body(budget.decoded_most());
        {
            let mut waiting = pin!(second.grow_to(LARGE_BYTES_MIN + 1, &mut pace));
            let early = tokio::time::timeout(Duration::from_secs(5), waiting.as_mut()).await;
            assert!(early.is_err(), "there is one permit for bodies of this size");
            drop(first);
            waiting.await.unwrap();
        }
        second.shrink_to(5 << 20);
        assert_eq!(budget.held(), 5 << 20);
        let mut third = budget.permit_for_body(budget.decoded_most());
        let refused = third.grow_to(LARGE_BYTES_MIN + 1, &mut pace).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "it does not wait for ever");
    }
}
