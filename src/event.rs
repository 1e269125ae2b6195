//! Events as they come in: checked once, then kept as spans of the body they came in.
//!
//! A [`Batch`] owns the body of a request and says of each event where its fields lie, so that an
//! event is copied once, into the journal's frame. A batch holds only events that passed
//! [`BatchBuilder::push`].

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::limits::{
    EVENT_BYTES_MAX, EVENT_ID_BYTES_MAX, PAYLOAD_DEPTH_MAX, SOURCE_BYTES_MAX, TOPIC_BYTES_MAX,
};

mod fault;
pub mod pattern;
pub mod timestamp;

use self::fault::fault;
pub use self::fault::{Fault, Field};

/// The payload of an event that came without one.
pub const PAYLOAD_ABSENT: &str = "{}";

/// The fields of an event, borrowed. All but `digest` are UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// 1–255 bytes without control characters.
    pub topic: &'a [u8],
    /// 1–256 bytes without control characters.
    pub event_id: &'a [u8],
    /// A date-time, a date or a Unix time, as [`timestamp`] keeps it.
    pub timestamp: &'a [u8],
    /// 0–255 bytes without control characters.
    pub source: &'a [u8],
    /// One JSON value, as it came.
    pub payload: &'a [u8],
    /// xxh3-128 (seed 0, little-endian) of the payload without insignificant whitespace.
    pub digest: [u8; 16],
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Spans {
    topic: Span,
    event_id: Span,
    timestamp: Span,
    source: Span,
    payload: Span,
    digest: [u8; 16],
}

/// Checked events of one request, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    body: Bytes,
    /// Fields that do not lie in the body as they are (JSON escapes); their spans begin at
    /// `body.len()`.
    extra: Vec<u8>,
    events: Vec<Spans>,
}

impl Batch {
    /// The number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes held by the batch, for admission.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.extra.len() + self.events.len() * size_of::<Spans>()
    }

    /// The event at `index`, counted from 0.
    ///
    /// # Panics
    /// If `index` is not below [`Batch::len`].
    #[inline]
    pub fn get(&self, index: usize) -> EventRef<'_> {
        let spans = &self.events[index];
        EventRef {
            topic: self.slice(spans.topic),
            event_id: self.slice(spans.event_id),
            timestamp: self.slice(spans.timestamp),
            source: self.slice(spans.source),
            payload: self.slice(spans.payload),
            digest: spans.digest,
        }
    }

    /// All events, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = EventRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Keeps the events for which `keep` says so, which is told their indexes too.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, EventRef<'_>) -> bool) {
        let kept: Vec<bool> = self.iter().enumerate().map(|(index, event)| keep(index, event)).collect();
        let mut kept = kept.into_iter();
        self.events.retain(|_| kept.next().unwrap_or_default());
    }

    #[inline]
    fn slice(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        match start.checked_sub(self.body.len()) {
            None => &self.body[start..start + len],
            Some(start) => &self.extra[start..start + len],
        }
    }
}

/// Checks events and collects them into a [`Batch`].
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: Batch,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// Collects events whose fields mostly lie in `body`.
    pub fn new(body: Bytes) -> Self {
        Self { batch: Batch { body, extra: Vec::new(), events: Vec::new() }, scratch: Vec::new() }
    }

    /// The number of events that were taken.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether no event was taken.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Takes one event; `timestamp` is as [`timestamp`] keeps it, `payload` the text of one valid
    /// JSON value. Fields that are slices of the body are not copied.
    ///
    /// # Errors
    /// The first fault of the event, which is then not taken.
    pub fn push(
        &mut self,
        topic: &str,
        event_id: &str,
        timestamp: &str,
        source: &str,
        payload: &str,
    ) -> Result<(), Fault> {
        check_topic(topic)?;
        check_event_id(event_id)?;
        timestamp::check(timestamp)?;
        check_source(source)?;
        let digest = check_payload(payload, &mut self.scratch)?;
        let spans = Spans {
            topic: self.span(topic),
            event_id: self.span(event_id),
            timestamp: self.span(timestamp),
            source: self.span(source),
            payload: self.span(payload),
            digest,
        };
        self.batch.events.push(spans);
        Ok(())
    }

    /// The batch of all events that were taken.
    pub fn finish(self) -> Batch {
        self.batch
    }

    /// Where `text` lies in the body; appended to `extra` if it doesn't.
    fn span(&mut self, text: &str) -> Span {
        let body = &self.batch.body;
        let start = (text.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        let inside = start <= body.len() && text.len() <= body.len() - start;
        let start = if inside {
            start
        } else {
            let start = body.len() + self.batch.extra.len();
            self.batch.extra.extend_from_slice(text.as_bytes());
            start
        };
        Span { start: start as u32, len: text.len() as u32 }
    }
}

