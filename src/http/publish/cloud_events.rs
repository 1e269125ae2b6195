//! CloudEvents 1.0: events in the JSON format, alone or in a batch, and in HTTP's binary mode.
//!
//! | CloudEvents | event |
//! |---|---|
//! | `id` | `event_id`; with `dedup=source` it is `source`, a blank, `id`. A URI reference has no blank, so the first one ends the source |
//! | `type`, or the option `topic` | `topic` |
//! | `source` | `source` |
//! | `time`; if absent, the time of arrival | `timestamp` |
//! | `data` | `payload` |
//! | `data_base64` | `payload`: as JSON, if `datacontenttype` says so or is absent; as a JSON string, if it is text; else as a JSON string, in standard base64 |
//!
//! In binary mode the data is bytes, as `data_base64` is. All other attributes are dropped.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::value::RawValue;

use self::data::{Kind, as_json, base64_string, same_text};
use crate::clock::Timestamp;
use crate::event::{self, BatchBuilder, Field, PAYLOAD_ABSENT, timestamp};
use crate::http::body::content::Dialect;
use crate::http::publish::decode::{Decoded, Refused, Text};
use crate::http::publish::faults::{Entries, Found, STRING, UNICODE, elements, json_text};
use crate::http::publish::options::Options;
use crate::http::wire::problem::{Fault, Loc};

mod binary;
mod data;

/// Decodes a body, or headers and a body.
pub(crate) fn decode(
    dialect: Dialect,
    headers: &HeaderMap,
    body: &Bytes,
    options: &Options,
    arrival: Timestamp,
    events_max: usize,
) -> Result<Decoded, Refused> {
    let mut mapper = Mapper::new(body.clone(), options, arrival);
    let is_single = dialect != Dialect::CloudEventBatch;
    let root = Loc::Name("body");
    match dialect {
        Dialect::CloudEventBinary => mapper.binary(headers, body),
        _ => {
            let text = json_text(body).map_err(|faults| Refused::Faulty(faults, 1))?;
            if is_single {
                mapper.event(&[root], text.trim_ascii());
            } else {
                let Ok(events) = elements(text, events_max) else {
                    let msg = "Input should be an array of CloudEvents".to_owned();
                    return Err(Refused::Faulty(vec![Fault { loc: vec![root], msg, kind: "list_type" }], 1));
                };
                if events.len() > events_max {
                    return Err(Refused::TooMany);
                }
                for (index, event) in events.iter().enumerate() {
                    mapper.found.index = index;
                    mapper.event(&[root, Loc::Index(index)], event.get());
                }
            }
        }
    }
    mapper.finish(is_single, options.partial)
}

/// The attributes of an event that are there.
#[derive(Default)]
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
}

struct Mapper<'o> {
    options: &'o Options,
    arrival: String,
    builder: BatchBuilder,
    indexes: Vec<usize>,
    found: Found,
}

impl<'o> Mapper<'o> {
    fn new(body: Bytes, options: &'o Options, arrival: Timestamp) -> Self {
        Self {
            options,
            arrival: arrival.to_string(),
            builder: BatchBuilder::new(body),
            indexes: Vec::new(),
            found: Found::default(),
        }
    }

    fn finish(self, is_single: bool, partial: bool) -> Result<Decoded, Refused> {
        let Self { builder, indexes, found, .. } = self;
        if !found.faults.is_empty() && (is_single || !partial) {
            let rejected = found.rejected;
            return Err(Refused::Faulty(found.into_faults(), rejected));
        }
        let Found { faults, rejected, .. } = found;
        Ok(Decoded { batch: builder.finish(), is_single, indexes: Some(indexes), faults, rejected })
    }

