//! Which topics have something new for a consumer.
//!
//! Nobody looks at all topics when a consumer asks. Topics whose events readers can see since now
//! are noted once for all consumers ([`TopicNotes`]), and each consumer reads what was noted since
//! it looked last. Only a consumer that is new to this process, or that did not look for long, goes
//! through the topics of its filter once, some at a time. Topics go by their numbers, which are the
//! backend's own.

use std::collections::VecDeque;

use crate::limits::TOPIC_NOTES_KEPT;
use crate::sync::Mutex;

/// The topics of the events that became visible last, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct TopicNotes(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Whether there is anybody to note for.
    is_followed: bool,
    /// How many were noted in all.
    count: u64,
    topics: VecDeque<u32>,
}

impl TopicNotes {
    /// Notes topics whose new events readers can see.
    pub(crate) fn note(&self, topics: impl Iterator<Item = u32>) {
        // Under the lock also where nobody follows: whoever begins to follow afterwards sees the
        // events.
        let mut notes = self.0.lock();
        if !notes.is_followed {
            return;
        }
        for topic in topics {
            notes.count += 1;
            notes.topics.push_back(topic);
        }
        let surplus = notes.topics.len().saturating_sub(TOPIC_NOTES_KEPT);
        notes.topics.drain(..surplus);
    }

    /// Says that topics can't be noted one by one: each consumer must go through those of its
    /// filter.
    pub(crate) fn lose(&self) {
        let mut notes = self.0.lock();
        notes.count += 1;
        notes.topics.clear();
    }

    /// From here on topics are noted; what is noted later than the count that is returned is notes.
    fn follow(&self) -> u64 {
        let mut notes = self.0.lock();
        notes.is_followed = true;
        notes.count
    }

    /// The topics that were noted since there were `seen`, and how many there are now; `None` if
    /// some of them are forgotten.
    fn since(&self, seen: u64) -> Option<(Vec<u32>, u64)> {
        let notes = self.0.lock();
        let new = usize::try_from(notes.count - seen).ok()?;
        let from = notes.topics.len().checked_sub(new)?;
        Some((notes.topics.range(from..).copied().collect(), notes.count))
    }
}

/// A set of topics by their numbers, a bit each.
#[derive(Debug, Default)]
struct TopicSet(Vec<u64>);

impl TopicSet {
    fn insert(&mut self, topic: u32) {
        let word = (topic / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (topic % 64);
    }

    fn remove(&mut self, topic: u32) {
        if let Some(word) = self.0.get_mut((topic / 64) as usize) {
            *word &= !(1 << (topic % 64));
        }
    }

    /// The first one from `from` on.
    fn next(&self, from: u32) -> Option<u32> {
        let first = (from / 64) as usize;
        let mut word = self.0.get(first)? & (u64::MAX << (from % 64));
        let mut at = first;
        while word == 0 {
            at += 1;
            word = *self.0.get(at)?;
        }
        Some(at as u32 * 64 + word.trailing_zeros())
    }

    /// All of them, those from `from` on first.
    fn from(&self, from: u32) -> impl Iterator<Item = u32> {
        let next = |topic: Option<u32>| self.next(topic.map_or(0, |topic| topic + 1));
        let begin = self.next(from);
        let after = std::iter::successors(begin, move |topic| next(Some(*topic)));
        let before = std::iter::successors(self.next(0), move |topic| next(Some(*topic)));
        after.chain(before.take_while(move |topic| *topic < from))
    }
}

/// How far the topics of the filter were gone through.
#[derive(Debug, Default)]
enum Look {
    #[default]
    Begins,
    /// After the topic with this name.
    After(Box<str>),
    Done,
}

/// What is known of the topics with something new.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    look: Look,
    /// The count of notes up to which they were read.
    seen: u64,
    ready: TopicSet,
    /// The topic whose turn it is next.
    turn: u32,
}

impl Backlog {
    /// Takes in the topics that were noted since the last time, if they are meant; where too much
    /// was noted since then, going through all topics begins again.
    pub(crate) fn read(&mut self, notes: &TopicNotes, is_meant: impl Fn(u32) -> bool) {
        let noted = match &self.look {
            Look::Begins => None,
            _ => notes.since(self.seen),
        };
        match noted {
            Some((noted, seen)) => {
                self.seen = seen;
                noted.into_iter().filter(|topic| is_meant(*topic)).for_each(|topic| self.ready.insert(topic));
            }
            None => {
                self.seen = notes.follow();
                self.look = Look::After("".into());
            }
        }
    }

    /// The name after which the topics of the filter are still to be gone through; `None` if all
    /// that is new is known.
    pub(crate) fn looks_after(&self) -> Option<&str> {
        match &self.look {
            Look::Begins => Some(""),
            Look::After(name) => Some(name),
            Look::Done => None,
        }
    }

    /// Topics were gone through: those of them with something new, and the last one, if there may
    /// be more after it.
    pub(crate) fn looked(&mut self, ready: impl Iterator<Item = u32>, last: Option<Box<str>>) {
        ready.for_each(|topic| self.ready.insert(topic));
        self.look = last.map_or(Look::Done, Look::After);
    }

    /// The topics that may have something new, in the order of their turns.
    pub(crate) fn ready(&self) -> impl Iterator<Item = u32> {
        self.ready.from(self.turn)
    }

    /// The topics with this number or a higher one that may have something new, by their numbers.
    pub(crate) fn ready_from(&self, topic: u32) -> impl Iterator<Item = u32> {
        let after = |topic: &u32| self.ready.next(topic.checked_add(1)?);
        std::iter::successors(self.ready.next(topic), after)
    }

    /// A topic has nothing new.
    pub(crate) fn is_caught_up(&mut self, topic: u32) {
        self.ready.remove(topic);
    }

    /// The turn goes to the topic after the last one that was read.
    pub(crate) fn pass_turn(&mut self, last: u32) {
        self.turn = last.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(backlog: &mut Backlog, notes: &TopicNotes) -> Vec<u32> {
        backlog.read(notes, |topic| topic != 7);
        backlog.ready().collect()
    }

    #[test]
    fn what_was_noted_is_read_once_and_what_was_not_is_looked_for() {
        let (notes, mut backlog) = (TopicNotes::default(), Backlog::default());
        notes.note([1].into_iter());
        assert!(read(&mut backlog, &notes).is_empty(), "nobody noted for it yet");
        assert_eq!(backlog.looks_after(), Some(""));
        backlog.looked([200].into_iter(), Some("m".into()));
        assert_eq!(backlog.looks_after(), Some("m"));
        backlog.looked(std::iter::empty(), None);
        notes.note([3, 7, 64].into_iter());
        assert_eq!(read(&mut backlog, &notes), [3, 64, 200], "7 is not meant");
        backlog.is_caught_up(64);
        backlog.pass_turn(3);
        assert_eq!(read(&mut backlog, &notes), [200, 3]);
        assert_eq!(backlog.looks_after(), None);
        notes.lose();
        assert_eq!(read(&mut backlog, &notes), [200, 3]);
        assert_eq!(backlog.looks_after(), Some(""), "all topics are gone through again");
        notes.note([5].into_iter());
        backlog.looked(std::iter::empty(), None);
        assert_eq!(read(&mut backlog, &notes), [5, 200, 3]);
        notes.note((0..=TOPIC_NOTES_KEPT as u32).map(|topic| topic % 2));
        read(&mut backlog, &notes);
        assert_eq!(backlog.looks_after(), Some(""), "the first notes are forgotten");
    }
}
