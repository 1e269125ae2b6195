//! What is sent: fresh events, events again, conflicts, over names that a careless store would mix
//! up.

use bytes::Bytes;
use fastrand::Rng;
use sekali::event::pattern::{TopicPattern, TopicPatterns};
use sekali::event::{Batch, BatchBuilder};

use super::expected::{Body, Expected, Sent};

/// Topics that run together with their ids when a separator is missing, and names that are not
/// plain.
const TOPICS: [&str; 14] = [
    "t",
    "t1",
    "t11",
    "orders.paid",
    "é",
    "e\u{301}",
    "日本語",
    "😀",
    " ",
    "\"quoted\\\"",
    "a\u{a0}b",
    "\u{feff}",
    "%00",
    "/..",
];
const SOURCES: [&str; 4] = ["", "checkout", "quelle-ü", "s"];
const TIMESTAMPS: [&str; 3] =
    ["2026-11-22T10:00:00Z", "2026-11-22 10:00:00.123456", "1999-12-31T23:59:59+07:00"];

/// A topic.
pub fn topic(rng: &mut Rng) -> String {
    match rng.u8(..20) {
        0 => "x".repeat(rng.usize(250..=255)),
        1..=8 => TOPICS[rng.usize(..3)].into(),
        _ => TOPICS[rng.usize(..TOPICS.len())].into(),
    }
}

/// Patterns that mean some topics.
pub fn some_topics(rng: &mut Rng) -> TopicPatterns {
    let pattern = |rng: &mut Rng| {
        let topic = topic(rng);
        let (chars, is_prefix) = (rng.usize(..4), rng.bool());
        let begin = if is_prefix { topic.chars().take(chars).collect() } else { topic };
        let text = begin.replace('\\', "\\\\").replace('*', "\\*") + if is_prefix { "*" } else { "" };
        text.parse::<TopicPattern>().unwrap()
    };
    (0..rng.usize(1..4)).map(|_| pattern(rng)).collect()
}

/// A source.
pub fn source(rng: &mut Rng) -> String {
    SOURCES[rng.usize(..SOURCES.len())].into()
}

fn body(rng: &mut Rng) -> Body {
    let bytes = match rng.u16(..400) {
        0 => rng.usize(50_000..300_000),
        1..=8 => rng.usize(2_000..30_000),
        _ => rng.usize(..200),
    };
    let payload = match rng.u8(..4) {
        0 => rng.u64(..).to_string(),
        1 => format!("{{\"n\": {}}}", rng.u8(..)),
        _ => {
            let word = format!("{:x}", rng.u64(..));
            format!("[\"{}\"]", word.repeat(1 + bytes / word.len()))
        }
    };
    Body { timestamp: TIMESTAMPS[rng.usize(..TIMESTAMPS.len())].into(), source: source(rng), payload }
}

/// A batch, which may repeat what is in `others`, batches that are sent at the same time.
pub fn batch(rng: &mut Rng, expected: &Expected, others: &[Vec<Sent>]) -> Vec<Sent> {
    let size = match rng.u8(..10) {
        0..=2 => 1,
        3..=7 => rng.usize(1..20),
        8 => rng.usize(20..150),
        _ => rng.usize(..3),
    };
    let one_topic = rng.bool().then(|| topic(rng));
    let mut batch: Vec<Sent> = Vec::with_capacity(size);
    for _ in 0..size {
        let again = match rng.u8(..20) {
            0..=1 if !batch.is_empty() => Some(batch[rng.usize(..batch.len())].clone()),
            2..=4 if !others.is_empty() => {
                let other = &others[rng.usize(..others.len())];
                (!other.is_empty()).then(|| other[rng.usize(..other.len())].clone())
            }
            5..=8 => known(rng, expected),
            _ => None,
        };
        let sent = match again {
            Some(sent) => vary(rng, sent),
            None => {
                let topic = one_topic.clone().unwrap_or_else(|| topic(rng));
                Sent { key: (topic, rng.u32(..3_000).to_string()), body: body(rng) }
            }
        };
        batch.push(sent);
    }
    batch
}

/// Fresh events that fill a disk.
pub fn bulk(rng: &mut Rng) -> Vec<Sent> {
    let payload = |rng: &mut Rng| {
        let words: Vec<String> =
            (0..rng.usize(1..1_000)).map(|_| format!("\"{:x}\"", rng.u128(..))).collect();
        format!("[{}]", words.join(","))
    };
    let event = |rng: &mut Rng| {
        let body = Body { timestamp: TIMESTAMPS[0].into(), source: String::new(), payload: payload(rng) };
        Sent { key: (TOPICS[rng.usize(..3)].into(), format!("bulk-{}", rng.u64(..))), body }
    };
    (0..rng.usize(1..10)).map(|_| event(rng)).collect()
}

/// An event that was sent before: a recent one, or any.
fn known(rng: &mut Rng, expected: &Expected) -> Option<Sent> {
    let events = expected.shown_events();
    let key = if !events.is_empty() && rng.bool() {
        let recent = events.len().min(20);
        let event = &events[events.len() - 1 - rng.usize(..recent)];
        (event.topic.to_string(), event.event_id.to_string())
    } else {
        let count = expected.keys().count();
        expected.keys().nth(rng.usize(..count.max(1)))?.clone()
    };
    let body = expected.body(&key)?.clone();
    Some(Sent { key, body })
}

/// The same event as it is, with whitespace, with another time or source, or as a conflict.
fn vary(rng: &mut Rng, mut sent: Sent) -> Sent {
    match rng.u8(..8) {
        0 | 1 => sent.body = body(rng),
        2 => sent.body.payload.insert(0, ' '),
        3 => sent.body.source = source(rng),
        4 => sent.body.timestamp = TIMESTAMPS[rng.usize(..TIMESTAMPS.len())].into(),
        _ => {}
    }
    sent
}

/// As the store takes it.
pub fn packed(batch: &[Sent]) -> Result<Batch, String> {
    let mut builder = BatchBuilder::new(Bytes::new());
    for Sent { key: (topic, id), body } in batch {
        builder
            .push(topic, id, &body.timestamp, &body.source, &body.payload)
            .map_err(|fault| format!("the model sent an invalid event: {fault:?}"))?;
    }
    Ok(builder.finish())
}
