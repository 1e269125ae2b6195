//! What is wrong with a body that the fast path refused, in FastAPI's words. Never shows what was sent.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decode::{Collector, Decoded, Refused};
use super::problem::{Fault, Loc};
use crate::event::{self, Field};
use crate::limits::LINE_BYTES_MAX;

/// The faults of a body, and how many of its events have one (at least 1).
pub(super) fn find(body: &[u8]) -> (Vec<Fault>, u64) {
    let mut finder = Finder::default();
    finder.body(body);
    if finder.faults.is_empty() {
        finder.add(vec![Loc::Name("body")], "value_error", INVALID);
    }
    let rejected = finder.rejected.max(1);
    (finder.into_faults(), rejected)
}

/// The text of a body that is to be JSON.
///
/// # Errors
/// Why it is not.
pub(super) fn json_text(body: &[u8]) -> Result<&str, Vec<Fault>> {
    let mut finder = Finder::default();
    finder.text(body).ok_or_else(|| finder.into_faults())
}

/// The faults of one line of a stream, at least one.
pub(super) fn find_in_line(line: &[u8], number: usize) -> Vec<Fault> {
    let place = [Loc::Name("body"), Loc::Index(number)];
    let mut finder = Finder::default();
    if line.len() > LINE_BYTES_MAX {
        let msg = format!("The line must have at most {LINE_BYTES_MAX} bytes");
        finder.add(place.to_vec(), "line_too_long", msg);
    } else if let Some(text) = finder.json(&place, line) {
        finder.event(&place, text.trim_ascii());
    }
    if finder.faults.is_empty() {
        finder.add(place.to_vec(), "value_error", INVALID);
    }
    finder.into_faults()
}

/// The valid events of a list of at most `events_max`, and the faults of the others.
///
/// # Errors
/// The body is no list of events, or it is too long.
pub(super) fn sort(body: &Bytes, events_max: usize) -> Result<Decoded, Refused> {
    let mut finder =
        Finder { collected: Some((Collector::new(body.clone()), Vec::new())), ..Finder::default() };
    finder.body(body);
    match finder.listed {
        None => Err(Refused::Invalid),
        Some(listed) if listed > events_max => Err(Refused::TooMany),
        Some(_) => {
            let (batch, indexes) =
                finder.collected.map(|(events, at)| (events.finish(), at)).unwrap_or_default();
            let (faults, rejected) = (finder.faults, finder.rejected);
            Ok(Decoded { batch, is_single: false, indexes: Some(indexes), faults, rejected })
        }
    }
}

#[derive(Default)]
struct Finder {
    /// With the event's place in the list.
    faults: Vec<(usize, Fault)>,
    /// Events with a fault.
    rejected: u64,
    /// Events in the list, if the body is one.
    listed: Option<usize>,
    /// The place of the event looked at.
    index: usize,
    /// Valid events and their places, if they are asked for.
    collected: Option<(Collector, Vec<usize>)>,
    scratch: Vec<u8>,
}

const INVALID: &str = "The body is not valid";

pub(super) const STRING: &str = "Input should be a valid string";
pub(super) const UNICODE: &str = "Input should be a valid string: it has an escape of half a surrogate pair";
const OBJECT: &str = "Input should be an event: a JSON object with topic, event_id, timestamp and source";
const SHAPE: &str = "Input should be an event, an array of events, or an object with events";

impl Finder {
    fn into_faults(self) -> Vec<Fault> {
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }

    fn add(&mut self, loc: Vec<Loc>, kind: &'static str, msg: impl Into<String>) {
        self.faults.push((self.index, Fault { loc, msg: msg.into(), kind }));
    }

