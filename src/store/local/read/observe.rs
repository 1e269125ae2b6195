//! Figures of the store that are read when somebody asks for them.

use crate::metrics::{
    DISK_FREE, DISK_RESERVE, GENERATIONS, JOURNAL_BYTES, LAG, QUEUE, READY, REBUILDING, STORED, TOPIC_EVENTS,
    TOPICS, TOPICS_MOST,
};
use crate::store::local::shared::Shared;
use crate::store::{Condition, Disk, Journals, Promise, Totals};

/// Brings them up to date.
pub(crate) fn observe(shared: &Shared, is_ready: bool) {
    let metrics = &shared.seams.metrics;
    metrics.set(READY, &[], f64::from(u8::from(is_ready)));
    for (number, queue) in shared.queues.iter().enumerate() {
        metrics.set(QUEUE, &[("worker", &number.to_string())], queue.len() as f64);
    }
    let journals = journals(shared);
    metrics.set(LAG, &[], journals.lag_events as f64);
    metrics.set(GENERATIONS, &[("state", "sealed")], journals.sealed_generations as f64);
    metrics.set(GENERATIONS, &[("state", "open")], journals.open_generations as f64);
    metrics.set(REBUILDING, &[], journals.rebuilding as f64);
    metrics.set(JOURNAL_BYTES, &[], journals.bytes as f64);
    // A disk that does not tell has told something before, or shows nothing.
    if let Some(Disk { free_bytes, reserve_bytes }) = disk(shared) {
        metrics.set(DISK_FREE, &[], free_bytes as f64);
        metrics.set(DISK_RESERVE, &[], reserve_bytes as f64);
    }
    observe_topics(shared, shared.topics.totals());
}

/// How the store is.
pub(crate) fn condition(shared: &Shared) -> Condition {
    Condition {
        totals: shared.topics.totals(),
        promise: Promise::Disk,
        disk: disk(shared),
        journals: Some(journals(shared)),
    }
}

fn disk(shared: &Shared) -> Option<Disk> {
    let (free_bytes, reserve_bytes) = shared.preallocation.free().ok()?;
    Some(Disk { free_bytes, reserve_bytes })
}

fn journals(shared: &Shared) -> Journals {
    let generations = shared.generations();
    let sealed = generations.iter().filter(|generation| generation.is_sealed()).count();
    Journals {
        bytes: generations.iter().map(|generation| generation.end()).sum(),
        lag_events: shared.lag.claims(),
        open_generations: generations.len() - sealed,
        sealed_generations: sealed,
        rebuilding: generations.iter().filter(|generation| generation.is_doubtful()).count(),
    }
}

/// The first topics that were made have figures of their own; the others share one without a name,
/// as no topic has.
fn observe_topics(shared: &Shared, totals: Totals) {
    shared.seams.metrics.set(TOPICS, &[], shared.topics.holding() as f64);
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
