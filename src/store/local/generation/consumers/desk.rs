//! Who reads for a consumer right now: its leases. They are in memory alone, so a restart ends
//! them all, and what was given under them and not acknowledged is given again.

use std::time::Instant;

use crate::clock::Timestamp;
use crate::consumer::backlog::Backlog;
use crate::consumer::partition::Partition;
use crate::consumer::{Holder, LeaseStats, Take};

/// A lease on a part of a consumer's topics.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) id: u64,
    pub(crate) holder: Holder,
    pub(crate) partition: Partition,
    ends: Instant,
    until: Timestamp,
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
pub(crate) struct Desk {
    leases: Vec<Lease>,
    pub(crate) backlog: Backlog,
}

impl Desk {
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
            (own.ends, own.until) = (ends, until);
            return Ok(own.clone());
        }
        let lease = Lease { id, holder: take.holder.clone(), partition: take.partition, ends, until };
        self.leases.push(lease.clone());
        Ok(lease)
    }

    /// The lease with this number, if it is not over.
    pub(crate) fn find(&mut self, id: u64, now: Now) -> Option<&Lease> {
        self.end_late(now);
        self.leases.iter().find(|lease| lease.id == id)
    }

    /// Ends a lease.
    pub(crate) fn end(&mut self, id: u64) {
        self.leases.retain(|lease| lease.id != id);
    }

    /// The leases that are not over.
    pub(crate) fn leases(&mut self, now: Now) -> &[Lease] {
        self.end_late(now);
        &self.leases
    }

    fn end_late(&mut self, now: Now) {
        self.leases.retain(|lease| lease.ends > now.monotonic);
    }
}