    /// The text of a body; a fault if it is no JSON.
    fn text<'a>(&mut self, body: &'a [u8]) -> Option<&'a str> {
        let root = Loc::Name("body");
        if body.trim_ascii().is_empty() {
            self.add(vec![root], "missing", "Field required");
            return None;
        }
        self.json(&[root], body)
    }

    /// The text of a JSON document; a fault if it is none.
    fn json<'a>(&mut self, place: &[Loc], bytes: &'a [u8]) -> Option<&'a str> {
        let (at, message) = match std::str::from_utf8(bytes) {
            Ok(text) => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => return Some(text),
                Err(e) => (position(text, e.line(), e.column()), "JSON decode error"),
            },
            Err(e) => (e.valid_up_to(), "JSON decode error: not UTF-8"),
        };
        self.add([place, &[Loc::Index(at)]].concat(), "json_invalid", message);
        None
    }

    fn body(&mut self, body: &[u8]) {
        let root = Loc::Name("body");
        let Some(text) = self.text(body) else { return };
        let text = text.trim_ascii();
        match text.as_bytes().first() {
            Some(b'[') => self.list(&[root], text),
            Some(b'{') => self.object(text),
            _ => self.add(vec![root], "model_attributes_type", SHAPE),
        }
    }

    fn object(&mut self, text: &str) {
        let root = Loc::Name("body");
        let Ok(Entries(entries)) = serde_json::from_str(text) else {
            return self.add(vec![root], "string_unicode", UNICODE);
        };
        let has = |name: &str| entries.iter().any(|(key, _)| key == name);
        let mut envelopes = entries.iter().filter(|(key, _)| key == "events");
        match envelopes.next() {
            Some((_, events)) if !has("topic") && !has("event_id") => {
                let place = [root, Loc::Name("events")];
                if envelopes.next().is_some() {
                    return self.add(place.to_vec(), "duplicate_field", "The field is there more than once");
                }
                match events.get().as_bytes().first() {
                    Some(b'[') => self.list(&place, events.get()),
                    _ => self.event(&place, events.get()),
                }
            }
            _ => self.event(&[root], text),
        }
    }

    fn list(&mut self, place: &[Loc], text: &str) {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else {
            return self.add(place.to_vec(), "json_invalid", "JSON decode error");
        };
        self.listed = Some(items.len());
        for (index, item) in items.iter().enumerate() {
            self.index = index;
            let place = [place, &[Loc::Index(index)]].concat();
            self.event(&place, item.get());
        }
    }

    fn event(&mut self, place: &[Loc], text: &str) {
        let before = self.faults.len();
        if text.starts_with('{') {
            match serde_json::from_str::<Entries<'_>>(text) {
                Ok(Entries(entries)) => self.fields(place, &entries),
                Err(_) => self.add(place.to_vec(), "string_unicode", UNICODE),
            }
        } else {
            self.add(place.to_vec(), "model_attributes_type", OBJECT);
        }
        if self.faults.len() == before
            && let Some((events, indexes)) = &mut self.collected
        {
            if events.take(text.as_bytes()) {
                indexes.push(self.index);
            } else {
                self.add(place.to_vec(), "value_error", INVALID);
            }
        }
        self.rejected += u64::from(self.faults.len() > before);
    }

    fn fields(&mut self, place: &[Loc], entries: &[(String, &RawValue)]) {
        for field in [Field::Topic, Field::EventId, Field::Timestamp, Field::Source, Field::Payload] {
            let loc = [place, &[Loc::Name(field.name())]].concat();
            let mut values = entries.iter().filter(|(key, _)| key == field.name()).map(|(_, value)| *value);
            let Some(value) = values.next() else {
                if field != Field::Payload {
                    self.add(loc, "missing", "Field required");
                }
                continue;
            };
            if values.next().is_some() {
                self.add(loc, "duplicate_field", "The field is there more than once");
            } else if let Err((kind, msg)) = self.field(field, value.get()) {
                self.add(loc, kind, msg);
            }
        }
    }

    fn field(&mut self, field: Field, raw: &str) -> Result<(), (&'static str, &'static str)> {
        let fault = |fault: event::Fault| (fault.kind, fault.message);
        if field == Field::Payload {
            return event::check_payload(raw, &mut self.scratch).map(|_| ()).map_err(fault);
        }
        if !raw.starts_with('"') {
            return Err(("string_type", STRING));
        }
        let text: String = serde_json::from_str(raw).map_err(|_| ("string_unicode", UNICODE))?;
        match field {
            Field::Topic => event::check_topic(&text),
            Field::EventId => event::check_event_id(&text),
            Field::Timestamp => event::check_timestamp(&text),
            Field::Source => event::check_source(&text),
            Field::Payload => Ok(()),
        }
        .map_err(fault)
    }
}

/// Where a line and column, both from 1, lie in the text.
fn position(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// The entries of an object, repeated keys included.
pub(super) struct Entries<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}
