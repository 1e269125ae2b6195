//! What a user sets, and what the store reaches the world through.

use std::path::PathBuf;
use std::sync::Arc;

use super::generation::index::Indexes;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::metrics::Metrics;

/// What a user sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the store lies.
    pub data_dir: PathBuf,
    /// Refuse to make a new store.
    pub must_exist: bool,
    /// Threads that decide; at least 1. May change from start to start.
    pub workers: usize,
    /// Events at which a generation is full.
    pub generation_events: u64,
    /// Journal bytes at which a generation is full.
    pub generation_bytes: u64,
    /// Most topics.
    pub topics_max: usize,
}

/// What the store reaches the world through.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The live index.
    pub indexes: Arc<dyn Indexes>,
    /// Where commits and rebuilds are counted.
    pub metrics: Metrics,
}
