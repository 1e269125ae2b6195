//! The slots of connections: which connection gets one, which loses it, and the timeouts that end a
//! connection.
//!
//! | all slots are taken, and | a new connection gets |
//! |---|---|
//! | a connection has no request under way | its slot: that of the peer with the most connections, the longest idle first |
//! | all are busy, and another peer has more than half of them | the slot of that peer that has been busy longest |
//! | all are busy | a reserved slot, where only the state of the service is told |
//! | those are taken too | the reserved slot that has been idle longest |
//! | those are all busy | nothing: it waits in the kernel's queue |
//!
//! A peer loses nothing while slots are free, and a trusted proxy, which asks for many clients, loses
//! no request at all.

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

/// Ticks that a connection gets to send something before its slot may be given to another.
const CHANCE_TICKS: u32 = 2;

/// How many reserved slots there are beside `connections_max` others.
pub fn reserved(connections_max: usize) -> usize {
    (connections_max / CONNECTIONS_RESERVED_SHARE).clamp(1, CONNECTIONS_RESERVED_MAX)
}

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    ticks: Ticks,
    /// The connections that are open, by their tasks.
    slots: HashMap<Id, Slot>,
    /// Connections of each peer, as [`Peer::network`] counts it, that were not told to end.
    peers: HashMap<Peer, usize>,
    open: Kind,
    reserved: Kind,
}

#[derive(Debug)]
struct Slot {
    activity: Arc<Activity>,
    /// The peer that it is counted for.
    peer: Peer,
    /// It was not told to end for another connection.
    counts: bool,
}

/// The slots that are for all, or the reserved ones.
#[derive(Debug, Default)]
struct Kind {
    /// Those taken.
    taken: usize,
    /// Those that may be given to others, the best last, with the mark of their activity.
    candidates: Vec<(Id, u64)>,
    /// No other candidates will be found before the next tick.
    is_searched: bool,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Self {
        let (ticks, slots, peers) = Default::default();
        Self { limits, ticks, slots, peers, open: Kind::default(), reserved: Kind::default() }
    }

    /// A slot for a connection from `peer`, which [`Self::occupy`] is then told of; `None` if none
    /// is free for now.
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

    /// Notes the task of a connection that was assigned a slot.
    pub(super) fn occupy(&mut self, task: Id, activity: Arc<Activity>) {
        let peer = activity.peer().network();
        *self.peers.entry(peer).or_default() += 1;
        self.kind(activity.is_reserved).taken += 1;
        self.slots.insert(task, Slot { activity, peer, counts: true });
    }

    /// A connection has ended.
    pub(super) fn release(&mut self, task: Id) {
        if let Some(slot) = self.slots.remove(&task)
            && slot.counts
        {
            self.uncount(slot.activity.is_reserved, slot.peer);
        }
    }

    /// Tells all connections to end when no request is under way.
    pub(super) fn drain(&self) {
        for slot in self.slots.values() {
            slot.activity.tell(Command::Drain);
        }
    }

    /// Time goes on by a tick: connections that wait for too long are ended.
    pub(super) fn tick(&mut self) {
        self.ticks.advance();
        (self.open.is_searched, self.reserved.is_searched) = (false, false);
        self.count_clients();
        for slot in self.slots.values() {
            let command = self.due(&slot.activity);
            if command > slot.activity.command() {
                slot.activity.tell(command);
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
        for slot in self.slots.values_mut().filter(|slot| slot.counts) {
            let peer = slot.activity.peer().network();
            if peer != slot.peer {
                leave(&mut self.peers, slot.peer);
                *self.peers.entry(peer).or_default() += 1;
                slot.peer = peer;
            }
        }
    }

    /// Ends the connection that is the first to go; `false` if all are busy.
    fn make_room(&mut self, is_reserved: bool) -> bool {
        loop {
            while let Some((task, mark)) = self.kind(is_reserved).candidates.pop() {
                let Some(slot) = self.slots.get_mut(&task) else { continue };
                if !slot.counts || slot.activity.is_busy() || slot.activity.mark() != mark {
                    continue;
                }
                slot.counts = false;
                slot.activity.tell(Command::End);
                let peer = slot.peer;
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
    /// more than its share of all slots.
    fn displace(&mut self, peer: Peer) -> bool {
        let share = self.limits.connections_max / CONNECTIONS_PEER_SHARE;
        let over = self.peers.iter().filter(|(other, count)| **count > share && **other != peer.network());
        let Some((&greedy, _)) = over.max_by_key(|(_, count)| **count) else { return false };
        let now = self.ticks.now();
        let own = self.slots.values_mut().filter(|Slot { activity, peer, counts }| {
            let is_open = *counts && !activity.is_reserved;
            is_open && *peer == greedy && !self.limits.trusts(activity.peer())
        });
        let oldest = own.max_by_key(|slot| now.wrapping_sub(slot.activity.since()));
        let Some(slot) = oldest else { return false };
        slot.counts = false;
        slot.activity.tell(Command::End);
        let peer = slot.peer;
        self.uncount(false, peer);
        true
    }

    /// Looks for connections without a request. It looks at all of them, so it finds candidates for
    /// many new connections at once.
    fn search(&mut self, is_reserved: bool) {
        let now = self.ticks.now();
        let mut found: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.counts && slot.activity.is_reserved == is_reserved)
            .filter_map(|(task, Slot { activity, peer, .. })| {
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
