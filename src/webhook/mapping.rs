//! From a genuine delivery to events.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::content::{Content, elements, push_exactly, string};
use super::delivery::Delivery;
use super::look::{Look, hex_sha256};
use super::template::{Absent, Template};
use crate::clock::Timestamp;
use crate::event::{Batch, BatchBuilder, Fault, Field};
use crate::limits::LISTED_EVENTS_MAX;

/// Why a genuine delivery is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// The delivery has nothing for this placeholder.
    Absent(Field, String),
    /// Nor could it: its body is neither JSON nor a form.
    Opaque(Field, String),
    /// A field is none that an event may have.
    Invalid(Fault),
    /// The body is no list of events.
    NoList,
}

impl Unmapped {
    /// Whether it is larger than an event may be.
    pub fn is_size(&self) -> bool {
        matches!(self, Self::Invalid(Fault { kind: "payload_too_large", .. }))
    }

    /// The field of an event that can't be made.
    pub fn field(&self) -> Field {
        match self {
            Self::Absent(field, _) | Self::Opaque(field, _) => *field,
            Self::Invalid(fault) => fault.field,
            Self::NoList => Field::Payload,
        }
    }
}

impl std::fmt::Display for Unmapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent(field, place) => {
                write!(f, "there is no {place}, of which the {} is made", field.name())
            }
            Self::Opaque(field, place) => write!(
                f,
                "the body is neither JSON nor a form, so it has no {place}, of which the {} is made",
                field.name()
            ),
            Self::Invalid(fault) => f.write_str(fault.message),
            Self::NoList => write!(f, "the body is no JSON array of at most {LISTED_EVENTS_MAX} events"),
        }
    }
}

/// How a source's deliveries become events.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) topic: Template,
    pub(super) event_id: Template,
    /// Topic and id of deliveries that have nothing for the first ones.
    pub(super) other: Option<(Template, Template)>,
    pub(super) timestamp: Option<Template>,
    /// Headers that are kept, in lower case.
    pub(super) headers: Vec<String>,
    /// The body is a list of events.
    pub(super) is_list: bool,
}

impl Mapping {
    /// The events of a delivery to the source of this name.
    pub(super) fn events(
        &self,
        delivery: Delivery<'_>,
        source: &str,
        arrival: Timestamp,
    ) -> Result<Batch, Unmapped> {
        let mut builder = BatchBuilder::new(delivery.body.clone());
        let whole = Look::new(delivery, source);
        if !self.is_list {
            self.push(&mut builder, &whole, arrival)?;
            return Ok(builder.finish());
        }
        let Content::Json(text) = whole.content() else { return Err(Unmapped::NoList) };
        let events =
            elements(text, LISTED_EVENTS_MAX).filter(|events| !events.is_empty()).ok_or(Unmapped::NoList)?;
        for event in events {
            let body = delivery.body.slice_ref(event.as_bytes());
            self.push(&mut builder, &Look::new(Delivery { body: &body, ..delivery }, source), arrival)?;
        }
        Ok(builder.finish())
    }

    /// Takes one event.
    fn push(&self, builder: &mut BatchBuilder, look: &Look<'_>, arrival: Timestamp) -> Result<(), Unmapped> {
        let is_opaque = |place: &str| place.starts_with("{body.") && look.content().is_opaque();
        let text = |field, template| {
            look.text(template).map_err(|Absent(place)| match is_opaque(&place) {
                true => Unmapped::Opaque(field, place),
                false => Unmapped::Absent(field, place),
            })
        };
        let (topic, event_id) = self.fitting(look);
        let (topic, event_id) = (text(Field::Topic, topic)?, text(Field::EventId, event_id)?);
        let timestamp = self.timestamp.as_ref().and_then(|template| time(&look.text(template).ok()?));
        let timestamp = timestamp.unwrap_or_else(|| arrival.to_string());
        let envelope;
        let payload: &str = match look.content() {
            Content::Json(text) if self.headers.is_empty() => text,
            content => {
                envelope = self.envelope(look, content);
                &envelope
            }
        };
        builder.push(&topic, &event_id, &timestamp, look.source, payload).map_err(Unmapped::Invalid)
    }

    /// The templates of topic and id that are for a delivery.
    fn fitting(&self, look: &Look<'_>) -> (&Template, &Template) {
        let is_made = |template| look.text(template).is_ok();
        match &self.other {
            Some((topic, event_id)) if !is_made(&self.topic) && is_made(topic) && is_made(event_id) => {
                (topic, event_id)
            }
            _ => (&self.topic, &self.event_id),
        }
    }

    fn envelope(&self, look: &Look<'_>, content: &Content<'_>) -> String {
        let mut envelope = self.opened(&look.delivery);
        content.push_member(&mut envelope);
        envelope.push('}');
        envelope
    }

    /// The event that a delivery becomes in a quarantine: the body exactly, the headers that are
    /// kept, and why it is there.
    pub(super) fn quarantined(
        &self,
        delivery: Delivery<'_>,
        source: &str,
        topic: &str,
        why: &Unmapped,
        arrival: Timestamp,
    ) -> Result<Batch, Unmapped> {
        let mut envelope = self.opened(&delivery);
        envelope.extend([",\"reason\":", &string(&why.to_string())]);
        push_exactly(delivery.body, &mut envelope);
        envelope.push('}');
        let mut builder = BatchBuilder::new(Bytes::new());
        let event_id = self.digest(&delivery);
        builder.push(topic, &event_id, &arrival.to_string(), source, &envelope).map_err(Unmapped::Invalid)?;
        Ok(builder.finish())
    }

    /// The id of a delivery that has none, so that it is stored once however often it comes. It is
    /// made of all that tells deliveries apart: the body and its type, the query, the headers that
    /// are kept, and those that topic and id are made of.
    fn digest(&self, delivery: &Delivery<'_>) -> String {
        let made_of = self.topic.headers().chain(self.event_id.headers());
        let names = self.headers.iter().map(String::as_str).chain(made_of).chain(["content-type"]);
        let headers: BTreeMap<_, _> = names.map(|name| (name, delivery.whole_header(name))).collect();
        let beside = serde_json::json!([headers, delivery.query]).to_string();
        hex_sha256(&[beside.as_bytes(), delivery.body].concat())
    }

    /// The beginning of an envelope.
    fn opened(&self, delivery: &Delivery<'_>) -> String {
        let content_type = string(delivery.header("content-type").unwrap_or_default());
        let mut envelope = format!("{{\"content_type\":{content_type}");
        if !self.headers.is_empty() {
            let kept = self.headers.iter().filter_map(|name| {
                let value = delivery.whole_header(name)?;
                Some(format!("{}:{}", string(name), string(&value)))
            });
            envelope.extend([",\"headers\":{", &kept.collect::<Vec<_>>().join(","), "}"]);
        }
        envelope
    }
}

/// A time as events have it: a date-time as it was written, a Unix time as a date-time.
fn time(text: &str) -> Option<String> {
    match Timestamp::from_unix(text) {
        Some(at) => Some(at.to_string()),
        None => crate::event::timestamp::check(text).ok().map(|()| text.to_owned()),
    }
}
