//! The model: what clients were told and shown, and so what must be there after every restart.
//!
//! | checked | where |
//! |---|---|
//! | answered ⊆ readable ⊆ attempted, exactly once, with an attempted body that never changes | `whole_listing`, `shown` |
//! | at most one "stored" an id, later answers name the same place | `answered` |
//! | duplicates have the stored payload, conflicts another one | `check_answers` |
//! | what was shown stays, in the same order; offsets dense | `listing` |
//! | unique = readable, counts within what was answered, never going back once shown | `stats` |
//!
//! An id that nobody was told about and that a quiet store does not show is forgotten: it must
//! never come back.

use std::collections::{BTreeMap, BTreeSet};

use sekali::clock::Timestamp;
use sekali::store::{Outcome, Stats, Status, StoredEvent};

/// A broken promise, in a sentence.
pub type Verdict<T = ()> = Result<T, String>;

/// `broken` becomes an error that says `what`.
pub fn require(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// What an id can come with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub timestamp: String,
    pub source: String,
    pub payload: String,
}

impl Body {
    /// The payload without insignificant whitespace; none of the payloads made here has any in a
    /// string.
    fn canonical(&self) -> String {
        self.payload.split(' ').collect()
    }
}

/// An event as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: Key,
    pub body: Body,
}

/// A topic and an id in it.
pub type Key = (String, String);

/// What is known of one id. Bodies are named by their place in `attempted`.
#[derive(Debug, Default)]
struct Id {
    attempted: Vec<Body>,
    /// Offset and arrival, as answered or shown.
    place: Option<(u64, Timestamp)>,
    /// It had a place before the batches now in flight were sent.
    is_old: bool,
    stored: Option<usize>,
    same: BTreeSet<usize>,
    different: BTreeSet<usize>,
}

/// A count that is known within bounds.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Shown, or told before a clean stop: can't go back.
    kept: u64,
    /// Answered; a crash may take it back to `kept`.
    answered: u64,
    /// Answered before the batches now in flight were sent.
    floor: u64,
    /// Not more than this.
    most: u64,
}

impl Count {
    fn answered(&mut self, events: u64) {
        self.answered += events;
        self.most += events;
    }

    fn show(&mut self, name: &str, shown: u64, is_quiet: bool) -> Verdict {
        let least = if is_quiet { self.answered } else { self.floor };
        require((least..=self.most).contains(&shown), || {
            format!("{name} are {shown}, and must be within {least}..={}", self.most)
        })?;
        self.kept = self.kept.max(shown);
        self.answered = self.answered.max(shown);
        if is_quiet {
            self.most = shown;
        }
        Ok(())
    }
}

/// What a sound store must say, by what its clients were told.
#[derive(Debug, Default)]
pub struct Expected {
    ids: BTreeMap<Key, Id>,
    /// All that was shown, in the order of arrival.
    listing: Vec<StoredEvent>,
    duplicates: Count,
    conflicts: Count,
    rejected: Count,
}

impl Expected {
    /// All that was shown, in the order of arrival.
    pub fn shown_events(&self) -> &[StoredEvent] {
        &self.listing
    }

