//! Names of what lies in a data directory.

use std::path::{Path, PathBuf};

/// Which generations there are, see `manifest`.
pub(crate) const MANIFEST: &str = "MANIFEST";
/// What a process takes of the store besides the directory, see `hold`.
pub(crate) const LOCK: &str = "LOCK";
/// A generation's journal.
pub(crate) const JOURNAL: &str = "journal";
/// The folder of an open generation's index.
pub(crate) const INDEX: &str = "index";
/// Claims of a sealed generation, by hash.
pub(crate) const CLAIMS: &str = "claims";
/// Blocks by topic and offset.
pub(crate) const PROCESSED: &str = "processed";
/// Frames by event number.
pub(crate) const FRAMES: &str = "frames";
/// Filter of the claims.
pub(crate) const FILTER: &str = "filter";
/// Filters of this generation and those before it, so many in all; in the order in which they are
/// looked for.
pub(crate) const MERGED_FILTERS: [&str; 3] = ["filter-64", "filter-16", "filter-4"];
/// What the names of all folders of generations begin with, those set aside too.
pub(crate) const GENERATION_PREFIX: &str = "gen-";

/// The folder of a generation.
pub(crate) fn folder(data_dir: &Path, id: u64) -> PathBuf {
    data_dir.join(format!("{GENERATION_PREFIX}{id:06}"))
}

/// The number of the generation whose folder has this name.
pub(crate) fn folder_id(name: &str) -> Option<u64> {
    name.strip_prefix(GENERATION_PREFIX)?.parse().ok()
}

/// Where the journal of generation `id` is.
pub(crate) fn journal_path(data_dir: &Path, id: u64) -> PathBuf {
    folder(data_dir, id).join(JOURNAL)
}
