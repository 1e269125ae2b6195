//! The fast path of a body: one pass, fields borrowed from the body, straight into a batch.
//!
//! There are four shapes: an event, an array of events, `{"events":[…]}`, `{"events":{…}}`.
//! Anything else is refused here without a reason; `faults.rs` finds the reason. [`Collector`]
//! takes events one by one.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{Batch, BatchBuilder, PAYLOAD_ABSENT, timestamp};
use crate::http::wire::problem::Fault;

/// A decoded body.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) batch: Batch,
    /// Whether the body was one event, not a list.
    pub(crate) is_single: bool,
    /// Indexes of the batch's events in the body's list, if some of the list are invalid.
    pub(crate) indexes: Option<Vec<usize>>,
    /// What is wrong with the invalid ones, and their indexes.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// How many are invalid.
    pub(crate) rejected: u64,
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// More events than a batch may have.
    TooMany,
    /// These faults, and how many events have one.
    Faulty(Vec<Fault>, u64),
}

/// Decodes a body of at most `events_max` events; `None` if it is not JSON, or something in it is
/// invalid or too much.
pub(crate) fn decode(body: &Bytes, events_max: usize) -> Option<Decoded> {
    // Looked at once for all strings in it.
    let text = std::str::from_utf8(body).ok()?;
    let mut sink = Sink { builder: BatchBuilder::new(body.clone()), events_max, is_single: false };
    let mut json = serde_json::Deserializer::from_str(text);
    let taken = Body(&mut sink).deserialize(&mut json).and_then(|()| json.end());
    taken.ok().map(|()| {
        let is_single = sink.is_single;
        Decoded { batch: sink.builder.finish(), is_single, ..Decoded::default() }
    })
}

/// Takes events that each stand alone, such as lines.
pub(crate) struct Collector(BatchBuilder);

impl Collector {
    /// For events that lie in `body`.
    pub(crate) fn new(body: Bytes) -> Self {
        Self(BatchBuilder::new(body))
    }

    /// Takes the event that `text` is; false if it is none, or invalid.
    pub(crate) fn take(&mut self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = Fields::deserialize(&mut json).and_then(|fields| json.end().map(|()| fields));
        fields.is_ok_and(|fields| fields.push_to(&mut self.0))
    }

    /// The events taken.
    pub(crate) fn finish(self) -> Batch {
        self.0.finish()
    }
}

struct Sink {
    builder: BatchBuilder,
    events_max: usize,
    is_single: bool,
}

impl Sink {
    fn push<E: Error>(&mut self, event: &Fields<'_>) -> Result<(), E> {
        if self.builder.len() >= self.events_max {
            return Err(E::custom("too many events"));
        }
        if event.push_to(&mut self.builder) { Ok(()) } else { Err(E::custom("invalid")) }
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The fields of an event that are there.
#[derive(Default)]
struct Fields<'a> {
    topic: Option<Text<'a>>,
    event_id: Option<Text<'a>>,
    timestamp: Option<&'a RawValue>,
    source: Option<Text<'a>>,
    payload: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Takes the value of `key`, if that is one of the fields.
    fn take<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<(), M::Error> {
        match key {
            "topic" => set(&mut self.topic, map),
            "event_id" => set(&mut self.event_id, map),
            "timestamp" => set(&mut self.timestamp, map),
            "source" => set(&mut self.source, map),
            "payload" => set(&mut self.payload, map),
            _ => map.next_value::<IgnoredAny>().map(|_| ()),
        }
    }

    /// Adds the event to a batch, if it is whole and valid.
    fn push_to(&self, builder: &mut BatchBuilder) -> bool {
        let (Some(topic), Some(event_id), Some(timestamp), Some(source)) =
            (&self.topic, &self.event_id, &self.timestamp, &self.source)
        else {
            return false;
        };
        let Ok(timestamp) = timestamp::keep_json(timestamp.get()) else { return false };
        let payload = self.payload.map_or(PAYLOAD_ABSENT, RawValue::get);
        builder.push(&topic.0, &event_id.0, &timestamp, &source.0, payload).is_ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(key)) = map.next_key()? {
                    fields.take(&key, &mut map)?;
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A field that is there twice is ambiguous.
fn set<'a, T: Deserialize<'a>, M: MapAccess<'a>>(field: &mut Option<T>, map: &mut M) -> Result<(), M::Error> {
    match field.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(M::Error::custom("a field is there twice")),
    }
}

/// A whole body.
struct Body<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event or a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        List(self.0).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Fields::default();
        let mut events: Option<&'de RawValue> = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == "events" {
                set(&mut events, &mut map)?;
            } else {
                fields.take(&key, &mut map)?;
            }
        }
        let is_event = fields.topic.is_some() || fields.event_id.is_some();
        match events {
            // An envelope.
            Some(events) if !is_event => {
                let mut json = serde_json::Deserializer::from_str(events.get());
                let taken = if events.get().starts_with('[') {
                    json.deserialize_seq(List(self.0))
                } else {
                    self.0.is_single = true;
                    One(self.0).deserialize(&mut json)
                };
                taken.map_err(A::Error::custom)
            }
            _ => {
                self.0.is_single = true;
                self.0.push(&fields)
            }
        }
    }
}

/// An array of events.
struct List<'s>(&'s mut Sink);

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(One(self.0))?.is_some() {}
        Ok(())
    }
}

/// An event.
struct One<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.push(&Fields::deserialize(deserializer)?)
    }
}