    /// Ids that may be stored.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.ids.keys()
    }

    /// A body that was attempted for this id.
    pub fn body(&self, key: &Key) -> Option<&Body> {
        self.ids.get(key)?.attempted.last()
    }

    /// These events are about to be sent.
    pub fn attempt(&mut self, batch: &[Sent]) {
        for count in [&mut self.duplicates, &mut self.conflicts, &mut self.rejected] {
            count.floor = count.answered;
        }
        for Sent { key, body } in batch {
            let id = self.ids.entry(key.clone()).or_default();
            id.is_old = id.place.is_some();
            if !id.attempted.contains(body) {
                id.attempted.push(body.clone());
            }
        }
    }

    /// They got no answer: any part may be stored and counted.
    pub fn unknown(&mut self, batch: &[Sent]) {
        self.duplicates.most += batch.len() as u64;
        self.conflicts.most += batch.len() as u64;
    }

    /// They were answered at `now`.
    pub fn answered(&mut self, batch: &[Sent], outcomes: &[Outcome], now: Timestamp) -> Verdict {
        require(batch.len() == outcomes.len(), || {
            format!("{} outcomes for {} events", outcomes.len(), batch.len())
        })?;
        let mut met = BTreeSet::new();
        for (Sent { key, body }, outcome) in batch.iter().zip(outcomes) {
            let is_first = met.insert(key);
            let id = self.ids.get_mut(key).ok_or_else(|| format!("{key:?} is unknown to the model"))?;
            let place = (outcome.offset, outcome.first_seen);
            let before = *id.place.get_or_insert(place);
            require(before == place, || format!("{key:?} is at {before:?}, and was answered {place:?}"))?;
            let body = id.attempted.iter().position(|attempted| attempted == body).unwrap_or(usize::MAX);
            match outcome.status {
                Status::Stored => {
                    require(id.stored.is_none() && !id.is_old && is_first, || {
                        format!("{key:?} was answered as stored, and it was before")
                    })?;
                    require(place.1 == now, || format!("{key:?} was stored at {now}, not {}", place.1))?;
                    id.stored = Some(body);
                }
                Status::Duplicate => {
                    self.duplicates.answered(1);
                    id.same.insert(body);
                }
                Status::Conflict => {
                    self.duplicates.answered(1);
                    self.conflicts.answered(1);
                    id.different.insert(body);
                }
            }
        }
        Ok(())
    }

    /// An event was shown.
    pub fn shown(&mut self, event: &StoredEvent) -> Verdict {
        let key = (event.topic.to_string(), event.event_id.to_string());
        let id = self.ids.get_mut(&key).ok_or_else(|| format!("{key:?} is readable, and was not sent"))?;
        let place = (event.offset, event.received_at);
        let before = *id.place.get_or_insert(place);
        require(before == place, || format!("{key:?} was at {before:?}, and is read at {place:?}"))?;
        let body = Body {
            timestamp: event.timestamp.to_string(),
            source: event.source.to_string(),
            payload: event.payload.to_string(),
        };
        let body = id
            .attempted
            .iter()
            .position(|attempted| *attempted == body)
            .ok_or_else(|| format!("{key:?} has a body that was never sent with it"))?;
        check_answers(&key, id, body)
    }

    /// All events in order of arrival, read while others may be on their way.
    pub fn listing(&mut self, events: Vec<StoredEvent>) -> Verdict {
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        let mut met = BTreeSet::new();
        for event in &events {
            let next = next.entry(&event.topic).or_default();
            require(event.offset == *next, || {
                format!("{:?} has offset {}, and {next} comes next", event.topic, event.offset)
            })?;
            *next += 1;
            require(met.insert((&event.topic, &event.event_id)), || {
                format!("{:?} {:?} is listed twice", event.topic, event.event_id)
            })?;
            self.shown(event)?;
        }
        for (at, (before, now)) in self.listing.iter().zip(&events).enumerate() {
            require(before == now, || {
                format!("event {at} was {}, and is {} now", brief(before), brief(now))
            })?;
        }
        require(self.listing.len() <= events.len(), || {
            let lost = self.listing.get(events.len()).map(brief).unwrap_or_default();
            format!("{} events were shown, and {} are left, without {lost}", self.listing.len(), events.len())
        })?;
        self.listing = events;
        Ok(())
    }

    /// All events in order of arrival, read while nothing is on its way.
    pub fn whole_listing(&mut self, events: Vec<StoredEvent>) -> Verdict {
        self.listing(events)?;
        let present: BTreeSet<Key> =
            self.listing.iter().map(|event| (event.topic.to_string(), event.event_id.to_string())).collect();
        for (key, id) in &self.ids {
            require(id.place.is_none() || present.contains(key), || {
                format!("{key:?} was answered at {:?}, and is not readable", id.place)
            })?;
        }
        self.ids.retain(|key, _| present.contains(key));
        Ok(())
    }

    /// Totals were shown; `is_quiet`: nothing is on its way, and the listing is up to date.
    pub fn stats(&mut self, stats: &Stats, is_quiet: bool) -> Verdict {
        let totals = stats.totals;
        let (unique, listed) = (totals.unique_processed, self.listing.len() as u64);
        require(if is_quiet { unique == listed } else { unique >= listed }, || {
            format!("unique_processed is {unique}, and {listed} events are readable")
        })?;
        self.duplicates.show("duplicates", totals.duplicate_dropped, is_quiet)?;
        self.conflicts.show("conflicts", totals.conflicts, is_quiet)?;
        self.rejected.show("rejected", totals.rejected, is_quiet)?;
        require(totals.conflicts <= totals.duplicate_dropped, || "more conflicts than duplicates".into())?;
        if is_quiet {
            let topics: BTreeSet<&str> = self.listing.iter().map(|event| &*event.topic).collect();
            require(stats.topics == topics.len() as u64, || {
                format!("there are {} topics, not {topics:?}", stats.topics)
            })?;
        }
        Ok(())
    }

    /// Invalid events were counted.
    pub fn reject(&mut self, events: u64) {
        self.rejected.answered(events);
    }

    /// The store stopped; `cleanly`: with all that it had counted.
    pub fn stopped(&mut self, cleanly: bool) {
        for count in [&mut self.duplicates, &mut self.conflicts, &mut self.rejected] {
            match cleanly {
                true => count.kept = count.answered,
                false => count.answered = count.kept,
            }
        }
    }
}

fn brief(event: &StoredEvent) -> String {
    let StoredEvent { topic, event_id, payload, offset, received_at, .. } = event;
    let start: String = payload.chars().take(20).collect();
    format!("{topic:?} {event_id:?} (offset {offset}, {received_at}, {} bytes {start})", payload.len())
}

/// The body that is stored must be the one answered as stored, like those of duplicates, unlike
/// those of conflicts.
fn check_answers(key: &Key, id: &Id, body: usize) -> Verdict {
    require(id.stored.is_none_or(|stored| stored == body), || {
        format!("{key:?} has another body than the one answered as stored")
    })?;
    let canonical = |body: usize| id.attempted.get(body).map(Body::canonical);
    let stored = canonical(body);
    require(id.same.iter().all(|same| canonical(*same) == stored), || {
        format!("{key:?} was answered as a duplicate, and another payload is stored")
    })?;
    require(id.different.iter().all(|different| canonical(*different) != stored), || {
        format!("{key:?} was answered as a conflict, and the same payload is stored")
    })
}
