//! Bodies whose senders must be waited for, and which of them are ended when bytes are short.
//!
//! A body that comes together with its head is taken and gone at once; it is never listed here.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::http::wire::streaming::Responder;
use crate::limits::{EVICTED_PART, PRESSED_RATE_MIN};
use crate::quota::QuotaKey;
use crate::sync::{Mutex, MutexGuard};

/// A body's speed is that of so much time, and a younger one has none yet.
const WINDOW: Duration = Duration::from_millis(500);
/// The same of a body with a large permit, of which much is there already.
const TICKET_WINDOW: Duration = Duration::from_secs(2);
/// Bodies are ended at most once in this time, as all of them are looked at for that.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Bytes that all bodies share.
    Bytes,
    /// A permit for a large body.
    Large,
}

/// The list of such bodies.
#[derive(Debug, Default)]
pub(crate) struct WaitingBodies(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    bodies: BTreeMap<u64, Arc<Mutex<State>>>,
    /// When bodies were ended last.
    evicted: Option<Instant>,
}

/// The connection by which a body comes, and whom it is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) connection: u64,
    pub(crate) key: QuotaKey,
}

impl Sender {
    /// The sender of the request that `responder` answers.
    pub(crate) fn of(responder: &Responder<'_>) -> Self {
        Self { connection: responder.connection.number(), key: responder.key }
    }
}

#[derive(Debug)]
struct State {
    sender: Sender,
    /// Bytes beside a large permit, and those of the part for large bodies.
    held: (usize, usize),
    /// Bytes that came in all, and up to the begin of the window.
    received: u64,
    received_before: u64,
    window_begun: Instant,
    /// Bytes a second in the window before.
    speed: Option<u64>,
    /// It waits for bytes of the budget, not for its sender.
    is_held_up: bool,
    is_ended: bool,
    waker: Option<Waker>,
}

impl State {
    fn window(&self) -> Duration {
        if self.held.0 == 0 && self.held.1 > 0 { TICKET_WINDOW } else { WINDOW }
    }

    /// Bytes a second lately.
    fn speed(&self, now: Instant) -> Option<u64> {
        let (window, span) = (self.window(), now.saturating_duration_since(self.window_begun));
        let received = self.received - self.received_before;
        if span >= window {
            return Some(a_second(received, span));
        }
        self.speed
            .map(|before| a_second((before as f64 * window.as_secs_f64()) as u64 + received, window + span))
    }
}

fn a_second(bytes: u64, span: Duration) -> u64 {
    (bytes as f64 / span.as_secs_f64()) as u64
}

/// A body in the list; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct WaitingBody<'a> {
    bodies: &'a WaitingBodies,
    id: u64,
    state: Arc<Mutex<State>>,
}

