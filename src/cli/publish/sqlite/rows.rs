//! What a row of a database becomes: an event, or the reason why it can't be one.

use std::borrow::Cow;
use std::path::Path;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sekali::clock::{Clock, SystemClock, Timestamp};
use sekali::event::BatchBuilder;
use sekali::limits::SOURCE_BYTES_MAX;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::names::{EVENT_ID, FIELDS, PAYLOAD, SOURCE, TIMESTAMP, TOPIC};
use super::schema::{Reading, quoted};

pub(super) const NO_JSON: &str = "payload: it is no JSON, such as what Python prints of a dict; \
     --payload-as-text moves it as a JSON string";
const NO_TIME: &str = "timestamp: the number is no Unix time, in seconds or a smaller unit, of 1973 or later";
/// Numbers of seconds, milliseconds, microseconds and nanoseconds since 1970 don't meet within
/// these bounds.
const UNIX_SECONDS_MIN: f64 = 1e8;
const UNIX_SECONDS_MAX: f64 = 2e10;

/// Why a row can't be moved: a sentence that holds nothing of the row.
pub(super) type Reason = Cow<'static, str>;

/// An event as it is sent; what the row has not is left out, and refused by name.
#[derive(Serialize)]
pub(super) struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_json")]
    payload: Option<Box<RawValue>>,
}

#[allow(clippy::ref_option, reason = "serde's shape")]
fn as_json<S: Serializer>(payload: &Option<Box<RawValue>>, serializer: S) -> Result<S::Ok, S::Error> {
    payload.serialize(serializer)
}

impl Event {
    /// Its topic and its id, if it has both.
    pub(super) fn id(&self) -> Option<(&str, &str)> {
        Some((self.topic.as_deref()?, self.event_id.as_deref()?))
    }

    /// What a service of this version would refuse.
    pub(super) fn check(&self) -> Result<(), Reason> {
        let given = |field: usize, value: &Option<String>| match value {
            Some(value) => Ok(value.clone()),
            None => Err(Reason::from(format!("{}: Field required", FIELDS[field]))),
        };
        let (topic, event_id) = (given(TOPIC, &self.topic)?, given(EVENT_ID, &self.event_id)?);
        let timestamp = given(TIMESTAMP, &self.timestamp)?;
        let payload = self.payload.as_deref().map_or(sekali::event::PAYLOAD_ABSENT, RawValue::get);
        let taken =
            BatchBuilder::new(Bytes::new()).push(&topic, &event_id, &timestamp, &self.source, payload);
        taken.map_err(|fault| format!("{}: {}", fault.field.name(), fault.message).into())
    }
}

/// How rows become events.
#[derive(Debug)]
pub(super) enum Conversion {
    /// A row becomes the event that it holds.
    Events {
        /// Whether a payload that is no JSON becomes a JSON string.
        payload_as_text: bool,
    },
    /// A row becomes an event without payload.
    Ids {
        /// Where the ids come from.
        source: String,
        /// The time of those that have none.
        now: String,
    },
}

impl Conversion {
    pub(super) fn ids(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut source = String::from("sqlite:");
        for c in name.chars().filter(|c| !c.is_control()) {
            if source.len() + c.len_utf8() <= SOURCE_BYTES_MAX {
                source.push(c);
            }
        }
        Self::Ids { source, now: SystemClock.now().to_string() }
    }

    /// The event of a row that [`selection`] has selected.
    pub(super) fn event(&self, row: &Row<'_>) -> rusqlite::Result<Result<Event, Reason>> {
        let values: [ValueRef<'_>; FIELDS.len()] = [
            row.get_ref(1 + TOPIC)?,
            row.get_ref(1 + EVENT_ID)?,
            row.get_ref(1 + TIMESTAMP)?,
            row.get_ref(1 + SOURCE)?,
            row.get_ref(1 + PAYLOAD)?,
        ];
        Ok(self.converted(values))
    }

