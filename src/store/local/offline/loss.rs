//! What is lost, and how it is told.

use std::path::PathBuf;

use crate::store::local::format::layout::journal_path;
use crate::store::local::format::manifest::{Entry, Hole};
use crate::store::local::options::Options;

/// What is lost in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The journal.
    pub path: PathBuf,
    /// The first byte that is not read any more, and the first after it.
    pub bytes: (u64, u64),
    /// Events in it; `None` if that can't be known.
    pub events: Option<u64>,
    /// Of these, events that can still be read; a repair writes them to
    /// [`Repaired::salvaged`](super::repair::Repaired::salvaged).
    pub salvaged: u64,
    /// Offsets that hold no event any more: topic, first, and first after.
    pub offsets: Vec<(String, u64, u64)>,
}

/// A hole that is not declared yet.
pub(crate) struct Found {
    pub(crate) hole: Hole,
    pub(crate) is_exact: bool,
    pub(crate) salvaged: u64,
}

impl Found {
    pub(crate) fn loss(&self, options: &Options) -> Loss {
        let Hole { generation, at, end, topics, .. } = &self.hole;
        let offsets = topics.iter().map(|burnt| (burnt.topic.clone(), burnt.first, burnt.next));
        Loss {
            path: journal_path(&options.data_dir, *generation),
            bytes: (*at, *end),
            events: self.is_exact.then(|| self.hole.events()),
            salvaged: self.salvaged,
            offsets: offsets.collect(),
        }
    }
}

pub(crate) fn found(
    entry: &Entry,
    (at, end): (u64, u64),
    (first_frame, next_frame): (u64, u64),
    (first_event, next_event): (u64, u64),
    is_exact: bool,
) -> Found {
    let (generation, topics, next_frame) = (entry.id, Vec::new(), next_frame.max(first_frame + 1));
    let hole = Hole { generation, at, end, first_frame, next_frame, first_event, next_event, topics };
    Found { hole, is_exact, salvaged: 0 }
}
