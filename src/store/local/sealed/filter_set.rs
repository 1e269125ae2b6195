//! The filters of all sealed generations, in RAM.
//!
//! When four filters of one width are there, one of all their generations is made from their
//! claims, after the look-ups; so at most three filters of one generation, of four and of sixteen
//! are asked, and one for each sixty-four. Filters are never changed: readers see the old set or
//! the new.

use std::sync::Arc;

use super::filter::Filter;
use crate::sync::{Mutex, RwLock};

/// Filters of one width that become one of the next.
const MERGED: usize = 4;

/// The filters of all sealed generations at one moment.
#[derive(Clone, Debug, Default)]
pub struct FilterSet {
    /// In the order of their newest generations, oldest first.
    filters: Vec<Arc<Filter>>,
    /// Generations whose filters have not been read yet: each may hold any event.
    unread: Vec<u64>,
}

impl FilterSet {
    /// Shows, of each event that generations may hold, its place in `events` and one of them; those
    /// of one event newest first, then those whose filters are unread.
    pub fn candidates(&self, events: &[u128], mut show: impl FnMut(usize, u64)) {
        for filter in self.filters.iter().rev() {
            filter.candidates(events, &mut show);
        }
        for id in self.unread.iter().rev() {
            (0..events.len()).for_each(|event| show(event, *id));
        }
    }

    /// Bytes of all filters.
    pub fn held_bytes(&self) -> usize {
        self.filters.iter().map(|filter| filter.bytes() as usize).sum()
    }

    /// The generations, oldest first, whose filters are to become one.
    pub fn mergeable(&self) -> Option<Vec<u64>> {
        [16, 4, 1].into_iter().find_map(|width| {
            let alike: Vec<_> = self
                .filters
                .iter()
                .filter(|filter| filter.generations().len() == width)
                .take(MERGED)
                .collect();
            let ids =
                || alike.iter().flat_map(|filter| filter.generations().iter().map(|(id, _)| *id)).collect();
            (alike.len() == MERGED).then(ids)
        })
    }

    fn with(&self, filter: Filter) -> Self {
        let mut set = self.clone();
        let covers = |id: &u64| filter.generations().iter().any(|(own, _)| own == id);
        if set
            .filters
            .iter()
            .any(|other| filter.generations().iter().all(|key| other.generations().contains(key)))
        {
            return set;
        }
        set.filters.retain(|other| !other.generations().iter().all(|(id, _)| covers(id)));
        set.unread.retain(|id| !covers(id));
        set.filters.push(Arc::new(filter));
        set.filters.sort_by_key(|filter| filter.generations().iter().map(|(id, _)| *id).max());
        set
    }
}

/// The filters of all sealed generations, asked by many threads while one adds.
#[derive(Debug, Default)]
pub struct Filters {
    set: RwLock<Arc<FilterSet>>,
    /// Held while a set is made.
    adding: Mutex<()>,
}

impl Filters {
    /// The filters as they are now. Take it once for a group of look-ups.
    pub fn view(&self) -> Arc<FilterSet> {
        self.set.read().clone()
    }

    /// Adds a filter, unless there is one of its generations; those of which it has all go. Views
    /// taken from now on have it.
    pub fn add(&self, filter: Filter) {
        self.replace(|set| set.with(filter));
    }

    /// Adds sealed generations whose filters are read later. Until then, look-ups go to their
    /// claims.
    pub fn add_unread(&self, generations: &[u64]) {
        self.replace(|set| {
            let mut set = set.clone();
            set.unread.extend_from_slice(generations);
            set
        });
    }

    /// Generations whose filters have not been read, oldest first.
    pub fn unread(&self) -> Vec<u64> {
        self.view().unread.clone()
    }