    /// An event in the JSON format.
    fn event(&mut self, loc: &[Loc], text: &str) {
        let before = self.found.faults.len();
        let at = |name| [loc, &[Loc::Name(name)]].concat();
        match serde_json::from_str::<Entries<'_>>(text) {
            Ok(Entries(entries)) => {
                let attributes = Attributes {
                    specversion: self.attribute(&entries, "specversion", at),
                    id: self.attribute(&entries, "id", at),
                    source: self.attribute(&entries, "source", at),
                    kind: self.attribute(&entries, "type", at),
                    time: self.attribute(&entries, "time", at),
                };
                for name in ["dataschema", "subject"] {
                    // Not kept; but an event that is malformed elsewhere is none.
                    let _ = self.attribute(&entries, name, at);
                }
                let kind = self.attribute(&entries, "datacontenttype", at);
                let data = self.data(&entries, kind.as_deref().map(|kind| Kind::of(kind.as_bytes())), at);
                self.take(before, &attributes, data.as_deref(), at, at("data"));
            }
            Err(_) if text.starts_with('{') => self.found.add(loc.to_vec(), "string_unicode", UNICODE),
            Err(_) => {
                self.found.add(
                    loc.to_vec(),
                    "model_attributes_type",
                    "Input should be a CloudEvent: a JSON object",
                );
            }
        }
        self.found.count_since(before);
    }

    /// The one value of a member.
    fn member<'a>(
        &mut self,
        entries: &[(String, &'a RawValue)],
        name: &'static str,
        at: impl Fn(&'static str) -> Vec<Loc>,
    ) -> Option<&'a str> {
        let mut values = entries.iter().filter(|(key, _)| key == name).map(|(_, value)| value.get());
        let value = values.next();
        if values.next().is_some() {
            self.found.add_duplicate(at(name));
        }
        value
    }

    /// An attribute; `null` is as good as absent.
    fn attribute<'a>(
        &mut self,
        entries: &[(String, &'a RawValue)],
        name: &'static str,
        at: impl Fn(&'static str) -> Vec<Loc>,
    ) -> Option<Cow<'a, str>> {
        let raw = self.member(entries, name, &at).filter(|raw| *raw != "null")?;
        let fault = match serde_json::from_str::<Text<'a>>(raw) {
            Ok(Text(text)) => return Some(text),
            Err(_) if raw.starts_with('"') => ("string_unicode", UNICODE),
            Err(_) => ("string_type", STRING),
        };
        self.found.add(at(name), fault.0, fault.1);
        // There is something; that it is of no use has been said.
        None
    }

    /// The payload; `None` if there is no data.
    fn data<'a>(
        &mut self,
        entries: &[(String, &'a RawValue)],
        kind: Option<Kind>,
        at: impl Fn(&'static str) -> Vec<Loc>,
    ) -> Option<Cow<'a, str>> {
        let data = self.member(entries, "data", &at);
        let Some(encoded) = self.attribute(entries, "data_base64", &at) else {
            return data.map(|raw| match kind {
                Some(kind @ (Kind::Text | Kind::Unknown)) => same_text(kind, raw),
                _ => Cow::Borrowed(raw),
            });
        };
        if data.is_some() {
            self.found.add(at("data_base64"), "value_error", "There must be data or data_base64, not both");
        }
        match STANDARD.decode(encoded.as_bytes()) {
            Ok(bytes) => {
                // What is not as its media type says is bytes.
                let json = as_json(kind.unwrap_or(Kind::Json), &bytes).map(Cow::into_owned);
                return Some(Cow::Owned(json.unwrap_or_else(|_| base64_string(&bytes))));
            }
            Err(_) => {
                self.found.add(
                    at("data_base64"),
                    "value_error",
                    "Input should be standard base64, padded with =",
                );
            }
        }
        None
    }

    /// Notes attributes that each event must have and this one lacks.
    fn check_required(
        &mut self,
        before: usize,
        attributes: &Attributes<'_>,
        at: impl Fn(&'static str) -> Vec<Loc>,
    ) {
        let required = [
            ("specversion", &attributes.specversion),
            ("id", &attributes.id),
            ("source", &attributes.source),
            ("type", &attributes.kind),
        ];
        for (name, value) in required {
            let loc = at(name);
            let is_known = self.found.faults[before..].iter().any(|(_, fault)| fault.loc == loc);
            match value.as_deref() {
                None if !is_known => self.found.add(loc, "missing", "Field required"),
                Some("") => {
                    self.found.add(loc, "string_too_short", "A CloudEvent's attribute must not be empty");
                }
                _ => {}
            }
        }
        if attributes.specversion.as_deref().is_some_and(|version| !version.is_empty() && version != "1.0") {
            self.found.add(at("specversion"), "literal_error", "Input should be '1.0'");
        }
    }

    /// Adds the event, if nothing was found wrong with it since there were `before` faults.
    fn take(
        &mut self,
        before: usize,
        attributes: &Attributes<'_>,
        data: Option<&str>,
        at: impl Fn(&'static str) -> Vec<Loc>,
        data_at: Vec<Loc>,
    ) {
        self.check_required(before, attributes, &at);
        let text = |value: &Option<Cow<'_, str>>| value.as_deref().unwrap_or_default().to_owned();
        let (id, source) = (text(&attributes.id), text(&attributes.source));
        let topic = self.options.topic.clone().unwrap_or_else(|| text(&attributes.kind));
        let time = attributes.time.as_deref().unwrap_or(&self.arrival).to_owned();
        let event_id = if self.options.dedup_source { format!("{source} {id}") } else { id };
        if self.options.dedup_source && source.contains(' ') {
            let msg = "With dedup=source the source must hold no blank: a URI reference has none";
            self.found.add(at("source"), "value_error", msg);
        }
        // Empty and absent ones were told above.
        for (name, value, check) in [
            ("type", &topic, event::check_topic as fn(&str) -> Result<(), event::Fault>),
            ("id", &event_id, event::check_event_id),
            ("source", &source, event::check_source),
            ("time", &time, check_time),
        ] {
            if let Err(found) = check(value)
                && (!value.is_empty() || name == "time")
            {
                self.found.add(at(name), found.kind, found.message);
            }
        }
        if self.found.faults.len() > before {
            return;
        }
        let Ok(time) = timestamp::keep(&time) else { return };
        match self.builder.push(&topic, &event_id, &time, &source, data.unwrap_or(PAYLOAD_ABSENT)) {
            Ok(()) => self.indexes.push(self.found.index),
            Err(found) => {
                let loc = if found.field == Field::Payload { data_at } else { at(found.field.name()) };
                self.found.add(loc, found.kind, found.message);
            }
        }
    }
}

fn check_time(text: &str) -> Result<(), event::Fault> {
    timestamp::keep(text).and_then(|kept| timestamp::check(&kept))
}
