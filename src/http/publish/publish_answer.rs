//! The answer to a publish: counts, results, and what was refused.

use std::io::Write;

use crate::event::Batch;
use crate::http::wire::json::{push_number, push_string};
use crate::http::wire::problem::{Fault, Loc, push_fault};
use crate::limits::FAULTS_LISTED_MAX;
use crate::store::{Outcome, Status};

/// What an entry of the results takes beside the names of its event.
pub(crate) const RESULT_BYTES: usize = 160;

/// What became of events, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stored: u64,
    /// Conflicts among them.
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
}

impl Counts {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            match outcome.status {
                Status::Stored => counts.stored += 1,
                Status::Duplicate => counts.duplicates += 1,
                Status::Conflict => {
                    counts.duplicates += 1;
                    counts.conflicts += 1;
                }
            }
        }
        counts
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
    }

    /// Appends the members of the contract, without braces.
    pub(crate) fn write_to(self, body: &mut Vec<u8>) {
        for (name, count) in [
            (&b"\"received\":"[..], self.stored + self.duplicates),
            (b",\"unique_processed\":", self.stored),
            (b",\"duplicate_dropped\":", self.duplicates),
            (b",\"conflicts\":", self.conflicts),
        ] {
            body.extend_from_slice(name);
            push_number(body, count);
        }
    }
}

/// Appends the list of results. `indexes` are those of the events in the body, if they differ from
/// those in the batch.
pub(crate) fn push_results(
    body: &mut Vec<u8>,
    batch: &Batch,
    outcomes: &[Outcome],
    indexes: Option<&[usize]>,
) {
    body.push(b'[');
    for (at, (event, outcome)) in batch.iter().zip(outcomes).enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let index = indexes.and_then(|indexes| indexes.get(at)).copied().unwrap_or(at);
        let status = match outcome.status {
            Status::Stored => "stored",
            Status::Duplicate => "duplicate",
            Status::Conflict => "conflict",
        };
        body.extend_from_slice(b"{\"index\":");
        push_number(body, index as u64);
        body.extend_from_slice(b",\"topic\":");
        push_field(body, event.topic);
        body.extend_from_slice(b",\"event_id\":");
        push_field(body, event.event_id);
        body.extend_from_slice(b",\"status\":\"");
        body.extend_from_slice(status.as_bytes());
        body.extend_from_slice(b"\",\"offset\":");
        push_number(body, outcome.offset);
        body.extend_from_slice(b",\"first_seen\":\"");
        outcome.first_seen.write_to(body);
        body.extend_from_slice(b"\"}");
    }
    body.push(b']');
}

/// Appends a topic or an id as a JSON string: they hold no control characters.
fn push_field(body: &mut Vec<u8>, field: &[u8]) {
    if memchr::memchr2(b'"', b'\\', field).is_some() {
        return push_string(body, &String::from_utf8_lossy(field));
    }
    body.push(b'"');
    body.extend_from_slice(field);
    body.push(b'"');
}

/// Appends `rejected` and the list of errors, without braces. `name` is that of the number beside
/// each: its index or line.
pub(crate) fn push_errors(body: &mut Vec<u8>, name: &str, rejected: u64, errors: &[(usize, Fault)]) {
    // A Vec takes all that is written.
    let _ = write!(body, r#","rejected":{rejected},"errors":["#);
    for (at, (number, fault)) in errors.iter().take(FAULTS_LISTED_MAX).enumerate() {
        let _ = write!(body, r#"{}{{"{name}":{number},"#, if at > 0 { "," } else { "" });
        push_fault(body, fault);
    }
    body.push(b']');
}

/// The fault that a conflict is where a sender asks for that; `loc` is that of its event.
pub(crate) fn conflict(loc: Vec<Loc>) -> Fault {
    let msg = "Another payload is stored under this id; the first one stays".to_owned();
    Fault { loc, msg, kind: "conflict" }
}
