//! Figures of the store that are read when somebody asks for them.

use crate::metrics::{
    DISK_FREE, DISK_RESERVE, GENERATIONS, JOURNAL_BYTES, LAG, QUEUE, READY, REBUILDING, STORED, TOPIC_EVENTS,
    TOPICS, TOPICS_MOST,
};
use crate::store::local::shared::Shared;

/// Brings them up to date.
pub(crate) fn observe(shared: &Shared, is_ready: bool) {
    let metrics = &shared.seams.metrics;
    metrics.set(READY, &[], f64::from(u8::from(is_ready)));
    for (number, queue) in shared.queues.iter().enumerate() {
        metrics.set(QUEUE, &[("worker", &number.to_string())], queue.len() as f64);
    }
    metrics.set(LAG, &[], shared.lag.claims() as f64);

    let generations = shared.generations();
    let sealed = generations.iter().filter(|generation| generation.is_sealed()).count();
    metrics.set(GENERATIONS, &[("state", "sealed")], sealed as f64);
    metrics.set(GENERATIONS, &[("state", "open")], (generations.len() - sealed) as f64);
    let doubtful = generations.iter().filter(|generation| generation.is_doubtful()).count();
    metrics.set(REBUILDING, &[], doubtful as f64);
    let bytes: u64 = generations.iter().map(|generation| generation.end()).sum();
    metrics.set(JOURNAL_BYTES, &[], bytes as f64);
    // A disk that does not tell has told something before, or shows nothing.
    if let Ok((free, reserve)) = shared.preallocation.free() {
        metrics.set(DISK_FREE, &[], free as f64);
        metrics.set(DISK_RESERVE, &[], reserve as f64);
    }
    observe_topics(shared);
}

/// The first topics that were made have figures of their own; the others share one without a name,
/// as no topic has.
fn observe_topics(shared: &Shared) {
    let (totals, holding) = (shared.topics.totals(), shared.topics.holding());
    shared.seams.metrics.set(TOPICS, &[], holding as f64);
    shared.seams.metrics.set(TOPICS_MOST, &[], shared.topics.max() as f64);
    shared.seams.metrics.set(STORED, &[], totals.unique_processed as f64);
    let show = |name: &str, stored: u64, duplicates: u64, conflicts: u64| {
        for (outcome, count) in [
            ("stored", stored),
            ("duplicate", duplicates - conflicts.min(duplicates)),
            ("conflict", conflicts),
        ] {
            shared.seams.metrics.set_total(TOPIC_EVENTS, &[("topic", name), ("outcome", outcome)], count);
        }
    };
    // What the named ones have is taken from what all had before: the rest may be behind for a
    // moment, never ahead.
    let (mut stored, mut duplicates, mut conflicts) =
        (totals.unique_processed, totals.duplicate_dropped, totals.conflicts);
    for topic in shared.topics.oldest() {
        let (events, figures) = (topic.events(), topic.figures());
        stored = stored.saturating_sub(events);
        duplicates = duplicates.saturating_sub(figures.duplicates);
        conflicts = conflicts.saturating_sub(figures.conflicts);
        if events > 0 {
            show(&topic.name, events, figures.duplicates, figures.conflicts);
        }
    }
    show("", stored, duplicates, conflicts);
}