/// Checks a topic.
///
/// # Errors
/// It is empty, too long, or holds control characters.
pub fn check_topic(text: &str) -> Result<(), Fault> {
    match text.len() {
        0 => return Err(fault(Field::Topic, "string_too_short", "topic must not be empty")),
        1..=TOPIC_BYTES_MAX => {}
        _ => {
            return Err(fault(Field::Topic, "string_too_long", "topic must have at most 255 bytes of UTF-8"));
        }
    }
    check_controls(text, Field::Topic, "topic must not hold control characters")
}

/// Checks an event id.
///
/// # Errors
/// It is empty, too long, or holds control characters.
pub fn check_event_id(text: &str) -> Result<(), Fault> {
    match text.len() {
        0 => return Err(fault(Field::EventId, "string_too_short", "event_id must not be empty")),
        1..=EVENT_ID_BYTES_MAX => {}
        _ => {
            let message = "event_id must have at most 256 bytes of UTF-8";
            return Err(fault(Field::EventId, "string_too_long", message));
        }
    }
    check_controls(text, Field::EventId, "event_id must not hold control characters")
}

/// Checks a source.
///
/// # Errors
/// It is too long, or holds control characters.
pub fn check_source(text: &str) -> Result<(), Fault> {
    if text.len() > SOURCE_BYTES_MAX {
        return Err(fault(Field::Source, "string_too_long", "source must have at most 255 bytes of UTF-8"));
    }
    check_controls(text, Field::Source, "source must not hold control characters")
}

/// C0, DEL and C1, as in Unicode's category Cc.
fn check_controls(text: &str, field: Field, message: &'static str) -> Result<(), Fault> {
    // All bytes are looked at alike, which a processor does sixteen at a time.
    let is_suspect = |byte: u8| byte < b' ' || byte == 0x7f || byte == 0xc2;
    let is_plain = !text.bytes().fold(false, |is, byte| is | is_suspect(byte));
    if is_plain || !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(fault(field, "string_control_character", message))
    }
}

/// The digest of a payload (see [`EventRef::digest`]); `scratch` is overwritten. `raw` is one valid
/// JSON value.
///
/// # Errors
/// If it is too large or nested too deep.
pub fn check_payload(raw: &str, scratch: &mut Vec<u8>) -> Result<[u8; 16], Fault> {
    if raw.len() > EVENT_BYTES_MAX {
        return Err(fault(Field::Payload, "payload_too_large", "payload must have at most 1 MiB"));
    }
    let bytes = raw.as_bytes();
    if is_plain(bytes) {
        return Ok(xxh3_128(bytes).to_le_bytes());
    }
    scratch.clear();
    let (mut depth, mut at, mut kept) = (0usize, 0usize, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at + 1);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > PAYLOAD_DEPTH_MAX {
                    let message = "payload must not be nested deeper than 64";
                    return Err(fault(Field::Payload, "recursion_limit", message));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' | b'\n' | b'\r' | b'\t' => {
                scratch.extend_from_slice(&bytes[kept..at]);
                kept = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let canonical = if kept == 0 {
        bytes
    } else {
        scratch.extend_from_slice(&bytes[kept..]);
        scratch
    };
    Ok(xxh3_128(canonical).to_le_bytes())
}

/// Whether there is no white space, no escape, and too little of brackets to be nested too deep:
/// nothing that [`check_payload`] would look for. All bytes are looked at alike, which a processor
/// does sixteen at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let mut opening = 0;
    bytes.chunks(usize::from(u8::MAX)).all(|chunk| {
        let (mut is_other, mut brackets) = (false, 0u8);
        for byte in chunk {
            is_other |= *byte <= b' ' || *byte == b'\\';
            // `{` and `[` differ in this bit alone.
            brackets += u8::from(byte | 0x20 == b'{');
        }
        opening += usize::from(brackets);
        !is_other && opening <= PAYLOAD_DEPTH_MAX
    })
}

