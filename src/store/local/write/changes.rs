//! Changes of consumers on their way into one frame.
//!
//! Each is held against what the ones before it in the frame leave behind: somebody may
//! acknowledge for a consumer that another has just moved or ended.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::local::admission::job::{Change, Step};
use crate::store::local::format::frame::FrameBuilder;
use crate::store::local::generation::consumers::Consumers;

/// The changes of one frame.
#[derive(Debug, Default)]
pub(super) struct Changes {
    accepted: Vec<Change>,
    /// Bytes reserved for those that are refused.
    unused: u64,
    /// Refused ones wait for the frame too: what they met is in it.
    refused: Vec<(Change, Error)>,
    /// Numbers of consumers that began in this frame, by name; none for one that ended.
    numbers: HashMap<Box<str>, Option<u64>>,
}

impl Changes {
    /// Takes a change, if the consumer is still the one that it was made for.
    pub(super) fn take(&mut self, change: Change, consumers: &Consumers) {
        let known = self.numbers.get(&change.name).copied();
        let number = known.unwrap_or_else(|| consumers.get(&change.name).map(|consumer| consumer.number));
        let expected = match &change.step {
            Step::Begin { replaces, .. } => *replaces,
            Step::End(number) => Some(*number),
            Step::Reach { consumer, .. } => Some(consumer.number),
        };
        if number != expected {
            let message = "the consumer was made, moved or removed meanwhile; look at it again";
            self.unused += change.reserved;
            return self.refused.push((change, Error::new(ErrorKind::Conflict, message)));
        }
        match &change.step {
            Step::Begin { consumer, .. } => {
                self.numbers.insert(change.name.clone(), Some(consumer.number));
            }
            Step::End(_) => {
                self.numbers.insert(change.name.clone(), None);
            }
            Step::Reach { .. } => {}
        }
        self.accepted.push(change);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.refused.is_empty()
    }

    /// Bytes reserved for all of them.
    pub(super) fn reserved(&self) -> u64 {
        self.accepted.iter().map(|change| change.reserved).sum::<u64>() + self.unused
    }

    /// Adds them to a frame.
    pub(super) fn push_to(&self, frame: &mut FrameBuilder) {
        for block in self.accepted.iter().flat_map(|change| &change.blocks) {
            frame.push(block.kind, block.count, &block.body);
        }
    }

    /// They are durable: from here on they count.
    pub(super) fn apply(&self, consumers: &Consumers) {
        for change in &self.accepted {
            match &change.step {
                Step::Begin { consumer, .. } => consumers.begin(Arc::clone(consumer)),
                Step::End(_) => consumers.end(&change.name),
                Step::Reach { consumer, positions } => {
                    consumers.reach(consumer, positions.iter().copied());
                }
            }
        }
    }

    /// Tells those who wait what became of their changes, if `done` says that the frame is durable.
    pub(super) fn answer(self, done: impl Fn() -> Result<()>) {
        for change in self.accepted {
            let _ = change.reply.send(done());
        }
        for (change, refusal) in self.refused {
            let _ = change.reply.send(done().and(Err(refusal)));
        }
    }
}
