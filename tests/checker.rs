//! The checker, proved with planted bugs: a model server in memory, honest or broken in one way
//! that can be observed, and the violation that must be found. Honest ones pass, whatever the
//! operations.

mod consuming;

use std::collections::BTreeMap;

use crate::support::checker::{Listing, Page, Reader, TopicFigures, check, check_touched};
use crate::support::history::{Answer, History, Key, Kind, Position, Seen, Totals};
use proptest::prelude::*;

/// A server reduced to what can be observed of it.
#[derive(Clone, Default)]
struct World {
    events: Vec<Seen>,
    totals: Totals,
    /// A position of the global listing that pages skip.
    gap: Option<usize>,
}

fn key(topic: u8, id: u16) -> Key {
    Key { topic: format!("t{topic}"), event_id: format!("{id}") }
}

impl World {
    /// Takes an event as an honest server does.
    fn take(&mut self, key: &Key, digest: u64) -> Answer {
        let found = self.events.iter().find(|seen| seen.key == *key);
        if let Some(seen) = found {
            let position = Position { offset: seen.offset, first_seen: seen.received_at.clone() };
            let same = seen.digest == digest;
            self.totals.duplicates += 1;
            self.totals.received += 1;
            self.totals.conflicts += u64::from(!same);
            return if same { Answer::Duplicate(position) } else { Answer::Conflict(position) };
        }
        let offset = self.events.iter().filter(|seen| seen.key.topic == key.topic).count() as u64;
        let received_at = format!("at {}", self.events.len());
        self.events.push(Seen { key: key.clone(), digest, offset, received_at: received_at.clone() });
        self.totals.unique += 1;
        self.totals.received += 1;
        Answer::Stored(Position { offset, first_seen: received_at })
    }

    fn publish(&mut self, history: &mut History, key: &Key, digest: u64) {
        let answer = self.take(key, digest);
        history.record(key, digest, answer);
    }

    fn forget(&mut self, position: usize) -> Seen {
        self.totals.unique -= 1;
        self.totals.received -= 1;
        self.events.remove(position)
    }
}

impl Reader for World {
    fn list(&mut self, listing: &Listing) -> Result<Page<Seen>, String> {
        let fits = |seen: &&Seen| listing.topic.as_ref().is_none_or(|topic| seen.key.topic == *topic);
        let mut events: Vec<_> = self.events.iter().filter(fits).cloned().collect();
        if let (Some(gap), None, false) = (self.gap, &listing.topic, listing.descending) {
            events.remove(gap);
        }
        if listing.descending {
            events.reverse();
        }
        let from = listing.cursor.as_ref().map_or(0, |cursor| cursor.parse().unwrap());
        // Pages of at most 7 events, so that small histories have several: a page may be short.
        let to = events.len().min(from + listing.limit.min(7));
        let next_cursor = (to < events.len()).then(|| to.to_string());
        Ok(Page { items: events[from.min(to)..to].to_vec(), next_cursor })
    }

    fn find(&mut self, key: &Key) -> Result<Option<Seen>, String> {
        Ok(self.events.iter().find(|seen| seen.key == *key).cloned())
    }

