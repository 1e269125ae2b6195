//! JSON that is written by hand, member by member.

use crate::event::timestamp;
use crate::store::StoredEvent;

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and a Vec takes all that is written.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a string, or `null`.
pub(crate) fn push_optional(body: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_string(body, text),
        None => body.extend_from_slice(b"null"),
    }
}

/// Appends an event, as every answer shows it.
pub(crate) fn push_event(body: &mut Vec<u8>, event: &StoredEvent) {
    body.extend_from_slice(b"{\"topic\":");
    push_string(body, &event.topic);
    body.extend_from_slice(b",\"event_id\":");
    push_string(body, &event.event_id);
    body.extend_from_slice(b",\"timestamp\":");
    timestamp::push_json(&event.timestamp, body);
    body.extend_from_slice(b",\"source\":");
    push_string(body, &event.source);
    body.extend_from_slice(b",\"payload\":");
    body.extend_from_slice(event.payload.as_bytes());
    body.extend_from_slice(b",\"offset\":");
    push_number(body, event.offset);
    body.extend_from_slice(b",\"received_at\":\"");
    event.received_at.write_to(body);
    body.extend_from_slice(b"\"}");
}
