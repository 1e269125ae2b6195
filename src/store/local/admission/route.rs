//! The router: which worker decides an event, and a batch cut into jobs for them.

use smallvec::{SmallVec, smallvec};

use super::job::{Item, Items, JOB_BYTES, record_bytes};
use crate::event::Batch;
use crate::store::local::format::hash::Secret;

/// The worker of a topic with this hash.
pub(crate) fn route(topic: u128, workers: usize) -> usize {
    ((topic >> 64) as u64 % workers.max(1) as u64) as usize
}

/// Events of a batch that go to one worker at once.
pub(crate) struct Part {
    pub(crate) worker: usize,
    pub(crate) items: Items,
    /// Most bytes that they take in a frame.
    pub(crate) bytes: u64,
}

/// The events of a batch by worker, in jobs of bounded size, in order of the workers.
pub(crate) fn split(secret: &Secret, workers: usize, batch: &Batch) -> SmallVec<[Part; 1]> {
    let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
    // The last part of each worker.
    let mut open: SmallVec<[Option<usize>; 8]> = smallvec![None; workers];
    let mut last: Option<(&[u8], u128)> = None;
    for (index, event) in batch.iter().enumerate() {
        let topic = match last {
            Some((name, hash)) if name == event.topic => hash,
            _ => secret.topic(event.topic),
        };
        last = Some((event.topic, topic));
        let item = Item { index: index as u32, event: secret.event(event.topic, event.event_id), topic };
        let worker = route(topic, workers);
        let bytes = record_bytes(&event);
        match open[worker].and_then(|part| parts.get_mut(part)) {
            Some(part) if part.bytes + bytes <= JOB_BYTES => {
                part.bytes += bytes;
                part.items.push(item);
            }
            _ => {
                open[worker] = Some(parts.len());
                let mut items = Items::with_capacity((batch.len() - index).div_ceil(workers));
                items.push(item);
                parts.push(Part { worker, items, bytes });
            }
        }
    }
    // Stable: a worker's parts stay in order.
    parts.sort_by_key(|part| part.worker);
    parts
}
