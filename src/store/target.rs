//! The seam of a store that is filled with what another one has.

use super::{EventStore, StoredEvent, TopicStats};
use crate::error::{Error, ErrorKind, Result};
use crate::event::BatchBuilder;

/// A store that is being filled.
pub trait Target {
    /// What reads it back.
    type Store: EventStore;

    /// Adds the events that it does not have yet, durably, each at its offset and with its time of
    /// arrival. In each topic they come in order.
    ///
    /// # Errors
    /// `Unusable`, `Unsupported`: it can't take them. `Overloaded`, `Unsure`, `NoSpace`,
    /// `Stopping`: the move can be begun again.
    fn add(&mut self, events: &[StoredEvent]) -> impl Future<Output = Result<()>>;

    /// Sets the counts of these topics, whose events it has.
    ///
    /// # Errors
    /// As for [`Target::add`].
    fn count(&mut self, topics: &[TopicStats]) -> impl Future<Output = Result<()>>;

    /// Sets how many events were refused as invalid, once all topics are counted.
    ///
    /// # Errors
    /// As for [`Target::add`].
    fn count_rejected(&mut self, rejected: u64) -> impl Future<Output = Result<()>>;

    /// What it has, to be compared.
    ///
    /// # Errors
    /// As for [`Target::add`].
    fn store(&mut self) -> impl Future<Output = Result<&Self::Store>>;
}

/// Whether a topic that has all before `next_offset` lacks an event.
///
/// # Errors
/// `Unsupported` if one before it is missing: a target gives offsets without gaps.
pub(crate) fn is_new(event: &StoredEvent, next_offset: u64) -> Result<bool> {
    if event.offset > next_offset {
        let message = format!(
            "topic {:?} lacks the events from offset {next_offset} to {}, which a repair has given up: another store \
             can't have such a hole",
            event.topic,
            event.offset - 1
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(event.offset == next_offset)
}

/// Adds an event of the source to a batch.
///
/// # Errors
/// `Corrupt`: it is not valid.
pub(crate) fn push(batch: &mut BatchBuilder, event: &StoredEvent) -> Result<()> {
    // All fields are named, so that a new one can't be left out.
    let StoredEvent { topic, event_id, timestamp, source, payload, offset: _, received_at: _ } = event;
    batch.push(topic, event_id, timestamp, source, payload).map_err(|fault| {
        let message = format!("event {event_id:?} of topic {topic:?} is not valid: {}", fault.message);
        Error::new(ErrorKind::Corrupt, message)
    })
}
