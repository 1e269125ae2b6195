//! The limit of connections: which connection gets a permit, which loses it, and the timeouts that
//! end a connection.
//!
//! | all permits are taken, and | a new connection gets |
//! |---|---|
//! | a connection has no request under way | its permit: that of the peer with the most connections, the longest idle first |
//! | all are busy, and another peer has more than half of them | the permit of that peer that has been busy longest |
//! | all are busy | a reserved permit, where only the state of the service is told |
//! | those are taken too | the reserved permit that has been idle longest |
//! | those are all busy | nothing: it waits in the kernel's queue |
//!
//! A peer loses nothing while permits are free, and a trusted proxy, which asks for many clients,
//! loses no request at all.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::Id;

use super::activity::{Activity, Command, Phase, Ticks};
use crate::http::Limits;
use crate::limits::{
    CANDIDATES_MAX, CONNECTIONS_PEER_SHARE, CONNECTIONS_RESERVED_MAX, CONNECTIONS_RESERVED_SHARE,
    GRACE_SECONDS, RESERVED_SECONDS,
};
use crate::peer::Peer;

/// Ticks that a connection gets to send something before its permit may be given to another.
const CHANCE_TICKS: u32 = 2;

/// How many reserved permits there are beside `connections_max` others.
pub fn reserved(connections_max: usize) -> usize {
    (connections_max / CONNECTIONS_RESERVED_SHARE).clamp(1, CONNECTIONS_RESERVED_MAX)
}

/// The permits of a listener's connections.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    limits: Limits,
    ticks: Ticks,
    /// The connections that are open, by their tasks.
    permits: HashMap<Id, ConnectionPermit>,
    /// Connections of each peer, as [`Peer::network`] counts it, that were not told to end.
    peers: HashMap<Peer, usize>,
    open: Kind,
    reserved: Kind,
}

#[derive(Debug)]
struct ConnectionPermit {
    activity: Arc<Activity>,
    /// The peer that it is counted for.
    peer: Peer,
    /// It was not told to end for another connection.
    counts: bool,
}

/// The permits that are for all, or the reserved ones.
#[derive(Debug, Default)]
struct Kind {
    /// Those taken.
    taken: usize,
    /// Those that may be given to others, the best last, with the mark of their activity.
    candidates: Vec<(Id, u64)>,
    /// No other candidates will be found before the next tick.
    is_searched: bool,
}

impl ConnectionLimit {
    pub(super) fn new(limits: Limits) -> Self {
        let (ticks, permits, peers) = Default::default();
        Self { limits, ticks, permits, peers, open: Kind::default(), reserved: Kind::default() }
    }

    /// A permit for a connection from `peer`, which [`Self::occupy`] is then told of; `None` if
    /// none is free for now.
    pub(super) fn assign(&mut self, peer: Peer) -> Option<Arc<Activity>> {
        let is_free = self.open.taken < self.limits.connections_max;
        let is_reserved = if is_free || self.make_room(false) || self.displace(peer) {
            false
        } else if self.reserved.taken < reserved(self.limits.connections_max) || self.make_room(true) {
            true
        } else {
            return None;
        };
        Some(Arc::new(Activity::new(self.ticks.clone(), peer, is_reserved)))
    }

    /// Notes the task of a connection that was assigned a permit.
    pub(super) fn occupy(&mut self, task: Id, activity: Arc<Activity>) {
        let peer = activity.peer().network();
        *self.peers.entry(peer).or_default() += 1;
        self.kind(activity.is_reserved).taken += 1;
        self.permits.insert(task, ConnectionPermit { activity, peer, counts: true });
    }

    /// A connection has ended.
    pub(super) fn release(&mut self, task: Id) {
        if let Some(permit) = self.permits.remove(&task)
            && permit.counts
        {
            self.uncount(permit.activity.is_reserved, permit.peer);
        }
    }

    /// Tells all connections to end when no request is under way.
    pub(super) fn drain(&self) {
        for permit in self.permits.values() {
            permit.activity.tell(Command::Drain);
        }
    }

    /// Time goes on by a tick: connections that wait for too long are ended.
    pub(super) fn tick(&mut self) {
        self.ticks.advance();
        (self.open.is_searched, self.reserved.is_searched) = (false, false);
        self.count_clients();
        for permit in self.permits.values() {
            let command = self.due(&permit.activity);
            if command > permit.activity.command() {
                permit.activity.tell(command);
            }
        }
    }

