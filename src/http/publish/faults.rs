//! What is wrong with a body that the fast path refused, in FastAPI's words. Never shows what was
//! sent.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{self, Field, timestamp};
use crate::http::publish::decode::{Collector, Decoded, Refused};
use crate::http::wire::problem::{Fault, Loc};
use crate::limits::LINE_BYTES_MAX;

/// Looks at a body that the fast path did not take. The valid events of a list are taken all the
/// same, if that is asked for.
///
/// # Errors
/// More than `events_max` events, or the faults and how many events have one (at least 1).
pub(crate) fn look(body: &Bytes, events_max: usize, takes_valid: bool) -> Result<Decoded, Refused> {
    let collected = takes_valid.then(|| (Collector::new(body.clone()), Vec::new()));
    let mut finder = Finder { events_max, collected, ..Finder::default() };
    finder.body(body);
    let Finder { mut found, is_list, has_too_many, collected, .. } = finder;
    match collected {
        _ if has_too_many => Err(Refused::TooMany),
        Some((events, indexes)) if is_list => {
            let Found { faults, rejected, .. } = found;
            Ok(Decoded { batch: events.finish(), is_single: false, indexes: Some(indexes), faults, rejected })
        }
        _ => {
            if found.faults.is_empty() {
                found.add(vec![Loc::Name("body")], "value_error", INVALID);
            }
            let rejected = found.rejected.max(1);
            Err(Refused::Faulty(found.into_faults(), rejected))
        }
    }
}

/// The text of a body that is to be JSON.
///
/// # Errors
/// Why it is not.
pub(crate) fn json_text(body: &[u8]) -> Result<&str, Vec<Fault>> {
    let mut finder = Finder::default();
    finder.text(body).ok_or_else(|| finder.found.into_faults())
}

/// The faults of one line of a stream, at least one.
pub(crate) fn find_in_line(line: &[u8], number: usize) -> Vec<Fault> {
    let loc = [Loc::Name("body"), Loc::Index(number)];
    let mut finder = Finder::default();
    if line.len() > LINE_BYTES_MAX {
        let msg = format!("The line must have at most {LINE_BYTES_MAX} bytes");
        finder.found.add(loc.to_vec(), "line_too_long", msg);
    } else if let Some(text) = finder.json(&loc, line) {
        finder.event(&loc, text.trim_ascii());
    }
    if finder.found.faults.is_empty() {
        finder.found.add(loc.to_vec(), "value_error", INVALID);
    }
    finder.found.into_faults()
}

/// What is wrong with a body, as far as it has been looked at.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The index of the event looked at.
    pub(crate) index: usize,
    /// Faults, each with the index of its event.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// Events with a fault.
    pub(crate) rejected: u64,
}

impl Found {
    /// Adds a fault of the event looked at.
    pub(crate) fn add(&mut self, loc: Vec<Loc>, kind: &'static str, msg: impl Into<String>) {
        self.faults.push((self.index, Fault { loc, msg: msg.into(), kind }));
    }

    /// Adds the fault of a member that an object has twice.
    pub(crate) fn add_duplicate(&mut self, loc: Vec<Loc>) {
        self.add(loc, "duplicate_field", "The field is there more than once");
    }

    /// The faults alone.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }

    /// Counts the event looked at as rejected, if a fault was found since there were `before`.
    pub(crate) fn count_since(&mut self, before: usize) {
        self.rejected += u64::from(self.faults.len() > before);
    }
}

#[derive(Default)]
struct Finder {
    found: Found,
    /// The body is a list of events.
    is_list: bool,
    /// Events that it may have.
    events_max: usize,
    has_too_many: bool,
    /// Valid events and their indexes, if they are asked for.
    collected: Option<(Collector, Vec<usize>)>,
    scratch: Vec<u8>,
}

const INVALID: &str = "The body is not valid";

pub(crate) const STRING: &str = "Input should be a valid string";
pub(crate) const UNICODE: &str = "Input should be a valid string: it has an escape of half a surrogate pair";
const OBJECT: &str = "Input should be an event: a JSON object with topic, event_id, timestamp and source";
const SHAPE: &str = "Input should be an event, an array of events, or an object with events";

