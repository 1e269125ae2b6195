//! How a command opens the store on this machine.

use std::sync::Arc;

use sekali::clock::SystemClock;
use sekali::config::Config;
use sekali::disk::SystemDisk;
use sekali::metrics::Metrics;
use sekali::store::local::index::SledIndexes;
use sekali::store::local::{Options, Seams};

/// The part of the configuration that the store needs.
pub(crate) fn options(config: &Config) -> Options {
    Options {
        data_dir: config.data_dir.clone(),
        must_exist: config.must_exist,
        workers: config.workers,
        generation_events: config.generation_events,
        generation_bytes: config.generation_bytes,
        topics_max: config.topics_max,
    }
}

/// The machine's disk and clock, and sled as the index.
pub(crate) fn seams(metrics: Metrics) -> Seams {
    Seams {
        metrics,
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(SledIndexes::default()),
    }
}
