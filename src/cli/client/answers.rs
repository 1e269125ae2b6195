//! What the service's answers are: whatever lacks a member, or has one of another kind, is the
//! answer of something else.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longest cursor that a service may give.
const CURSOR_BYTES_MAX: usize = 1 << 10;

/// What became of events. Everything that was taken was either new or known.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, Serialize)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) unique_processed: u64,
    pub(crate) duplicate_dropped: u64,
    pub(crate) conflicts: u64,
}

impl Counts {
    /// A sentence if the counts don't add up.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { received, unique_processed: unique, duplicate_dropped: dropped, conflicts } = *self;
        if unique.checked_add(dropped) != Some(received) {
            return Some(format!(
                "received is {received}, but {unique} stored and {dropped} dropped are not as many"
            ));
        }
        (conflicts > dropped).then(|| format!("{conflicts} conflicts are more than the {dropped} dropped"))
    }
}

/// The answer of `/readyz` when the service is ready.
#[derive(serde::Deserialize)]
pub(crate) struct Ready {
    pub(crate) status: String,
}

/// The answer of `/stats`.
#[derive(serde::Deserialize)]
pub(crate) struct Stats {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    /// `None` for whoever may not read all topics.
    #[serde(deserialize_with = "nullable")]
    pub(crate) rejected: Option<u64>,
    /// Of each topic only that it is there is wanted, which takes no memory.
    pub(crate) topics: Vec<IgnoredAny>,
    pub(crate) uptime_seconds: f64,
}

impl Stats {
    // Members of its own, as serde would hold all that it does not know on the way to one that is
    // flattened.
    pub(crate) fn counts(&self) -> Counts {
        let Self { received, unique_processed, duplicate_dropped, conflicts, .. } = *self;
        Counts { received, unique_processed, duplicate_dropped, conflicts }
    }
}

/// A stored event, as a page or a stream gives it.
#[derive(serde::Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow)]
    pub(crate) topic: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) event_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) source: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) payload: &'a RawValue,
    pub(crate) offset: u64,
    #[serde(borrow)]
    pub(crate) received_at: Cow<'a, str>,
    #[serde(borrow, rename = "timestamp", deserialize_with = "timestamp")]
    _timestamp: &'a RawValue,
}

/// A topic as a page of `/topics` gives it.
#[derive(serde::Deserialize)]
pub(crate) struct Topic {
    pub(crate) topic: String,
    pub(crate) unique_processed: u64,
    pub(crate) duplicate_dropped: u64,
    pub(crate) conflicts: u64,
    pub(crate) first_received_at: String,
    pub(crate) last_received_at: String,
}

/// A consumer, as it is listed and as the answer to its making.
#[derive(serde::Deserialize)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) topics: Vec<String>,
    pub(crate) lag: u64,
    pub(crate) lag_seconds: f64,
    pub(crate) leases: Vec<Lease>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) last_error: Option<LastError>,
}

/// Who reads for a consumer.
#[derive(serde::Deserialize)]
pub(crate) struct Lease {
    pub(crate) holder: String,
    pub(crate) partition: String,
}

/// What went wrong last with a consumer.
#[derive(serde::Deserialize)]
pub(crate) struct LastError {
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// A page of `/consumers`.
#[derive(serde::Deserialize)]
pub(crate) struct ConsumerPage<'a> {
    #[serde(borrow)]
    pub(crate) consumers: Entries<'a>,
    #[serde(deserialize_with = "cursor")]
    pub(crate) next_cursor: Option<String>,
}

/// A page of `/events`.
#[derive(serde::Deserialize)]
pub(crate) struct EventPage<'a> {
    #[serde(borrow)]
    pub(crate) events: Entries<'a>,
    count: u64,
    #[serde(deserialize_with = "cursor")]
    pub(crate) next_cursor: Option<String>,
}

/// A page of `/topics`.
#[derive(serde::Deserialize)]
pub(crate) struct TopicPage<'a> {
    #[serde(borrow)]
    pub(crate) topics: Entries<'a>,
    count: u64,
    #[serde(deserialize_with = "cursor")]
    pub(crate) next_cursor: Option<String>,
}

/// A member that must be there, though it may be null.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A timestamp, which goes out as it came: as a string or as a number.
fn timestamp<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<&'a RawValue, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    match raw.get().as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => Ok(raw),
        _ => Err(D::Error::custom("a timestamp that is neither a string nor a number")),
    }
}

/// A cursor, which must be there too.
fn cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let cursor: Option<String> = nullable(deserializer)?;
    match &cursor {
        Some(cursor) if cursor.is_empty() || cursor.len() > CURSOR_BYTES_MAX => {
            Err(D::Error::custom("a cursor of no use"))
        }
        _ => Ok(cursor),
    }
}

/// Parses a page of at most `limit` entries.
pub(crate) fn event_page(body: &[u8], limit: u64) -> Result<EventPage<'_>, String> {
    let page: EventPage<'_> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    counted(&page.events, page.count, limit).map(|()| page)
}

/// Parses a page of at most `limit` topics.
pub(crate) fn topic_page(body: &[u8], limit: u64) -> Result<TopicPage<'_>, String> {
    let page: TopicPage<'_> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    counted(&page.topics, page.count, limit).map(|()| page)
}

fn counted(entries: &Entries<'_>, count: u64, limit: u64) -> Result<(), String> {
    let entries = entries.0.len() as u64;
    if entries != count {
        return Err(format!("it counts {count} entries and has {entries}"));
    }
    if entries > limit { Err(format!("{entries} entries, asked for were {limit}")) } else { Ok(()) }
}

/// Entries of a page. The list itself takes memory, however short each of them is, so it is bounded
/// too.
#[derive(Debug)]
pub(crate) struct Entries<'a>(pub(crate) Vec<&'a RawValue>);

/// Most entries of any page that is asked for.
pub(crate) const PAGE_ENTRIES: u64 = 1_000;

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
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
        deserializer.deserialize_seq(Bounded).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_a_string_or_a_number() {
        let parsed = |timestamp: &str| {
            let text = r#"{"topic":"t","event_id":"1","timestamp":TIME,"source":"","payload":{},"offset":0,"received_at":""}"#;
            serde_json::from_str::<Event<'_>>(&text.replace("TIME", timestamp)).map(drop)
        };
        for timestamp in [r#""2026-11-22""#, r#""1763805600""#, "1763805600", "-1.5", "1e9"] {
            parsed(timestamp).unwrap();
        }
        for timestamp in ["null", "true", "{}", "[]"] {
            parsed(timestamp).unwrap_err();
        }
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
