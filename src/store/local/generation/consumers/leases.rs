//! Who reads for a consumer right now: its leases. They are in memory alone, so a restart ends
//! them all, and what was given under them and not acknowledged is given again. What went wrong
//! last with a lease is remembered here, too.

use std::time::Instant;

use crate::clock::Timestamp;
use crate::consumer::backlog::Backlog;
use crate::consumer::oldest::Oldest;
use crate::consumer::partition::Partition;
use crate::consumer::{DeliveryFault, DeliveryFaultKind, Holder, LeaseStats, Take};

/// A lease on a part of a consumer's topics.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) id: u64,
    pub(crate) holder: Holder,
    pub(crate) partition: Partition,
    ends: Instant,
    until: Timestamp,
    /// Its holder had it end sooner, and works on nothing that is given under it.
    is_given_back: bool,
    /// Events were given under it and no acknowledgement has come since.
    is_open: bool,
}

impl Lease {
    /// When it ends.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// What others are told.
    pub(crate) fn stats(&self) -> LeaseStats {
        LeaseStats { holder: self.holder.label.clone(), partition: self.partition, until: self.until }
    }
}

/// The same moment by both clocks: what lasts is measured by the one, and shown by the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Instant,
    pub(crate) wall: Timestamp,
}

/// What a consumer's readers share.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: Vec<Lease>,
    last_fault: Option<DeliveryFault>,
    pub(crate) backlog: Backlog,
    pub(crate) oldest: Oldest,
}

impl Leases {
    /// Gives a lease to whoever asks, or has theirs last longer; `id` is for a new one.
    ///
    /// # Errors
    /// The lease of another that stands against it.
    pub(crate) fn lease(&mut self, take: &Take, id: u64, now: Now) -> Result<Lease, LeaseStats> {
        self.end_late(now);
        let is_own = |lease: &Lease| {
            lease.partition == take.partition
                && (take.lease_id == Some(lease.id) || lease.holder.is_same(&take.holder))
        };
        if let Some(other) =
            self.leases.iter().find(|lease| lease.partition.overlaps(take.partition) && !is_own(lease))
        {
            return Err(other.stats());
        }
        let micros = i64::try_from(take.lease.as_micros()).unwrap_or(i64::MAX);
        let (ends, until) = (now.monotonic + take.lease, Timestamp(now.wall.0.saturating_add(micros)));
        if let Some(own) = self.leases.iter_mut().find(|lease| is_own(lease)) {
            // A request that still waits does not renew what its holder has given back meanwhile.
            if own.is_given_back && take.lease_id.is_some() {
                return Ok(own.clone());
            }
            own.is_given_back = ends < own.ends;
            own.is_open &= !own.is_given_back;
            (own.ends, own.until) = (ends, until);
            return Ok(own.clone());
        }
        let (holder, partition) = (take.holder.clone(), take.partition);
        let lease = Lease { id, holder, partition, ends, until, is_given_back: false, is_open: false };
        self.leases.push(lease.clone());
        Ok(lease)
    }

    /// The lease with this number, if it is not over.
    pub(crate) fn find(&mut self, id: u64, now: Now) -> Option<&Lease> {
        self.end_late(now);
        self.leases.iter().find(|lease| lease.id == id)
    }

    /// Notes that events were given under a lease.
    pub(crate) fn give(&mut self, id: u64) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.id == id) {
            lease.is_open |= !lease.is_given_back;
        }
    }

    /// Notes that what was given under a lease is acknowledged.
    pub(crate) fn settle(&mut self, id: u64) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.id == id) {
            lease.is_open = false;
        }
    }

    /// Notes that an acknowledgement came too late.
    pub(crate) fn refuse(&mut self, now: Now) {
        self.fail(DeliveryFault { at: now.wall, kind: DeliveryFaultKind::AckRefused, holder: None });
    }

    /// What went wrong last.
    pub(crate) fn last_fault(&self) -> Option<&DeliveryFault> {
        self.last_fault.as_ref()
    }

    /// Ends a lease.
    pub(crate) fn end(&mut self, id: u64) {
        self.leases.retain(|lease| lease.id != id);
    }

    /// The leases that are not over.
    pub(crate) fn current(&mut self, now: Now) -> &[Lease] {
        self.end_late(now);
        &self.leases
    }

    fn end_late(&mut self, now: Now) {
        for lease in self.leases.extract_if(.., |lease| lease.ends <= now.monotonic).collect::<Vec<_>>() {
            if lease.is_open {
                let (kind, holder) = (DeliveryFaultKind::LeaseExpired, Some(lease.holder.label));
                self.fail(DeliveryFault { at: lease.until, kind, holder });
            }
        }
    }

    /// Keeps the latest: that a lease is over is found out later.
    fn fail(&mut self, fault: DeliveryFault) {
        if self.last_fault.as_ref().is_none_or(|last| last.at <= fault.at) {
            self.last_fault = Some(fault);
        }
    }
}
