//! What the service's answers are: whatever lacks a member, or has one of another kind, is the
//! answer of something else.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longest cursor.
const CURSOR_BYTES_MAX: usize = 1 << 10;

/// What became of events. Everything that was taken was either new or known.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, Serialize)]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) unique_processed: u64,
    pub(super) duplicate_dropped: u64,
    pub(super) conflicts: u64,
}

impl Counts {
    /// What doesn't add up.
    pub(super) fn fault(&self) -> Option<String> {
        let Self { received, unique_processed: unique, duplicate_dropped: dropped, conflicts } = *self;
        if unique.checked_add(dropped) != Some(received) {
            return Some(format!(
                "received is {received}, but {unique} stored and {dropped} dropped are not as many"
            ));
        }
        (conflicts > dropped).then(|| format!("{conflicts} conflicts are more than the {dropped} dropped"))
    }
}

/// `/readyz` when it is.
#[derive(serde::Deserialize)]
pub(super) struct Ready {
    pub(super) status: String,
}

/// `/stats`.
#[derive(serde::Deserialize)]
pub(super) struct Stats {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    pub(super) rejected: u64,
    pub(super) topics: Many,
    pub(super) uptime_seconds: f64,
}

impl Stats {
    // Members of its own, as serde would hold all that it does not know on the way to one that is
    // flattened.
    pub(super) fn counts(&self) -> Counts {
        let Self { received, unique_processed, duplicate_dropped, conflicts, .. } = *self;
        Counts { received, unique_processed, duplicate_dropped, conflicts }
    }
}

/// A stored event.
#[derive(serde::Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) topic: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
    pub(super) offset: u64,
    #[serde(borrow)]
    pub(super) received_at: Cow<'a, str>,
    #[serde(borrow, rename = "timestamp")]
    _timestamp: Cow<'a, str>,
}

/// A topic of `/topics`.
#[derive(serde::Deserialize)]
pub(super) struct Topic {
    pub(super) topic: String,
    pub(super) unique_processed: u64,
    pub(super) duplicate_dropped: u64,
    pub(super) conflicts: u64,
    pub(super) first_received_at: String,
    pub(super) last_received_at: String,
}

/// A page of `/events`.
#[derive(serde::Deserialize)]
pub(super) struct EventPage<'a> {
    #[serde(borrow)]
    pub(super) events: Few<'a>,
    count: u64,
    #[serde(deserialize_with = "cursor")]
    pub(super) next_cursor: Option<String>,
}

/// A page of `/topics`.
#[derive(serde::Deserialize)]
pub(super) struct TopicPage<'a> {
    #[serde(borrow)]
    pub(super) topics: Few<'a>,
    count: u64,
    #[serde(deserialize_with = "cursor")]
    pub(super) next_cursor: Option<String>,
}

/// A member that must be there, though it may be null.
fn cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let cursor: Option<String> = Option::deserialize(deserializer)?;
    match &cursor {
        Some(cursor) if cursor.is_empty() || cursor.len() > CURSOR_BYTES_MAX => {
            Err(D::Error::custom("a cursor of no use"))
        }
        _ => Ok(cursor),
    }
}

/// Parses a page of at most `limit` entries.
pub(super) fn event_page(body: &[u8], limit: u64) -> Result<EventPage<'_>, String> {
    let page: EventPage<'_> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    counted(&page.events, page.count, limit).map(|()| page)
}

/// Parses a page of at most `limit` topics.
pub(super) fn topic_page(body: &[u8], limit: u64) -> Result<TopicPage<'_>, String> {
    let page: TopicPage<'_> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    counted(&page.topics, page.count, limit).map(|()| page)
}

fn counted(entries: &Few<'_>, count: u64, limit: u64) -> Result<(), String> {
    let entries = entries.0.len() as u64;
    if entries != count {
        return Err(format!("it counts {count} entries and has {entries}"));
    }
    if entries > limit { Err(format!("{entries} entries, asked for were {limit}")) } else { Ok(()) }
}

/// Entries of a page. The list itself takes memory, however short each of them is, so it is bounded
/// too.
#[derive(Debug)]
pub(super) struct Few<'a>(pub(super) Vec<&'a RawValue>);

/// Most entries of any page that is asked for.
pub(super) const PAGE_ENTRIES: u64 = 1_000;

impl<'de: 'a, 'a> Deserialize<'de> for Few<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    if entries.len() as u64 == PAGE_ENTRIES {
                        return Err(A::Error::custom(format_args!("more than {PAGE_ENTRIES} entries")));
                    }
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(Entries).map(Self)
    }
}

/// A list of which only the length is wanted.
#[derive(Debug)]
pub(super) struct Many(pub(super) u64);

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
        }
        deserializer.deserialize_seq(Entries).map(Self)
    }
}

/// Notices a listing that goes round and round, by Brent's algorithm: one cursor is held, however
/// long the way.
#[derive(Debug)]
pub(super) struct Round {
    held: String,
    steps: u64,
    turn: u64,
}

impl Default for Round {
    fn default() -> Self {
        Self { held: String::new(), steps: 0, turn: 1 }
    }
}

impl Round {
    /// Whether the listing was at this cursor before.
    pub(super) fn was_at(&mut self, cursor: &str) -> bool {
        if cursor == self.held {
            return true;
        }
        self.steps += 1;
        if self.steps == self.turn {
            (self.held, self.steps, self.turn) = (cursor.to_owned(), 0, self.turn.saturating_mul(2));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_goes_round_is_noticed_wherever_it_begins_to() {
        for (way, length) in [(0, 1), (0, 2), (1, 3), (7, 5), (100, 37)] {
            let (mut round, mut steps) = (Round::default(), 0_u64);
            let at = |step: u64| if step < way { step } else { way + (step - way) % length };
            while !round.was_at(&at(steps).to_string()) {
                steps += 1;
                assert!(steps < 10 * (way + length), "{way} {length}");
            }
            assert!(steps >= way + length, "nothing was repeated yet: {way} {length}");
        }
        let mut straight = Round::default();
        assert!((0..10_000).all(|step| !straight.was_at(&step.to_string())));
    }

    #[test]
    fn a_page_is_one_only_with_every_member() {
        let parsed = |text: &str| event_page(text.as_bytes(), 2).map(|page| page.events.0.len());
        assert_eq!(parsed(r#"{"topic":null,"count":1,"events":[{}],"next_cursor":null}"#), Ok(1));
        for text in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"count":1,"events":[{}]}"#,
            r#"{"events":[{}],"next_cursor":null}"#,
            r#"{"count":2,"events":[{}],"next_cursor":null}"#,
            r#"{"count":3,"events":[1,2,3],"next_cursor":null}"#,
            r#"{"count":1,"events":{},"next_cursor":null}"#,
            r#"{"count":1,"events":[{}],"next_cursor":7}"#,
            r#"{"count":1,"events":[{}],"next_cursor":""}"#,
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