    /// What a connection is to be told now.
    fn due(&self, activity: &Activity) -> Command {
        if activity.is_stuck(self.limits.stall_seconds) {
            return Command::Reset;
        }
        if activity.outstays(GRACE_SECONDS) {
            return Command::End;
        }
        if activity.is_busy() {
            return Command::Stay;
        }
        let seconds = match activity.phase() {
            Phase::Leaving => GRACE_SECONDS,
            _ if activity.is_reserved => RESERVED_SECONDS,
            Phase::Handshake | Phase::First | Phase::Head => self.limits.head_seconds,
            Phase::Busy | Phase::Idle => self.limits.keep_alive_seconds,
        };
        if !self.ticks.are_over(activity.since(), seconds) {
            return Command::Stay;
        }
        if activity.phase() == Phase::Leaving { Command::End } else { Command::Drain }
    }

    fn kind(&mut self, is_reserved: bool) -> &mut Kind {
        if is_reserved { &mut self.reserved } else { &mut self.open }
    }

    fn uncount(&mut self, is_reserved: bool, peer: Peer) {
        self.kind(is_reserved).taken -= 1;
        leave(&mut self.peers, peer);
    }

    /// Counts connections of a proxy for the clients that PROXY heads have named meanwhile.
    fn count_clients(&mut self) {
        for permit in self.permits.values_mut().filter(|permit| permit.counts) {
            let peer = permit.activity.peer().network();
            if peer != permit.peer {
                leave(&mut self.peers, permit.peer);
                *self.peers.entry(peer).or_default() += 1;
                permit.peer = peer;
            }
        }
    }

    /// Ends the connection that is the first to go; `false` if all are busy.
    fn make_room(&mut self, is_reserved: bool) -> bool {
        loop {
            while let Some((task, mark)) = self.kind(is_reserved).candidates.pop() {
                let Some(permit) = self.permits.get_mut(&task) else { continue };
                if !permit.counts || permit.activity.is_busy() || permit.activity.mark() != mark {
                    continue;
                }
                permit.counts = false;
                permit.activity.tell(Command::End);
                let peer = permit.peer;
                self.uncount(is_reserved, peer);
                return true;
            }
            if self.kind(is_reserved).is_searched {
                return false;
            }
            self.search(is_reserved);
        }
    }

    /// Ends a connection with a request under way, for one from `peer`: that of a peer which has
    /// more than its share of all permits.
    fn displace(&mut self, peer: Peer) -> bool {
        let share = self.limits.connections_max / CONNECTIONS_PEER_SHARE;
        let over = self.peers.iter().filter(|(other, count)| **count > share && **other != peer.network());
        let Some((&greedy, _)) = over.max_by_key(|(_, count)| **count) else { return false };
        let now = self.ticks.now();
        let own = self.permits.values_mut().filter(|ConnectionPermit { activity, peer, counts }| {
            let is_open = *counts && !activity.is_reserved;
            is_open && *peer == greedy && !self.limits.trusts(activity.peer())
        });
        let oldest = own.max_by_key(|permit| now.wrapping_sub(permit.activity.since()));
        let Some(permit) = oldest else { return false };
        permit.counts = false;
        permit.activity.tell(Command::End);
        let peer = permit.peer;
        self.uncount(false, peer);
        true
    }

    /// Looks for connections without a request. It looks at all of them, so it finds candidates for
    /// many new connections at once.
    fn search(&mut self, is_reserved: bool) {
        let now = self.ticks.now();
        let mut found: Vec<_> = self
            .permits
            .iter()
            .filter(|(_, permit)| permit.counts && permit.activity.is_reserved == is_reserved)
            .filter_map(|(task, ConnectionPermit { activity, peer, .. })| {
                let (mark, age) = (activity.mark(), now.wrapping_sub(activity.since()));
                let is_idle = match activity.phase() {
                    Phase::Busy => false,
                    Phase::Idle | Phase::Leaving => true,
                    Phase::Handshake | Phase::First | Phase::Head => age >= CHANCE_TICKS,
                };
                let others = self.peers.get(peer).copied().unwrap_or_default();
                (is_idle && !activity.is_busy()).then_some((others, age, *task, mark))
            })
            .collect();
        found.sort_unstable_by_key(|(others, age, ..)| (*others, *age));
        let kind = self.kind(is_reserved);
        kind.is_searched = found.len() <= CANDIDATES_MAX;
        let rest = found.split_off(found.len().saturating_sub(CANDIDATES_MAX));
        kind.candidates = rest.into_iter().map(|(_, _, task, mark)| (task, mark)).collect();
    }
}

/// Counts one connection less of a peer.
fn leave(peers: &mut HashMap<Peer, usize>, peer: Peer) {
    if let Some(count) = peers.get_mut(&peer) {
        *count -= 1;
        if *count == 0 {
            peers.remove(&peer);
        }
    }
}
