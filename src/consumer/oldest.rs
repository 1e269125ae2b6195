//! The oldest events that wait for a consumer, as far as they were looked for.
//!
//! A consumer may lag in very many topics, and to find out when an event arrived takes a read. Each
//! look reads the first waiting events of some topics, and the next one goes on with others. The
//! oldest that were found are remembered, so one that is stuck is found once and stays found.

use crate::clock::Timestamp;
use crate::limits::{LAG_TOPICS_KEPT, LAG_TOPICS_READ_MAX};

/// The first event that waits in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    received_at: Timestamp,
    topic: u32,
    offset: u64,
}

/// What looks have found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oldest {
    known: Vec<Waiting>,
    /// The topic to go on with.
    next: u32,
}

/// One look at all topics, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Search {
    before: Oldest,
    found: Vec<Waiting>,
    /// One arrived by then that is not among them.
    by: Option<Timestamp>,
    /// Topics to read, each with the offset of its event: those from the one on that is to be gone
    /// on with, and those before it.
    later: Vec<(u32, u64)>,
    earlier: Vec<(u32, u64)>,
}

impl Search {
    pub(crate) fn new(before: Oldest) -> Self {
        Self { before, found: Vec::new(), by: None, later: Vec::new(), earlier: Vec::new() }
    }

    /// The first event that waits in a topic is at this offset.
    pub(crate) fn see(&mut self, topic: u32, offset: u64) {
        let is_it = |known: &&Waiting| (known.topic, known.offset) == (topic, offset);
        if let Some(known) = self.before.known.iter().find(is_it) {
            self.found.push(*known);
            return;
        }
        let unread = if topic >= self.before.next { &mut self.later } else { &mut self.earlier };
        if unread.len() < LAG_TOPICS_READ_MAX {
            unread.push((topic, offset));
        }
    }

    /// An event that waits arrived by this time.
    pub(crate) fn arrived_by(&mut self, time: Timestamp) {
        self.by = Some(self.by.map_or(time, |by| by.min(time)));
    }

    /// The topics to read, each with the offset of its event.
    pub(crate) fn unread(&mut self) -> Vec<(u32, u64)> {
        let mut unread = std::mem::take(&mut self.later);
        unread.append(&mut self.earlier);
        unread.truncate(LAG_TOPICS_READ_MAX);
        unread
    }

    /// A topic of those was read.
    pub(crate) fn read(&mut self, topic: u32, offset: u64, received_at: Timestamp) {
        self.before.next = topic.wrapping_add(1);
        self.found.push(Waiting { received_at, topic, offset });
    }

    /// When the oldest event arrived that was found, and what the next look begins with.
    pub(crate) fn end(self) -> (Option<Timestamp>, Oldest) {
        let Self { before, mut found, by, .. } = self;
        found.sort_unstable();
        let oldest = found.first().map(|first| first.received_at).into_iter().chain(by).min();
        found.truncate(LAG_TOPICS_KEPT);
        (oldest, Oldest { known: found, next: before.next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at topics whose events arrived at these times; how many were read.
    fn look(oldest: &mut Oldest, arrivals: &[i64]) -> (Option<i64>, usize) {
        let mut search = Search::new(std::mem::take(oldest));
        (0..).zip(arrivals).for_each(|(topic, _)| search.see(topic, 7));
        let unread = search.unread();
        for (topic, offset) in &unread {
            search.read(*topic, *offset, Timestamp(arrivals[*topic as usize]));
        }
        let (since, kept) = search.end();
        *oldest = kept;
        (since.map(|since| since.0), unread.len())
    }

    #[test]
    fn the_oldest_of_many_topics_is_found_by_and_by_and_stays_found() {
        let mut arrivals: Vec<i64> = (0..100).map(|topic| 1_000 + topic).collect();
        arrivals[70] = 5;
        let mut oldest = Oldest::default();
        assert_eq!(look(&mut oldest, &arrivals), (Some(1_000), LAG_TOPICS_READ_MAX));
        let looks = (0..10).position(|_| look(&mut oldest, &arrivals).0 == Some(5));
        assert!(looks.is_some_and(|looks| looks <= 100 / LAG_TOPICS_READ_MAX), "{looks:?}");
        for _ in 0..20 {
            assert_eq!(look(&mut oldest, &arrivals).0, Some(5));
        }
        arrivals[70] = 2_000;
        let mut search = Search::new(oldest);
        search.see(70, 8);
        assert_eq!(search.unread(), [(70, 8)], "it has moved on, so it is read again");
    }

    #[test]
    fn few_topics_are_read_once() {
        let mut oldest = Oldest::default();
        assert_eq!(look(&mut oldest, &[30, 10, 20]), (Some(10), 3));
        assert_eq!(look(&mut oldest, &[30, 10, 20]), (Some(10), 0));
        assert_eq!(look(&mut oldest, &[]), (None, 0));
    }

    #[test]
    fn a_time_that_is_known_without_a_read_counts() {
        let mut search = Search::new(Oldest::default());
        search.see(0, 0);
        search.arrived_by(Timestamp(9));
        search.arrived_by(Timestamp(8));
        search.read(0, 0, Timestamp(10));
        assert_eq!(search.end().0, Some(Timestamp(8)));
    }
}
