//! The live generation's index: derived from the journal, disposable, rebuilt from it.
//!
//! | tree | key | value | written by |
//! |---|---|---|---|
//! | `dedup` | `topic \0 event_id` | version byte, [`Claim`] | `compare_and_swap(none → claim)` |
//! | `processed` | `topic \0 offset` (big-endian) | version byte, [`BlockLocation`] | `insert` |
//! | `meta` | `covered` | [`Covered`] | `insert`, after all it covers |

pub(crate) mod memory_index;
pub(crate) mod sled_index;

use std::fmt::Debug;
use std::path::Path;

use crate::error::Result;
use crate::store::local::format::claim::{BlockLocation, Claim, Covered};

/// Called with each claim and its key; an error ends the walk.
pub type ClaimVisitor<'a> = dyn FnMut(&[u8], Claim) -> Result<()> + 'a;
/// Called with each block's topic, first offset and place; an error ends the walk.
pub type BlockVisitor<'a> = dyn FnMut(&[u8], u64, BlockLocation) -> Result<()> + 'a;

/// The index of one generation. After an error every later call fails as well: drop it and rebuild.
pub trait Index: Send + Sync + Debug {
    /// The claim of `topic \0 event_id`.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    fn claim(&self, key: &[u8]) -> Result<Option<Claim>>;

    /// Inserts a range of frames: claims sorted by key, blocks as (topic, first offset, place),
    /// then what is covered now. Inserting the same again changes nothing.
    ///
    /// # Errors
    /// `Corrupt` if a key has another claim already; `Io`, `NoSpace`. Part may then be inserted.
    fn insert(
        &self,
        claims: &[(&[u8], Claim)],
        blocks: &[(&[u8], u64, BlockLocation)],
        covered: &Covered,
    ) -> Result<()>;

    /// The block of `topic` with the greatest first offset ≤ `offset`.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    fn block_at_or_before(&self, topic: &[u8], offset: u64) -> Result<Option<(u64, BlockLocation)>>;

    /// What was inserted, as of the last set.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    fn covered(&self) -> Result<Option<Covered>>;

    /// Hands all to the operating system. Not durable before the directory's files are synced, too.
    /// To be called by one thread only.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `NoSpace`.
    fn flush(&self) -> Result<()>;

    /// Visits all claims in the order of their keys.
    ///
    /// # Errors
    /// The visitor's; `Corrupt`, `Io`.
    fn for_each_claim(&self, visit: &mut ClaimVisitor<'_>) -> Result<()>;

    /// Visits all blocks, by topic and offset.
    ///
    /// # Errors
    /// The visitor's; `Corrupt`, `Io`.
    fn for_each_block(&self, visit: &mut BlockVisitor<'_>) -> Result<()>;
}

/// Makes indexes: sled's, or a model of them.
pub trait Indexes: Send + Sync + Debug {
    /// Opens the index in `dir`, which is created if it is missing.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged, `Io`, `NoSpace`.
    fn open(&self, dir: &Path) -> Result<Box<dyn Index>>;

    /// Makes durable what was flushed of the index in `dir`, which is not open.
    ///
    /// # Errors
    /// `Io`.
    fn sync(&self, dir: &Path) -> Result<()>;

    /// Removes the index in `dir`, which is not open; it is no error if there is none.
    ///
    /// # Errors
    /// `Io`.
    fn remove(&self, dir: &Path) -> Result<()>;
}

#[cfg(test)]
mod tests;
