//! The checker's eyes: reads a running server over HTTP.

use std::io::BufRead;
use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::checker::{Listing, Page, Reader, TopicFigures};
use super::client::{Client, escape};
use super::history::{Key, Seen, Totals};

/// Digest of all that a client sends of an event beside its id.
pub fn digest(timestamp: &str, source: &str, payload: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{timestamp}\0{source}\0{payload}").as_bytes())
}

#[derive(Deserialize)]
struct EventJson {
    topic: String,
    event_id: String,
    timestamp: String,
    source: String,
    payload: Box<RawValue>,
    offset: u64,
    received_at: String,
}

impl From<EventJson> for Seen {
    fn from(event: EventJson) -> Self {
        Self {
            digest: digest(&event.timestamp, &event.source, event.payload.get()),
            key: Key { topic: event.topic, event_id: event.event_id },
            offset: event.offset,
            received_at: event.received_at,
        }
    }
}

#[derive(Deserialize)]
struct EventsJson {
    count: usize,
    events: Vec<EventJson>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct StatsJson {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    topics: Vec<String>,
}

#[derive(Deserialize)]
struct TopicJson {
    topic: String,
    unique_processed: u64,
    last_offset: u64,
}

#[derive(Deserialize)]
struct TopicsJson {
    topics: Vec<TopicJson>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Reads a running server.
#[derive(Debug)]
pub struct HttpReader(Client);

impl HttpReader {
    pub fn new(addr: SocketAddr) -> Self {
        Self(Client::new(addr))
    }

    fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<Option<T>, String> {
        let answer = self.0.get(path).map_err(|e| format!("GET {path}: {e}"))?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map(Some).map_err(|e| format!("GET {path}: {e}")),
            404 => Ok(None),
            status => Err(format!("GET {path}: {status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }

    fn must<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, String> {
        self.get(path)?.ok_or_else(|| format!("GET {path}: 404"))
    }
}

impl Reader for HttpReader {
    fn list(&mut self, listing: &Listing) -> Result<Page<Seen>, String> {
        let mut path = format!("/events?limit={}", listing.limit);
        if listing.descending {
            path.push_str("&order=desc");
        }
        if let Some(topic) = &listing.topic {
            path.push_str(&format!("&topic={}", escape(topic)));
        }
        if let Some(cursor) = &listing.cursor {
            path.push_str(&format!("&cursor={}", escape(cursor)));
        }
        let page: EventsJson = self.must(&path)?;
        if page.count != page.events.len() {
            return Err(format!("GET {path}: count is {}, events are {}", page.count, page.events.len()));
        }
        Ok(Page { items: page.events.into_iter().map(Seen::from).collect(), next_cursor: page.next_cursor })
    }

    fn find(&mut self, key: &Key) -> Result<Option<Seen>, String> {
        let path = format!("/events/{}/{}", escape(&key.topic), escape(&key.event_id));
        Ok(self.get::<EventJson>(&path)?.map(Seen::from))
    }

    fn totals(&mut self) -> Result<Totals, String> {
        let stats: StatsJson = self.must("/stats")?;
        Ok(Totals {
            received: stats.received,
            unique: stats.unique_processed,
            duplicates: stats.duplicate_dropped,
            conflicts: stats.conflicts,
            topics: stats.topics,
        })
    }

    fn topics(&mut self, cursor: Option<&str>) -> Result<Page<TopicFigures>, String> {
        let page: TopicsJson = match cursor {
            None => self.must("/topics")?,
            Some(cursor) => self.must(&format!("/topics?cursor={}", escape(cursor)))?,
        };
        let figures = |t: TopicJson| TopicFigures {
            topic: t.topic,
            unique: t.unique_processed,
            last_offset: t.last_offset,
        };
        Ok(Page { items: page.topics.into_iter().map(figures).collect(), next_cursor: page.next_cursor })
    }
}

/// The next event of a tail with its id; `None` if the tail ends or breaks.
pub fn message(tail: &mut impl BufRead) -> Option<(String, Value)> {
    let (mut id, mut data) = (None, None);
    loop {
        let mut line = String::new();
        if tail.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end_matches('\n').split_once(": ") {
            Some(("id", text)) => id = Some(text.to_owned()),
            Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
            _ => {}
        }
        if line == "\n"
            && let (Some(id), Some(data)) = (id.take(), data.take())
        {
            return Some((id, data));
        }
    }
}