    fn converted(&self, values: [ValueRef<'_>; FIELDS.len()]) -> Result<Event, Reason> {
        let text = |field: usize| text(field, values[field]);
        let (topic, event_id) = (text(TOPIC)?, text(EVENT_ID)?);
        Ok(match self {
            Self::Events { payload_as_text } => Event {
                topic,
                event_id,
                timestamp: time(values[TIMESTAMP])?,
                source: text(SOURCE)?.unwrap_or_default(),
                payload: text(PAYLOAD)?.map(|text| json(text, *payload_as_text)).transpose()?,
            },
            Self::Ids { source, now } => Event {
                topic,
                event_id,
                // The id is what matters.
                timestamp: time(values[TIMESTAMP]).ok().flatten().filter(is_time).or(Some(now.clone())),
                source: source.clone(),
                payload: Some(RawValue::NULL.to_owned()),
            },
        })
    }
}

/// Selects the number of each row, if the table numbers them, and its fields. `only` bounds which
/// rows.
pub(super) fn selection(database: &Connection, reading: &Reading, only: &str) -> String {
    let fields: Vec<_> = (0..FIELDS.len()).map(|field| reading.moved(field)).collect();
    let select = |number: &str| {
        format!("SELECT {number}, {} FROM {} {only}", fields.join(", "), quoted(&reading.table))
    };
    // Views and tables WITHOUT ROWID have none, and a column may have taken the name.
    let numbered = ["_rowid_", "rowid", "oid"].map(|name| select(&quoted(name)));
    numbered.into_iter().find(|query| database.prepare(query).is_ok()).unwrap_or_else(|| select("NULL"))
}

/// A value as text; `None` if it is NULL.
pub(super) fn text(field: usize, value: ValueRef<'_>) -> Result<Option<String>, Reason> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        ValueRef::Real(number) => Ok(Some(number.to_string())),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            // Mended, it would be another text.
            Err(_) => Err(format!("{}: it is no UTF-8 text", FIELDS[field]).into()),
        },
    }
}

/// A time as it stands there, or of a Unix time, whichever unit it is in, that moment.
fn time(value: ValueRef<'_>) -> Result<Option<String>, Reason> {
    let number = match value {
        ValueRef::Integer(number) => number as f64,
        ValueRef::Real(number) => number,
        value => {
            let text = text(TIMESTAMP, value)?;
            let is_number = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            match text.as_ref().filter(|text| is_number(text)).and_then(|text| text.parse().ok()) {
                Some(number) if number >= UNIX_SECONDS_MIN => number,
                _ => return Ok(text),
            }
        }
    };
    let seconds = [1.0, 1e3, 1e6, 1e9].map(|unit| number / unit).into_iter().find(|n| *n <= UNIX_SECONDS_MAX);
    let seconds = seconds.filter(|seconds| *seconds >= UNIX_SECONDS_MIN).ok_or(NO_TIME)?;
    // A double has microseconds, and not much more.
    Ok(Some(Timestamp((seconds * 1e6).round() as i64).to_string()))
}

#[allow(clippy::ptr_arg, reason = "for filter")]
fn is_time(text: &String) -> bool {
    BatchBuilder::new(Bytes::new()).push("topic", "id", text, "", "null").is_ok()
}

fn json(text: String, is_text_allowed: bool) -> Result<Box<RawValue>, Reason> {
    if serde_json::from_str::<&RawValue>(&text).is_ok() {
        return RawValue::from_string(text).map_err(|_| NO_JSON.into());
    }
    if !is_text_allowed {
        return Err(NO_JSON.into());
    }
    serde_json::value::to_raw_value(&text).map_err(|e| format!("payload: {e}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_time_is_read_in_each_unit_and_any_other_number_is_not() {
        for (value, expected) in [
            (ValueRef::Integer(1_761_000_000), Some("2025-10-20T22:40:00.000000Z")),
            (ValueRef::Integer(1_761_000_000_123), Some("2025-10-20T22:40:00.123000Z")),
            (ValueRef::Integer(1_761_000_000_123_456), Some("2025-10-20T22:40:00.123456Z")),
            (ValueRef::Integer(1_761_000_000_123_456_000), Some("2025-10-20T22:40:00.123456Z")),
            (ValueRef::Real(1_761_000_000.5), Some("2025-10-20T22:40:00.500000Z")),
            (ValueRef::Text(b"1761000000.5"), Some("2025-10-20T22:40:00.500000Z")),
            (ValueRef::Text(b"20251020"), Some("20251020")),
            (ValueRef::Text(b"yesterday"), Some("yesterday")),
            (ValueRef::Null, None),
        ] {
            assert_eq!(time(value).unwrap().as_deref(), expected, "{value:?}");
        }
        let julian_day = ValueRef::Real(2_460_969.444);
        for value in [julian_day, ValueRef::Integer(0), ValueRef::Real(f64::NAN), ValueRef::Real(1e300)] {
            assert_eq!(time(value), Err(NO_TIME.into()), "{value:?}");
        }
    }
}