impl Finder {
    /// The text of a body; a fault if it is no JSON.
    fn text<'a>(&mut self, body: &'a [u8]) -> Option<&'a str> {
        let root = Loc::Name("body");
        if body.trim_ascii().is_empty() {
            self.found.add(vec![root], "missing", "Field required");
            return None;
        }
        self.json(&[root], body)
    }

    /// The text of a JSON document; a fault if it is none.
    fn json<'a>(&mut self, loc: &[Loc], bytes: &'a [u8]) -> Option<&'a str> {
        let (at, why) = match std::str::from_utf8(bytes) {
            Ok(text) => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => return Some(text),
                // A fault of syntax shows nothing of what was sent; its position is said beside it.
                Err(e) => {
                    let why = e.to_string();
                    let why = why.split(" at line ").next().unwrap_or_default().to_owned();
                    (position(text, e.line(), e.column()), why)
                }
            },
            Err(e) => (e.valid_up_to(), "not UTF-8".to_owned()),
        };
        self.found.add(
            [loc, &[Loc::Index(at)]].concat(),
            "json_invalid",
            format!("JSON decode error: {why}"),
        );
        None
    }

    fn body(&mut self, body: &[u8]) {
        let root = Loc::Name("body");
        let Some(text) = self.text(body) else { return self.hint_at_lines(body) };
        let text = text.trim_ascii();
        match text.as_bytes().first() {
            Some(b'[') => self.list(&[root], text),
            Some(b'{') => self.object(text),
            _ => self.found.add(vec![root], "model_attributes_type", SHAPE),
        }
    }

    /// Says how several objects in a row are sent, if that is what the body is.
    fn hint_at_lines(&mut self, body: &[u8]) {
        let starts_object =
            |text: Option<&[u8]>| text.is_some_and(|text| text.trim_ascii().starts_with(b"{"));
        if let [(_, fault)] = &mut self.found.faults[..]
            && let [_, Loc::Index(at)] = fault.loc[..]
            && starts_object(Some(body))
            && starts_object(body.get(at..))
            && serde_json::from_slice::<IgnoredAny>(&body[..at]).is_ok()
        {
            fault.msg.push_str(
                " after the first event: send an event a line as application/x-ndjson, or all in an array",
            );
        }
    }

    fn object(&mut self, text: &str) {
        let root = Loc::Name("body");
        let Ok(Entries(entries)) = serde_json::from_str(text) else {
            return self.found.add(vec![root], "string_unicode", UNICODE);
        };
        let has = |name: &str| entries.iter().any(|(key, _)| key == name);
        let mut envelopes = entries.iter().filter(|(key, _)| key == "events");
        match envelopes.next() {
            Some((_, events)) if !has("topic") && !has("event_id") => {
                let loc = [root, Loc::Name("events")];
                if envelopes.next().is_some() {
                    return self.found.add_duplicate(loc.to_vec());
                }
                match events.get().as_bytes().first() {
                    Some(b'[') => self.list(&loc, events.get()),
                    _ => self.event(&loc, events.get()),
                }
            }
            _ => self.event(&[root], text),
        }
    }

    fn list(&mut self, loc: &[Loc], text: &str) {
        let Ok(items) = elements(text, self.events_max) else {
            return self.found.add(loc.to_vec(), "json_invalid", "JSON decode error");
        };
        self.is_list = true;
        self.has_too_many = items.len() > self.events_max;
        if self.has_too_many {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            self.found.index = index;
            let loc = [loc, &[Loc::Index(index)]].concat();
            self.event(&loc, item.get());
        }
    }

    fn event(&mut self, loc: &[Loc], text: &str) {
        let before = self.found.faults.len();
        if text.starts_with('{') {
            match serde_json::from_str::<Entries<'_>>(text) {
                Ok(Entries(entries)) => self.fields(loc, &entries),
                Err(_) => self.found.add(loc.to_vec(), "string_unicode", UNICODE),
            }
        } else {
            self.found.add(loc.to_vec(), "model_attributes_type", OBJECT);
        }
        if self.found.faults.len() == before
            && let Some((events, indexes)) = &mut self.collected
        {
            if events.take(text.as_bytes()) {
                indexes.push(self.found.index);
            } else {
                self.found.add(loc.to_vec(), "value_error", INVALID);
            }
        }
        self.found.count_since(before);
    }

    fn fields(&mut self, loc: &[Loc], entries: &[(String, &RawValue)]) {
        for field in [Field::Topic, Field::EventId, Field::Timestamp, Field::Source, Field::Payload] {
            let loc = [loc, &[Loc::Name(field.name())]].concat();
            let mut values = entries.iter().filter(|(key, _)| key == field.name()).map(|(_, value)| *value);
            let Some(value) = values.next() else {
                if field != Field::Payload {
                    self.found.add(loc, "missing", "Field required");
                }
                continue;
            };
            if values.next().is_some() {
                self.found.add_duplicate(loc);
            } else if let Err((kind, msg)) = self.field(field, value.get()) {
                self.found.add(loc, kind, msg);
            }
        }
    }

    fn field(&mut self, field: Field, raw: &str) -> Result<(), (&'static str, &'static str)> {
        let fault = |fault: event::Fault| (fault.kind, fault.message);
        if field == Field::Payload {
            return event::check_payload(raw, &mut self.scratch).map(|_| ()).map_err(fault);
        }
        if field == Field::Timestamp {
            return timestamp::keep_json(raw).and_then(|kept| timestamp::check(&kept)).map_err(fault);
        }
        if !raw.starts_with('"') {
            return Err(("string_type", STRING));
        }
        let text: String = serde_json::from_str(raw).map_err(|_| ("string_unicode", UNICODE))?;
        match field {
            Field::Topic => event::check_topic(&text),
            Field::EventId => event::check_event_id(&text),
            Field::Source => event::check_source(&text),
            Field::Timestamp | Field::Payload => Ok(()),
        }
        .map_err(fault)
    }
}

/// Where a line and column, both from 1, lie in the text.
fn position(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// The elements of an array. Of an array that is longer than `max`, one more than that: all of them
/// could take a multiple of the body.
pub(crate) fn elements(text: &str, max: usize) -> serde_json::Result<Vec<&RawValue>> {
    struct First(usize);
    impl<'de> Visitor<'de> for First {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while elements.len() <= self.0
                && let Some(element) = seq.next_element()?
            {
                elements.push(element);
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(elements)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_seq(First(max))
}

/// Members that mean something in an event or a CloudEvent.
const MEMBERS: [&str; 15] = [
    "events",
    "topic",
    "event_id",
    "timestamp",
    "source",
    "payload",
    "specversion",
    "id",
    "type",
    "time",
    "datacontenttype",
    "dataschema",
    "subject",
    "data",
    "data_base64",
];

/// The entries of an object that mean something; of repeated ones two, which is as bad as more.
pub(crate) struct Entries<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Self::Value = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    let is_new = entries.iter().filter(|(known, _)| *known == key).count() < 2;
                    if is_new && MEMBERS.contains(&key.as_str()) {
                        entries.push((key, value));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}
