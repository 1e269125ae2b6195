//! A model of the index for tests: it can lose its last sets, as sled does in a crash, or fail.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BlockVisitor, ClaimVisitor, Index, Indexes};
use crate::error::{Error, ErrorKind, Result};
use crate::store::local::format::claim::{BlockLocation, Claim, Covered};
use crate::sync::{Mutex, MutexGuard};

/// One inserted set.
#[derive(Clone, Debug)]
struct Set {
    claims: Vec<(Vec<u8>, Claim)>,
    blocks: Vec<((Vec<u8>, u64), BlockLocation)>,
    covered: Covered,
}

#[derive(Debug, Default)]
struct State {
    /// What was inserted, in order.
    log: Vec<Set>,
    claims: BTreeMap<Vec<u8>, Claim>,
    blocks: BTreeMap<(Vec<u8>, u64), BlockLocation>,
    covered: Option<Covered>,
    failing: bool,
}

impl State {
    fn apply(&mut self, set: &Set) {
        self.claims.extend(set.claims.iter().cloned());
        self.blocks.extend(set.blocks.iter().cloned());
        self.covered = Some(set.covered);
    }
}

/// Indexes in memory, for tests. Clones share what they hold; it outlives an [`Index`] that is
/// dropped.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndexes {
    dirs: Arc<Mutex<HashMap<PathBuf, Arc<Mutex<State>>>>>,
}

impl MemoryIndexes {
    fn state(&self, dir: &Path) -> Arc<Mutex<State>> {
        self.dirs.lock().entry(dir.to_owned()).or_default().clone()
    }

    /// Takes back the last `sets` sets of the index in `dir`.
    pub fn lose_suffix(&self, dir: &Path, sets: usize) {
        let state = self.state(dir);
        let mut state = state.lock();
        let kept = state.log.len().saturating_sub(sets);
        let log: Vec<Set> = state.log.drain(..).take(kept).collect();
        *state = State { failing: state.failing, ..State::default() };
        for set in &log {
            state.apply(set);
        }
        state.log = log;
    }

    /// From now on, every call to the index in `dir` fails, or none does.
    pub fn set_failing(&self, dir: &Path, failing: bool) {
        self.state(dir).lock().failing = failing;
    }
}

impl Indexes for MemoryIndexes {
    fn open(&self, dir: &Path) -> Result<Box<dyn Index>> {
        let index = MemoryIndex { state: self.state(dir) };
        drop(index.state()?);
        Ok(Box::new(index))
    }

    fn sync(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        self.dirs.lock().remove(dir);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryIndex {
    state: Arc<Mutex<State>>,
}

impl MemoryIndex {
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.failing {
            return Err(Error::new(ErrorKind::Io, "the model of the index was told to fail"));
        }
        Ok(state)
    }
}

impl Index for MemoryIndex {
    fn claim(&self, key: &[u8]) -> Result<Option<Claim>> {
        Ok(self.state()?.claims.get(key).copied())
    }

    fn insert(
        &self,
        claims: &[(&[u8], Claim)],
        blocks: &[(&[u8], u64, BlockLocation)],
        covered: &Covered,
    ) -> Result<()> {
        let mut state = self.state()?;
        if claims.iter().any(|(key, claim)| state.claims.get(*key).is_some_and(|found| found != claim)) {
            return Err(Error::new(ErrorKind::Corrupt, "an event has another claim than its journal says"));
        }
        let set = Set {
            claims: claims.iter().map(|(key, claim)| (key.to_vec(), *claim)).collect(),
            blocks: blocks
                .iter()
                .map(|(topic, offset, location)| ((topic.to_vec(), *offset), *location))
                .collect(),
            covered: *covered,
        };
        state.apply(&set);
        state.log.push(set);
        Ok(())
    }

    fn block_at_or_before(&self, topic: &[u8], offset: u64) -> Result<Option<(u64, BlockLocation)>> {
        let state = self.state()?;
        let found = state.blocks.range((topic.to_vec(), 0)..=(topic.to_vec(), offset)).next_back();
        Ok(found.map(|((_, offset), location)| (*offset, *location)))
    }

    fn covered(&self) -> Result<Option<Covered>> {
        Ok(self.state()?.covered)
    }

    fn flush(&self) -> Result<()> {
        self.state().map(drop)
    }

    fn for_each_claim(&self, visit: &mut ClaimVisitor<'_>) -> Result<()> {
        let claims = self.state()?.claims.clone();
        claims.iter().try_for_each(|(key, claim)| visit(key, *claim))
    }

    fn for_each_block(&self, visit: &mut BlockVisitor<'_>) -> Result<()> {
        let blocks = self.state()?.blocks.clone();
        blocks.iter().try_for_each(|((topic, offset), location)| visit(topic, *offset, *location))
    }
}