    fn totals(&mut self) -> Result<Totals, String> {
        let mut topics: Vec<_> = self.events.iter().map(|seen| seen.key.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        Ok(Totals { topics, ..self.totals.clone() })
    }

    fn topics(&mut self, _cursor: Option<&str>) -> Result<Page<TopicFigures>, String> {
        let mut figures: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for seen in &self.events {
            let figure = figures.entry(&seen.key.topic).or_default();
            *figure = (figure.0 + 1, seen.offset);
        }
        let figures = figures.into_iter();
        let items = figures.map(|(topic, (unique, last_offset))| TopicFigures {
            topic: topic.into(),
            unique,
            last_offset,
        });
        Ok(Page { items: items.collect(), next_cursor: None })
    }
}

/// 40 events of 3 topics, the first 10 sent twice.
fn published() -> (World, History) {
    let (mut world, mut history) = (World::default(), History::default());
    for n in (0..40).chain(0..10) {
        world.publish(&mut history, &key((n % 3) as u8, n), u64::from(n));
    }
    (world, history)
}

/// The checker finds this kind of violation.
fn assert_found(kind: Kind, world: &mut World, history: &mut History) {
    let found = check(history, world, 1);
    assert!(found.iter().any(|v| v.kind == kind), "{kind:?} was not found, but {found:?}");
}

/// The same after a restart only, when a check before it found nothing.
fn assert_found_after_restart(kind: Kind, plant: impl FnOnce(&mut World, &mut History)) {
    let (mut world, mut history) = published();
    assert!(check(&mut history, &mut world, 1).is_empty());
    plant(&mut world, &mut history);
    assert_found(kind, &mut world, &mut history);
}

#[test]
fn an_honest_server_passes_again_and_again() {
    let (mut world, mut history) = published();
    for seed in 0..5 {
        assert!(check_touched(&mut history, &mut world).is_empty());
        let found = check(&mut history, &mut world, seed);
        assert!(found.is_empty(), "{found:?}");
        world.publish(&mut history, &key(1, 100 + seed as u16), seed);
    }
}

#[test]
fn an_answered_event_that_is_lost_is_found_by_both_checks() {
    let (mut world, mut history) = published();
    world.forget(39);
    assert!(check_touched(&mut history.clone(), &mut world).iter().any(|v| v.kind == Kind::Lost));
    assert_found(Kind::Lost, &mut world, &mut history);
}

#[test]
fn an_event_that_was_only_answered_as_a_duplicate_and_is_lost_is_found() {
    let (mut world, mut history) = published();
    history.record(&key(0, 99), 5, Answer::Unknown);
    let position = Position { offset: 14, first_seen: "x".into() };
    history.record(&key(0, 99), 5, Answer::Duplicate(position));
    assert_found(Kind::Lost, &mut world, &mut history);
}

#[test]
fn a_duplicate_of_what_nobody_could_have_stored_is_found() {
    let (mut world, mut history) = published();
    world.take(&key(0, 99), 5);
    let answer = world.take(&key(0, 99), 5);
    history.record(&key(0, 99), 5, answer);
    assert_found(Kind::Answer, &mut world, &mut history);
}

#[test]
fn an_event_that_is_listed_twice_is_found() {
    assert_found_after_restart(Kind::Twice, |world, _| {
        let again = world.events[3].clone();
        world.events.push(again);
    });
}

#[test]
fn a_payload_that_changed_is_found() {
    assert_found_after_restart(Kind::Changed, |world, _| world.events[5].digest = 777);
}

#[test]
fn a_payload_that_changed_to_another_one_that_was_sent_is_found() {
    assert_found_after_restart(Kind::Changed, |world, history| {
        world.publish(history, &key(2, 5), 777);
        world.events[5].digest = 777;
    });
}

#[test]
fn an_arrival_time_that_changed_is_found() {
    assert_found_after_restart(Kind::Changed, |world, _| world.events[5].received_at = "later".into());
}

#[test]
fn stored_answered_twice_is_found() {
    assert_found_after_restart(Kind::StoredTwice, |world, history| {
        let seen = world.events[5].clone();
        let position = Position { offset: seen.offset, first_seen: seen.received_at };
        history.record(&seen.key, seen.digest, Answer::Stored(position));
    });
}

#[test]
fn stored_answered_for_an_unanswered_event_that_a_check_had_found_is_found() {
    let (mut world, mut history) = published();
    world.take(&key(0, 99), 5);
    history.record(&key(0, 99), 5, Answer::Unknown);
    assert!(check(&mut history, &mut world, 1).is_empty());
    let seen = world.events[40].clone();
    let position = Position { offset: seen.offset, first_seen: seen.received_at };
    history.record(&seen.key, 5, Answer::Stored(position));
    assert_found(Kind::StoredTwice, &mut world, &mut history);
}

#[test]
fn a_hole_in_the_offsets_is_found() {
    let (mut world, mut history) = (World::default(), History::default());
    for n in 0..20 {
        world.take(&key(0, n), 1);
        history.record(&key(0, n), 1, Answer::Unknown);
    }
    world.forget(10);
    assert_found(Kind::Hole, &mut world, &mut history);
}

#[test]
fn an_offset_that_is_used_again_is_found() {
    assert_found_after_restart(Kind::Reused, |world, history| {
        // The last event is lost, and its offset goes to another one.
        world.forget(39);
        world.publish(history, &key(0, 999), 1);
    });
}

#[test]
fn a_gap_between_pages_is_found() {
    assert_found_after_restart(Kind::Pages, |world, _| world.gap = Some(7));
}

#[test]
fn an_old_cursor_that_lost_its_place_is_found() {
    assert_found_after_restart(Kind::Pages, |_, history| {
        history.cursors = vec![("14".into(), 13)];
    });
}

#[test]
fn a_changed_order_of_arrival_is_found() {
    assert_found_after_restart(Kind::Pages, |world, _| world.events.swap(3, 4));
}

#[test]
fn totals_that_went_back_are_found() {
    assert_found_after_restart(Kind::Totals, |world, _| {
        world.totals.duplicates -= 1;
        world.totals.received -= 1;
    });
}

#[test]
fn totals_that_do_not_add_up_or_count_too_much_are_found() {
    assert_found_after_restart(Kind::Totals, |world, _| world.totals.received += 1);
    assert_found_after_restart(Kind::Totals, |world, _| {
        world.totals.duplicates += 1;
        world.totals.received += 1;
    });
}

#[test]
fn an_unanswered_event_that_was_shown_once_and_is_gone_is_found() {
    let (mut world, mut history) = published();
    world.take(&key(0, 99), 5);
    history.record(&key(0, 99), 5, Answer::Unknown);
    assert!(check(&mut history, &mut world, 1).is_empty());
    world.forget(40);
    assert_found(Kind::Vanished, &mut world, &mut history);
}

#[test]
fn an_event_that_nobody_sent_or_that_was_refused_is_found() {
    assert_found_after_restart(Kind::NeverAttempted, |world, _| _ = world.take(&key(0, 99), 5));
    assert_found_after_restart(Kind::NeverAttempted, |world, history| {
        world.take(&key(0, 99), 5);
        history.record(&key(0, 99), 5, Answer::Refused);
    });
}

#[test]
fn a_missing_separator_in_the_key_is_found() {
    // "t1" + "2" and "t" + "12" are one to a store without a separator: the second is dropped as
    // known.
    let (mut world, mut history) = published();
    world.publish(&mut history, &key(1, 2), 1);
    let other = Key { topic: "t".into(), event_id: "12".into() };
    let answer = world.take(&key(1, 2), 1);
    history.record(&other, 1, answer);
    assert_found(Kind::Lost, &mut world, &mut history);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_history_of_an_honest_server_passes(
        operations in prop::collection::vec((0u8..3, 0u16..30, 0u64..2, 0u8..12), 0..200),
        seed: u64,
    ) {
        let (mut world, mut history) = (World::default(), History::default());
        for (topic, id, digest, fate) in operations {
            let key = key(topic, id);
            match fate {
                // A crash: what was under way may be stored or not; then the checker looks.
                0 => history.record(&key, digest, Answer::Unknown),
                1 => {
                    world.take(&key, digest);
                    history.record(&key, digest, Answer::Unknown);
                }
                2 => {
                    let found = check(&mut history, &mut world, seed);
                    prop_assert!(found.is_empty(), "{found:?}");
                }
                3 => {
                    let found = check_touched(&mut history, &mut world);
                    prop_assert!(found.is_empty(), "{found:?}");
                }
                4 => history.record(&key, digest, Answer::Refused),
                _ => world.publish(&mut history, &key, digest),
            }
        }
        let found = check(&mut history, &mut world, seed);
        prop_assert!(found.is_empty(), "{found:?}");
    }
}
