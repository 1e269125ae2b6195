//! The databases of a store, and which of them has a slot. One database with all slots is the
//! simplest case.

use futures_util::future::try_join_all;

use super::coverage::SlotRow;
use super::group::Group;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{DATABASE_CONNECTIONS, DATABASE_PROMISE, DATABASE_STANDBYS, DATABASE_WAITING, Metrics};
use crate::store::postgres::connect::connection::Reader;
use crate::store::postgres::connect::primary::PrimaryNumber;
use crate::store::{Health, Totals};

/// All databases of a store.
#[derive(Debug)]
pub(crate) struct Groups {
    all: Vec<Group>,
    /// Of each slot, the place of its database in `all`.
    places: Vec<usize>,
    /// The place of the database that has the consumers.
    home: usize,
}

/// The primary of each database at a moment.
#[derive(Debug)]
pub(crate) struct Primaries(Vec<PrimaryNumber>);

impl Groups {
    /// Databases whose slots are all slots, each once.
    pub(crate) fn new(all: Vec<Group>, home: usize) -> Self {
        let slots = all.iter().map(|group| group.slots.len()).sum();
        let mut places = vec![home; slots];
        for (place, group) in all.iter().enumerate() {
            group.slots.iter().for_each(|slot| places[*slot] = place);
        }
        Self { all, places, home }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.all.iter()
    }

    /// The one at this place, as [`Groups::place`] and [`Groups::iter`] count them.
    pub(crate) fn get(&self, place: usize) -> &Group {
        &self.all[place]
    }

    /// The place of the one that has a slot.
    pub(crate) fn place(&self, slot: usize) -> usize {
        self.places.get(slot).copied().unwrap_or(self.home)
    }

    /// The one that has a slot.
    pub(crate) fn of(&self, slot: usize) -> &Group {
        self.get(self.place(slot))
    }

    /// The one that has the consumers.
    pub(crate) fn home(&self) -> &Group {
        self.get(self.home)
    }

    /// Whether this is the one that has the consumers.
    pub(crate) fn is_home(&self, place: usize) -> bool {
        place == self.home
    }

    /// Things of slots, by the places of their databases, each in the order in which they come.
    pub(crate) fn sort<T>(
        &self,
        things: impl IntoIterator<Item = T>,
        slot: impl Fn(&T) -> i16,
    ) -> Vec<Vec<T>> {
        let mut sorted: Vec<Vec<T>> = self.all.iter().map(|_| Vec::new()).collect();
        for thing in things {
            sorted[self.place(usize::try_from(slot(&thing)).unwrap_or_default())].push(thing);
        }
        sorted
    }

    /// Whether the one at this place answers as it should, or none does.
    pub(crate) fn is_well(&self, place: usize) -> bool {
        !self.get(place).has_trouble() || self.iter().all(Group::has_trouble)
    }