    fn replace(&self, make: impl FnOnce(&FilterSet) -> FilterSet) {
        let _one = self.adding.lock();
        let set = Arc::new(make(&self.view()));
        *self.set.write() = set;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::local::sealed::filter::tests::{filter_of, merged};

    fn candidates(set: &FilterSet, event: u128) -> Vec<u64> {
        let mut ids = Vec::new();
        set.candidates(&[event], |_, id| ids.push(id));
        ids
    }

    /// As the store's own thread does it.
    fn merge_all(filters: &Filters, generations: &[(u64, Vec<u128>)]) {
        while let Some(ids) = filters.view().mergeable() {
            let some: Vec<_> = generations.iter().filter(|(id, _)| ids.contains(id)).cloned().collect();
            filters.add(merged(&some));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_event_leads_to_its_generation(
            sizes in proptest::collection::vec(0..60usize, 0..150), seed in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let filters = Filters::default();
            let mut generations = Vec::new();
            for (id, size) in sizes.into_iter().enumerate() {
                let events: Vec<u128> = (0..size).map(|_| random.u128(..)).collect();
                filters.add(filter_of(id as u64, &events));
                generations.push((id as u64, events));
                merge_all(&filters, &generations);
            }
            let set = filters.view();
            let all: Vec<(u128, u64)> =
                generations.iter().flat_map(|(id, events)| events.iter().map(|event| (*event, *id))).collect();
            let events: Vec<u128> = all.iter().map(|(event, _)| *event).collect();
            let mut found = vec![Vec::new(); all.len()];
            set.candidates(&events, |event, id| found[event].push(id));
            for ((event, id), together) in all.iter().zip(&found) {
                prop_assert!(together.contains(id));
                prop_assert_eq!(&candidates(&set, *event), together, "alone as together");
            }
        }
    }

    #[test]
    fn four_alike_become_one_and_answer_the_same() {
        let mut random = fastrand::Rng::with_seed(5);
        let filters = Filters::default();
        let mut generations = Vec::new();
        for id in 0..140 {
            let events: Vec<u128> = (0..50).map(|_| random.u128(..)).collect();
            filters.add(filter_of(id, &events));
            generations.push((id, events));
            merge_all(&filters, &generations);
        }
        let set = filters.view();
        let widths: Vec<usize> = set.filters.iter().map(|filter| filter.generations().len()).collect();
        assert_eq!(widths, [64, 64, 4, 4, 4]);
        for (id, events) in &generations {
            assert!(events.iter().all(|event| candidates(&set, *event).contains(id)));
        }
    }

    #[test]
    fn a_generation_may_hold_any_event_until_its_filter_is_read() {
        const EIGHT: u128 = 8 << 64;
        const NINE: u128 = 9 << 64;
        let filters = Filters::default();
        filters.add(filter_of(3, &[NINE]));
        filters.add_unread(&[1, 2]);
        assert_eq!(candidates(&filters.view(), NINE), [3, 2, 1]);
        assert_eq!(candidates(&filters.view(), EIGHT), [2, 1]);
        assert_eq!(filters.unread(), [1, 2]);
        filters.add(filter_of(2, &[EIGHT]));
        assert_eq!(candidates(&filters.view(), NINE), [3, 1]);
        filters.add(filter_of(1, &[EIGHT]));
        assert_eq!(candidates(&filters.view(), EIGHT), [2, 1]);
        filters.add(filter_of(1, &[EIGHT]));
        assert_eq!(candidates(&filters.view(), EIGHT), [2, 1], "once");
        assert!(filters.unread().is_empty() && candidates(&filters.view(), 7 << 64).is_empty());
    }

    #[test]
    fn a_merged_filter_takes_the_place_of_those_it_is_of_read_or_not() {
        let filters = Filters::default();
        filters.add_unread(&[1, 2, 3]);
        filters.add(filter_of(2, &[8]));
        filters.add(merged(&[(1, vec![7]), (2, vec![8])]));
        assert_eq!(filters.unread(), [3]);
        assert_eq!(filters.view().filters.len(), 1);
        filters.add(filter_of(1, &[7]));
        assert_eq!(filters.view().filters.len(), 1, "it has that one already");
    }

    #[test]
    fn a_view_taken_before_stays_as_it_was() {
        let filters = Filters::default();
        let before = filters.view();
        filters.add(filter_of(1, &[9]));
        assert!(candidates(&before, 9).is_empty());
        assert_eq!(candidates(&filters.view(), 9), [1]);
    }
}