/// The offset after the closing quote of the string whose first byte is at `at`. An escape of half
/// a surrogate pair is an escape like any other: JavaScript writes it for a text that was cut, and
/// the payload is kept byte for byte.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(step) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += step;
        if bytes[at] == b'"' {
            return at + 1;
        }
        // Of `\uXXXX` the rest is digits.
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(raw: &str) -> Result<[u8; 16], Fault> {
        check_payload(raw, &mut Vec::new())
    }

    #[test]
    fn whitespace_between_tokens_does_not_change_the_digest_but_whitespace_in_strings_does() {
        let a = digest(r#"{"a":[1,2,"x y"],"b":"\" {"}"#);
        assert_eq!(a, digest("{ \"a\" : [ 1,\n2,\t\"x y\"],\r\n\"b\":\"\\\" {\" } "));
        assert_ne!(a, digest(r#"{"a":[1,2,"xy"],"b":"\" {"}"#));
        assert_ne!(digest("1"), digest("1.0"));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let text = "[a-z \\n\"\\\\{}\\[\\]é😀]{0,12}";
        let leaf = prop_oneof![any::<i32>().prop_map(Into::into), text.prop_map(Into::into)];
        leaf.prop_recursive(8, 128, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(text, inner, 0..8)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_has_one_digest_however_it_is_laid_out(value in json()) {
            let compact = serde_json::to_string(&value).unwrap();
            let canonical = Ok(xxh3_128(compact.as_bytes()).to_le_bytes());
            prop_assert_eq!(digest(&compact), canonical);
            prop_assert_eq!(digest(&serde_json::to_string_pretty(&value).unwrap()), canonical);
            prop_assert_eq!(digest(&format!("\r\n{compact}\t")), canonical);
        }
    }

    #[test]
    fn nesting_up_to_64_is_taken_and_65_is_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(digest(&nested(64)).is_ok());
        assert!(digest(&format!("[{}]", vec!["[[]]"; 300].join(","))).is_ok(), "many beside each other");
        assert_eq!(digest(&nested(65)).unwrap_err().kind, "recursion_limit");
        assert_eq!(digest(&nested(10_000)).unwrap_err().kind, "recursion_limit");
        assert!(digest(&format!("\"{}\"", "[".repeat(100))).is_ok(), "brackets in a string are text");
    }

    #[test]
    fn escapes_are_taken_as_they_are_and_end_no_string() {
        for raw in [
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            r#"{"\uD83D":1}"#,
            r#""\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\u00e9\"\\""#,
        ] {
            assert_eq!(digest(raw), Ok(xxh3_128(raw.as_bytes()).to_le_bytes()), "{raw}");
            assert_eq!(digest(&format!(" {raw} ")), digest(raw), "{raw}");
        }
    }

    #[test]
    fn fields_are_bounded_and_hold_no_control_characters() {
        assert!(check_topic("é".repeat(127).as_str()).is_ok());
        assert!(check_topic(&"x".repeat(256)).is_err());
        assert!(check_topic("").is_err());
        assert!(check_event_id(&"x".repeat(256)).is_ok());
        assert!(check_event_id(&"x".repeat(257)).is_err());
        assert!(check_source("").is_ok());
        for control in ["a\0b", "a\nb", "\u{7f}", "\u{85}"] {
            assert!(check_topic(control).is_err());
            assert!(check_event_id(control).is_err());
            assert!(check_source(control).is_err());
        }
        assert!(check_topic("£ ¢ Â").is_ok(), "0xc2 begins other characters too");
    }

    #[test]
    fn a_batch_gives_back_fields_from_the_body_and_from_outside_of_it() {
        let body = Bytes::from_static(b"topic-in-body {\"a\":1}");
        let text = std::str::from_utf8(&body).unwrap();
        let mut builder = BatchBuilder::new(body.clone());
        let owned = String::from("decoded \" id");
        builder.push(&text[..13], &owned, "2026-11-22T10:00:00Z", "", &text[14..]).unwrap();
        let batch = builder.finish();
        let event = batch.get(0);
        assert_eq!(event.topic, b"topic-in-body");
        assert_eq!(event.event_id, b"decoded \" id");
        assert_eq!(event.source, b"");
        assert_eq!(event.payload, b"{\"a\":1}");
    }
}
