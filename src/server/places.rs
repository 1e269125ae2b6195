//! The places of connections: who gets one, who loses it, and what ends a connection that waits for too long.
//!
//! | all places are taken, and | a newcomer gets |
//! |---|---|
//! | a connection has no request under way | its place: that of the peer with the most connections, the longest idle first |
//! | all are busy | a reserved place, where only the state of the service is told |
//! | those are taken too | the reserved place that has been idle longest |
//! | those are all busy | nothing: it waits in the kernel's queue |
//!
//! Whoever has a share that leaves others theirs, such as a balancer in front, loses nothing while there is room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio::task::Id;

use super::seat::{Order, Phase, Seat, Ticks};
use crate::http::Limits;
use crate::limits::{
    CANDIDATES_MAX, GRACE_SECONDS, PLACES_RESERVED_MAX, PLACES_RESERVED_SHARE, RESERVED_SECONDS,
};

/// Ticks that a connection gets to send something before its place may be given to another.
const CHANCE_TICKS: u32 = 2;

/// How many reserved places there are beside `connections_max` others.
pub fn reserved(connections_max: usize) -> usize {
    (connections_max / PLACES_RESERVED_SHARE).clamp(1, PLACES_RESERVED_MAX)
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    ticks: Ticks,
    /// The connections that are open, by their tasks.
    seats: HashMap<Id, Place>,
    /// Connections of each peer that were not told to end.
    peers: HashMap<IpAddr, usize>,
    open: Kind,
    reserved: Kind,
}

#[derive(Debug)]
struct Place {
    seat: Arc<Seat>,
    /// Not told to make room.
    counts: bool,
}

/// The places that are for all, or the reserved ones.
#[derive(Debug, Default)]
struct Kind {
    /// Those taken.
    taken: usize,
    /// Those that may be given to others, the best last, with what their seats were marked with.
    candidates: Vec<(Id, u64)>,
    /// No other candidates will be found before the next tick.
    is_searched: bool,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        let (ticks, seats, peers) = Default::default();
        Self { limits, ticks, seats, peers, open: Kind::default(), reserved: Kind::default() }
    }

    /// Connections that are open.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// A place for a connection from `peer`, which [`Self::sit`] is then told of; `None` if there is none for now.
    pub(super) fn take(&mut self, peer: IpAddr) -> Option<Arc<Seat>> {
        let is_reserved = if self.open.taken < self.limits.connections_max || self.make_room(false) {
            false
        } else if self.reserved.taken < reserved(self.limits.connections_max) || self.make_room(true) {
            true
        } else {
            return None;
        };
        Some(Arc::new(Seat::new(self.ticks.clone(), network(peer), is_reserved)))
    }

    /// The task of a connection that was given `seat`.
    pub(super) fn sit(&mut self, task: Id, seat: Arc<Seat>) {
        *self.peers.entry(seat.peer).or_default() += 1;
        self.kind(seat.is_reserved).taken += 1;
        self.seats.insert(task, Place { seat, counts: true });
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, task: Id) {
        if let Some(place) = self.seats.remove(&task)
            && place.counts
        {
            self.uncount(&place.seat);
        }
    }

    /// Tells all connections to end when no request is under way.
    pub(super) fn drain(&self) {
        for place in self.seats.values() {
            place.seat.tell(Order::Drain);
        }
    }

    /// Time goes on by a tick: connections that wait for too long are ended.
    pub(super) fn tick(&mut self) {
        self.ticks.advance();
        (self.open.is_searched, self.reserved.is_searched) = (false, false);
        for place in self.seats.values() {
            let order = self.due(&place.seat);
            if order > place.seat.order() {
                place.seat.tell(order);
            }
        }
    }

    /// What a connection is due.
    fn due(&self, seat: &Seat) -> Order {
        if seat.is_stuck(self.limits.stall_seconds) {
            return Order::Reset;
        }
        if seat.outstays(GRACE_SECONDS) {
            return Order::End;
        }
        if seat.is_busy() {
            return Order::Stay;
        }
        let seconds = match seat.phase() {
            Phase::Leaving => GRACE_SECONDS,
            _ if seat.is_reserved => RESERVED_SECONDS,
            Phase::First | Phase::Head => self.limits.head_seconds,
            Phase::Busy | Phase::Idle => self.limits.keep_alive_seconds,
        };
        if !self.ticks.are_over(seat.since(), seconds) {
            return Order::Stay;
        }
        if seat.phase() == Phase::Leaving { Order::End } else { Order::Drain }
    }

    fn kind(&mut self, is_reserved: bool) -> &mut Kind {
        if is_reserved { &mut self.reserved } else { &mut self.open }
    }

    fn uncount(&mut self, seat: &Seat) {
        self.kind(seat.is_reserved).taken -= 1;
        if let Some(count) = self.peers.get_mut(&seat.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&seat.peer);
            }
        }
    }

    /// Ends the connection that is the first to go; `false` if all are busy.
    fn make_room(&mut self, is_reserved: bool) -> bool {
        loop {
            while let Some((task, mark)) = self.kind(is_reserved).candidates.pop() {
                let Some(place) = self.seats.get_mut(&task) else { continue };
                if !place.counts || place.seat.is_busy() || place.seat.mark() != mark {
                    continue;
                }
                place.counts = false;
                let seat = Arc::clone(&place.seat);
                seat.tell(Order::End);
                self.uncount(&seat);
                return true;
            }
            if self.kind(is_reserved).is_searched {
                return false;
            }
            self.search(is_reserved);
        }
    }

    /// Looks for connections without a request. All are looked at, so it is done for many newcomers at once.
    fn search(&mut self, is_reserved: bool) {
        let now = self.ticks.now();
        let mut found: Vec<_> = self
            .seats
            .iter()
            .filter(|(_, place)| place.counts && place.seat.is_reserved == is_reserved)
            .filter_map(|(task, Place { seat, .. })| {
                let (mark, age) = (seat.mark(), now.wrapping_sub(seat.since()));
                let is_idle = match seat.phase() {
                    Phase::Busy => false,
                    Phase::Idle | Phase::Leaving => true,
                    Phase::First | Phase::Head => age >= CHANCE_TICKS,
                };
                let others = self.peers.get(&seat.peer).copied().unwrap_or_default();
                (is_idle && !seat.is_busy()).then_some((others, age, *task, mark))
            })
            .collect();
        found.sort_unstable_by_key(|(others, age, ..)| (*others, *age));
        let kind = self.kind(is_reserved);
        kind.is_searched = found.len() <= CANDIDATES_MAX;
        let rest = found.split_off(found.len().saturating_sub(CANDIDATES_MAX));
        kind.candidates = rest.into_iter().map(|(_, _, task, mark)| (task, mark)).collect();
    }
}

/// What counts as one peer.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        },
    }
}
