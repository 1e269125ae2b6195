//! The look-ups of many events of a group, made together before the first of them is decided.
//!
//! What a look-up costs is waiting for memory: tables and filters are too large for the processor's
//! caches. One after the other, each decision waits for its own; together, the processor waits for
//! many at once. What is found stays true while the group is decided: its filters are one view, and
//! of its own events the tables are asked again.

use crate::store::local::generation::claims::{ClaimRef, Tables};
use crate::store::local::sealed::filter_set::FilterSet;

/// What was found of each event.
#[derive(Debug, Default)]
pub(crate) struct Lookahead {
    /// Events of which no table has a fingerprint: their hashes, and their numbers.
    absent: Vec<u128>,
    numbers: Vec<usize>,
    /// By number, whether the filters were asked.
    is_asked: Vec<bool>,
    /// What the tables may have of the others.
    known: Vec<ClaimRef>,
    /// Numbers of events, ascending, each with a generation that may hold it, newest first.
    candidates: Vec<(usize, u64)>,
}

impl Lookahead {
    /// Looks for all of these; they are numbered from 0.
    pub(crate) fn look(
        &mut self,
        events: impl Iterator<Item = u128> + Clone,
        tables: &Tables,
        filters: &FilterSet,
    ) {
        self.absent.clear();
        self.numbers.clear();
        self.is_asked.clear();
        self.known.clear();
        self.candidates.clear();
        tables.warm_slots(&events);
        for (number, event) in events.enumerate() {
            let known = tables.locate(event);
            self.is_asked.push(known.is_none());
            match known {
                Some(known) => self.known.push(known),
                None => {
                    self.absent.push(event);
                    self.numbers.push(number);
                }
            }
        }
        tables.warm(&self.known);
        let (numbers, candidates) = (&self.numbers, &mut self.candidates);
        filters.candidates(&self.absent, |event, id| candidates.push((numbers[event], id)));
        self.candidates.sort_by_key(|(number, _)| *number);
    }

    /// The sealed generations that may hold an event, newest first; `None` if the filters were not
    /// asked.
    pub(crate) fn generations(&self, number: usize) -> Option<Vec<u64>> {
        self.is_asked.get(number).filter(|asked| **asked)?;
        let from = self.candidates.partition_point(|(other, _)| *other < number);
        let own = self.candidates[from..].iter().take_while(|(other, _)| *other == number);
        Some(own.map(|(_, id)| *id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::format::claim::Claim;
    use crate::store::local::sealed::filter::tests::filter_of;
    use crate::store::local::sealed::filter_set::Filters;

    #[test]
    fn each_event_has_its_own_generations_and_what_a_table_may_hold_has_none_yet() {
        const EVENTS: [u128; 4] = [5 << 64 | 5, 6 << 64 | 6, 7 << 64 | 7, 8 << 64 | 8];
        let mut tables = Tables::new();
        let known = Claim { offset: 0, digest: [0; 16], received_at: 0 };
        tables.insert(EVENTS[1], b"t", b"id", known);
        let filters = Filters::default();
        filters.add(filter_of(1, &EVENTS[..3]));
        filters.add(filter_of(2, &EVENTS[2..3]));
        filters.add_unread(&[0]);
        let mut ahead = Lookahead::default();
        ahead.look(EVENTS.into_iter(), &tables, &filters.view());
        let found: Vec<_> = (0..EVENTS.len()).map(|number| ahead.generations(number)).collect();
        assert_eq!(found, [Some(vec![1, 0]), None, Some(vec![2, 1, 0]), Some(vec![0])]);
        assert_eq!(ahead.generations(EVENTS.len()), None);
        ahead.look(std::iter::empty(), &tables, &filters.view());
        assert_eq!(ahead.generations(0), None, "nothing is known of those before");
    }
}