    /// The places of those that answer as they should; of all if none does.
    pub(crate) fn well(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|place| self.is_well(*place)).collect()
    }

    /// The rows of the slots of those at these places, once what they say is covered.
    ///
    /// # Errors
    /// As for [`Groups::rows`].
    pub(crate) async fn rows_of(&self, places: &[usize]) -> Result<Vec<SlotRow>> {
        let rows = try_join_all(places.iter().map(|place| self.get(*place).rows())).await?;
        Ok(rows.concat())
    }

    /// The rows of all slots, once what they say is covered.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`, `Corrupt`.
    pub(crate) async fn rows(&self) -> Result<Vec<SlotRow>> {
        let mut rows = try_join_all(self.iter().map(Group::rows)).await?.concat();
        rows.sort_unstable_by_key(|row| row.slot);
        Ok(rows)
    }

    /// The numbers after the last events of all slots. Slots whose database does not answer as it
    /// should have those that are known of them, unless none does.
    ///
    /// # Errors
    /// As for [`Groups::rows`].
    pub(crate) async fn known_ends(&self) -> Result<Vec<i64>> {
        self.rows_of(&self.well()).await?;
        Ok((0..self.places.len()).map(|slot| self.of(slot).coverage.next_seq(slot)).collect())
    }

    /// The primaries of all of them, to be asked for before what is to be covered is read.
    pub(crate) fn primaries(&self) -> Primaries {
        Primaries(self.iter().map(|group| group.connections.primary()).collect())
    }

    /// Waits until these events, each by its slot and number, are covered.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`.
    pub(crate) async fn cover(
        &self,
        Primaries(primaries): &Primaries,
        events: impl IntoIterator<Item = (i16, i64)>,
    ) -> Result<()> {
        let sorted = self.iter().zip(primaries).zip(self.sort(events, |event| event.0));
        try_join_all(sorted.map(|((group, primary), events)| group.cover(*primary, events))).await.map(drop)
    }

    /// Commits something in the home and in those at these places, which covers all that they
    /// showed when this was called.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`.
    pub(crate) async fn commit(&self, Primaries(primaries): &Primaries, places: &[usize]) -> Result<()> {
        let others = places.iter().copied().filter(|place| !self.is_home(*place));
        let commit = |place: usize| self.get(place).commit(primaries[place]);
        try_join_all(others.chain([self.home]).map(commit)).await.map(drop)
    }

    /// The same in the home alone.
    ///
    /// # Errors
    /// `Overloaded`, `Unsure`.
    pub(crate) async fn commit_at_home(&self, primaries: &Primaries) -> Result<()> {
        self.commit(primaries, &[]).await
    }

    /// Connections to all of them. They are taken in one order, so that readers can't wait for each
    /// other in a circle.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn readers(&self) -> Result<Readers> {
        let mut readers = Vec::with_capacity(self.all.len());
        for group in &self.all {
            readers.push(Some(group.connections.read().await?));
        }
        Ok(Readers(readers))
    }

    /// A connection to the one that has a slot.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn reader(&self, slot: usize) -> Result<Readers> {
        let mut readers: Vec<Option<Reader>> = self.all.iter().map(|_| None).collect();
        readers[self.place(slot)] = Some(self.of(slot).connections.read().await?);
        Ok(Readers(readers))
    }

    /// Topics that there are, as far as this node knows.
    pub(crate) fn topics(&self) -> usize {
        self.iter().map(|group| group.coverage.topics()).sum()
    }

    /// Events that there are, as far as this node knows.
    pub(crate) fn stored(&self) -> i64 {
        self.iter().map(|group| group.coverage.stored()).sum()
    }

    /// Totals as they were when each was looked at last.
    pub(crate) fn totals(&self) -> Totals {
        self.iter().fold(Totals::default(), |sum, group| sum.plus(group.totals()))
    }

    /// Whether events are taken.
    pub(crate) fn health(&self) -> Health {
        let troubles: Vec<String> = self.iter().filter_map(Group::trouble).collect();
        let why = troubles.join("; ");
        match troubles.len() {
            0 => Health::Ready,
            all if all == self.all.len() => Health::NotReady(why),
            _ => Health::ReadyInPart(why),
        }
    }

    /// Brings the figures of the databases up to date.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        for pool in 0..2 {
            let figures = self.iter().map(|group| group.connections.figures()[pool]);
            let (mut name, mut sums) = ("", [0; 3]);
            for (of, counts) in figures {
                name = of;
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            for (state, count) in [("idle", sums[0]), ("busy", sums[1])] {
                metrics.set(DATABASE_CONNECTIONS, &[("pool", name), ("state", state)], count as f64);
            }
            metrics.set(DATABASE_WAITING, &[("pool", name)], sums[2] as f64);
        }
        let is_kept = !self.iter().any(Group::has_trouble);
        metrics.set(DATABASE_PROMISE, &[], f64::from(u8::from(is_kept)));
        let standbys: Option<Vec<i64>> = self.iter().map(Group::standbys).collect();
        if let Some(fewest) = standbys.and_then(|standbys| standbys.into_iter().min()) {
            metrics.set(DATABASE_STANDBYS, &[], fewest as f64);
        }
    }
}

/// Connections for reading, to some databases of a store.
pub(crate) struct Readers(Vec<Option<Reader>>);

impl Readers {
    /// The connection to the database at this place.
    ///
    /// # Errors
    /// `Overloaded`: none was taken.
    pub(crate) fn of(&self, place: usize) -> Result<&Reader> {
        let none = || Error::new(ErrorKind::Overloaded, "another database is meant; retry later");
        self.0.get(place).and_then(Option::as_ref).ok_or_else(none)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.0.iter().flatten()
    }
}