impl WaitingBodies {
    pub(crate) fn enter(
        &self,
        sender: Sender,
        received: u64,
        held: (usize, usize),
        now: Instant,
    ) -> WaitingBody<'_> {
        let state = State {
            sender,
            held,
            received,
            received_before: received,
            window_begun: now,
            speed: None,
            is_held_up: false,
            is_ended: false,
            waker: None,
        };
        let state = Arc::new(Mutex::new(state));
        let mut list = lock(&self.0);
        let id = list.next;
        list.next += 1;
        list.bodies.insert(id, Arc::clone(&state));
        WaitingBody { bodies: self, id, state }
    }

    /// Ends bodies until there should be `wanted` bytes of `all`, if any can be blamed for what
    /// `by` lacks.
    pub(crate) fn evict(&self, by: &WaitingBody<'_>, want: Want, wanted: usize, all: usize, now: Instant) {
        let mut list = lock(&self.0);
        if list.evicted.is_some_and(|evicted| now.saturating_duration_since(evicted) < INTERVAL) {
            return;
        }
        list.evicted = Some(now);
        let (mut seen, mut ending) = (Vec::with_capacity(list.bodies.len()), 0);
        for (id, state) in &list.bodies {
            let state = lock(state);
            let held = if want == Want::Bytes { state.held.0 } else { state.held.1 };
            if state.is_ended {
                ending += held;
            } else if held > 0 {
                seen.push(Seen {
                    id: *id,
                    sender: state.sender,
                    held,
                    received: state.received,
                    speed: state.speed(now),
                    is_held_up: state.is_held_up,
                });
            }
        }
        let wanted = wanted.max(all / EVICTED_PART).saturating_sub(ending);
        if wanted == 0 {
            return;
        }
        let sender = lock(&by.state).sender;
        let chosen = match slowest(&seen, wanted) {
            chosen if !chosen.is_empty() => chosen,
            _ if want == Want::Large => return,
            _ => over_its_share(&seen, sender, all).or_else(|| stuck(&seen, all)).into_iter().collect(),
        };
        for id in chosen {
            if let Some(state) = list.bodies.get(&id) {
                let mut state = lock(state);
                state.is_ended = true;
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl WaitingBody<'_> {
    /// Notes what came and what is held.
    pub(crate) fn note(&self, received: u64, held: (usize, usize), now: Instant) {
        let mut state = lock(&self.state);
        (state.received, state.held) = (received, held);
        let span = now.saturating_duration_since(state.window_begun);
        if span >= state.window() {
            state.speed = Some(a_second(received - state.received_before, span));
            (state.window_begun, state.received_before) = (now, received);
        }
    }

    /// Notes whether it waits for the budget. When it goes on, its sender is given time again.
    pub(crate) fn hold_up(&self, is_held_up: bool, now: Instant) {
        let mut state = lock(&self.state);
        if state.is_held_up && !is_held_up {
            (state.speed, state.window_begun, state.received_before) = (None, now, state.received);
        }
        state.is_held_up = is_held_up;
    }

    /// Whether it has to go; else whoever asks is woken when it has to.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.is_ended {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for WaitingBody<'_> {
    fn drop(&mut self) {
        lock(&self.bodies.0).bodies.remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// What is known of a body that holds some of what is short.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u64,
    sender: Sender,
    held: usize,
    received: u64,
    speed: Option<u64>,
    is_held_up: bool,
}

/// Bodies whose senders stall: those first that would take longest to bring again what they hold,
/// and no more than needed.
fn slowest(seen: &[Seen], wanted: usize) -> Vec<u64> {
    let seconds = |body: &Seen| body.held as f64 / (body.speed.unwrap_or(0) + 1) as f64;
    let stalls = |body: &&Seen| !body.is_held_up && body.speed.is_some_and(|speed| speed < PRESSED_RATE_MIN);
    let mut slow: Vec<_> = seen.iter().filter(stalls).collect();
    slow.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    let mut freed = 0;
    let needed = slow.iter().take_while(|body| {
        let is_needed = freed < wanted;
        freed += body.held;
        is_needed
    });
    needed.map(|body| body.id).collect()
}

/// A body of a client that holds more than half of all, or of a connection that holds more than a
/// quarter, unless it is the one that asks: the one that has come least far.
fn over_its_share(seen: &[Seen], by: Sender, all: usize) -> Option<u64> {
    let least = |of: &dyn Fn(&Sender) -> bool| {
        seen.iter().filter(|body| of(&body.sender)).min_by_key(|body| body.received).map(|body| body.id)
    };
    match most(seen, |sender| sender.key) {
        Some((key, held)) if held > all / 2 && key != by.key => {
            return least(&|sender| sender.key == key);
        }
        _ => {}
    }
    match most(seen, |sender| sender.connection) {
        Some((connection, held)) if held > all / 4 && connection != by.connection => {
            least(&|sender| sender.connection == connection)
        }
        _ => None,
    }
}

/// The sender that holds most, and how much.
fn most<K: Copy + Eq + Hash>(seen: &[Seen], key: impl Fn(&Sender) -> K) -> Option<(K, usize)> {
    let mut sums = HashMap::new();
    for body in seen {
        *sums.entry(key(&body.sender)).or_insert(0) += body.held;
    }
    sums.into_iter().max_by_key(|(_, held)| *held)
}

/// A body to end so that the others get on: if bodies that wait for the budget hold nearly all of
/// it themselves, the one of them with least.
fn stuck(seen: &[Seen], all: usize) -> Option<u64> {
    let held_up = || seen.iter().filter(|body| body.is_held_up);
    let held: usize = held_up().map(|body| body.held).sum();
    (held > all / 4 * 3).then(|| held_up().min_by_key(|body| body.held).map(|body| body.id)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::peer::Peer;

    fn seen(id: u64, peer: u8, connection: u64, held: usize, speed: Option<u64>) -> Seen {
        let key = Peer::from([10, 0, 0, peer]).into();
        Seen { id, sender: Sender { connection, key }, held, received: held as u64, speed, is_held_up: false }
    }

    #[test]
    fn those_that_stall_go_first_and_no_more_than_needed() {
        let fast = Some(PRESSED_RATE_MIN);
        let bodies = [
            seen(1, 1, 1, 1_000, Some(100)),
            seen(2, 1, 2, 1_000, Some(0)),
            seen(3, 1, 3, 5_000, Some(50)),
            seen(4, 1, 4, 9_000, fast),
            seen(5, 1, 5, 9_000, None),
            Seen { is_held_up: true, ..seen(6, 1, 6, 9_000, Some(0)) },
        ];
        assert_eq!(slowest(&bodies, 1), [2]);
        assert_eq!(slowest(&bodies, 1_001), [2, 3]);
        assert_eq!(
            slowest(&bodies, 1 << 20),
            [2, 3, 1],
            "neither the fast nor the young, nor who waits for room"
        );
    }

    #[test]
    fn a_peer_or_a_connection_with_more_than_its_share_gives_way_to_others() {
        let bodies = [
            seen(1, 1, 1, 300, None),
            seen(2, 1, 1, 100, None),
            seen(3, 1, 2, 200, None),
            seen(4, 2, 3, 50, None),
        ];
        let asks = |peer, connection| seen(0, peer, connection, 0, None).sender;
        assert_eq!(over_its_share(&bodies, asks(2, 3), 1_000), Some(2), "the least of the peer with most");
        assert_eq!(
            over_its_share(&bodies, asks(1, 2), 1_000),
            Some(2),
            "the least of the connection with most"
        );
        assert_eq!(over_its_share(&bodies, asks(1, 1), 1_000), None, "nobody gives way to who holds most");
        assert_eq!(over_its_share(&bodies, asks(2, 3), 1_000_000), None, "nobody holds much");
    }

    #[test]
    fn if_all_wait_for_each_other_the_one_with_least_goes() {
        let mut bodies: Vec<_> = (1..5).map(|id| seen(id, 1, id, 100 * id as usize, None)).collect();
        assert_eq!(stuck(&bodies, 1_000), None, "their senders may end them");
        for body in &mut bodies {
            body.is_held_up = true;
        }
        assert_eq!(stuck(&bodies, 1_000), Some(1));
        assert_eq!(stuck(&bodies, 2_000), None, "others hold the rest, and will give it back");
    }

    #[test]
    fn speed_is_that_of_the_last_moments() {
        let bodies = WaitingBodies::default();
        let begin = SystemClock.monotonic();
        let at = |millis| begin + Duration::from_millis(millis);
        let sender = seen(0, 1, 1, 0, None).sender;
        let body = bodies.enter(sender, 0, (0, 0), begin);
        let speed = |millis| lock(&body.state).speed(at(millis));
        body.note(1 << 20, (1 << 20, 0), at(100));
        assert_eq!(speed(400), None, "it is young");
        body.note(2 << 20, (2 << 20, 0), at(1_000));
        assert!(speed(1_100) > Some(PRESSED_RATE_MIN));
        assert_eq!(speed(3_000), Some(0), "nothing came for two seconds");
        body.note(2 << 20, (0, 2 << 20), at(3_000));
        body.note((2 << 20) + 1, (0, 2 << 20), at(4_900));
        assert!(speed(5_000) < Some(PRESSED_RATE_MIN), "a byte now and then is no speed");
        body.hold_up(true, at(5_000));
        body.hold_up(false, at(6_000));
        assert_eq!(speed(6_100), None, "what it waited for was not its sender's fault");
        drop(body);
        assert!(lock(&bodies.0).bodies.is_empty());
    }
}
