//! Why an event can't be taken.

/// The field of an event that a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the API")]
pub enum Field {
    Topic,
    EventId,
    Timestamp,
    Source,
    Payload,
}

impl Field {
    /// The field's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Timestamp => "timestamp",
            Self::Source => "source",
            Self::Payload => "payload",
        }
    }
}

/// Why an event can't be taken: the first field at fault, and a sentence that says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field at fault.
    pub field: Field,
    /// A sentence for a person; never holds what was sent.
    pub message: &'static str,
    /// A stable word for programs, in the manner of pydantic's error types.
    pub kind: &'static str,
}

/// A fault from its parts.
pub(super) fn fault(field: Field, kind: &'static str, message: &'static str) -> Fault {
    Fault { field, message, kind }
}
