//! The disk and its files as the store sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sekali::disk::{Disk, DiskFile, Held, Open};

use super::{Call, Change, ENOSPC, Fault, Inode, NameChange, Node, State, behind, os, parent};

/// How long a stalled sync takes: four times as long as the store waits.
pub const STALL: Duration = Duration::from_secs(120);

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<State>>);

impl MemDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault for a call to come.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Bounds the bytes in all files together; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let files = state.live.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Turns bits of one byte of a file, synced or not, unseen by the store; nothing if the
    /// file is empty.
    pub fn turn(&self, path: &Path, at: usize, bits: u8) {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.live.get(path).copied() else { return };
        let Inode { live, durable, .. } = &mut state.inodes[inode];
        for content in [live, durable] {
            // Most of a journal is zeros: little beyond what is written.
            let written = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let len = content.len().min(written + written / 8 + 1).max(1);
            content.get_mut(at % len).into_iter().for_each(|byte| *byte ^= bits);
        }
    }

    /// How much of a file, from its beginning, is to leave the cache.
    pub fn uncached(&self, path: &Path) -> u64 {
        let places = self.state().uncached.get(path).cloned().unwrap_or_default();
        reached(0, places)
    }

    /// What was to be read soon of a file: from the first such place up to a gap.
    pub fn prefetched(&self, path: &Path) -> Option<(u64, u64)> {
        let state = self.state();
        let Some(Node::File(inode)) = state.live.get(path) else { return None };
        let places = state.prefetched.get(inode)?.clone();
        let first = places.iter().map(|(from, _)| *from).min()?;
        Some((first, reached(first, places)))
    }

    /// Writes so far: where to plan a fault.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// The number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Calls of a kind so far.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// Operations of all kinds so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Calls that have failed as planned.
    pub fn failed_calls(&self) -> u64 {
        self.state().failed_calls
    }

    /// Forgets the faults that were planned.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// A digest of all that was ever written and synced, in order.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// A disk with the same content.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Cuts the power: this disk is dead, the one returned is what is found afterwards.
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.end();
        state.cut(&mut fastrand::Rng::with_seed(seed));
        Self(Arc::new(Mutex::new(state)))
    }

    /// Kills the process: this disk is dead, the one returned has all that was written, synced or
    /// not.
    pub fn kill(&self) -> Self {
        Self(Arc::new(Mutex::new(self.end())))
    }

    fn end(&self) -> State {
        let mut state = self.state();
        let next = State {
            dead: false,
            locks: BTreeSet::new(),
            faults: Vec::new(),
            writes: 0,
            syncs: 0,
            calls: BTreeMap::new(),
            operations: 0,
            failed_calls: 0,
            ..state.clone()
        };
        state.dead = true;
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        // A system call is where other threads go on.
        #[cfg(feature = "simulation")]
        sekali::sync::yield_now();
        let state = self.state();
        state.alive()?;
        Ok(state)
    }

    fn call(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        state.call(call)?;
        Ok(state)
    }
}

/// How far the places reach from `at` without a gap.
fn reached(at: u64, mut places: Vec<(u64, u64)>) -> u64 {
    places.sort_unstable();
    places.iter().fold(at, |end, (from, to)| if *from <= end { end.max(*to) } else { end })
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    inode: usize,
    writable: bool,
}

impl MemFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable { self.disk.alive() } else { Err(os(9)) }
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.call(Call::Read)?;
        let content = state.inodes[self.inode].live.get(offset as usize..).unwrap_or_default();
        let n = content.len().min(buf.len());
        buf[..n].copy_from_slice(&content[..n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.write(self.inode, buf, offset as usize)
    }

    fn sync(&self) -> io::Result<()> {
        let stalls = {
            let state = self.disk.alive()?;
            state.faults.contains(&Fault::Stall { at: state.syncs })
        };
        if stalls {
            sekali::sync::sleep(STALL);
        }
        self.disk.alive()?.sync_file(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.call(Call::Length)?.inodes[self.inode].live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.call(Call::SetLength)?;
        if len.saturating_sub(state.inodes[self.inode].live.len() as u64) > state.free_bytes() {
            return Err(os(ENOSPC));
        }
        state.inodes[self.inode].change(Change::Len(len as usize));
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.alive()?.live.get(path) == Some(&Node::File(self.inode)))
    }

    fn prefetch(&self, offset: u64, length: NonZeroU64) {
        self.disk.state().prefetched.entry(self.inode).or_default().push((offset, offset + length.get()));
    }
}

#[derive(Debug)]
struct Lock {
    disk: MemDisk,
    taken: (Node, PathBuf),
}

impl Held for Lock {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.alive()?.live.get(path) == Some(&self.taken.0))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.0.lock() {
            state.locks.remove(&self.taken);
        }
    }
}

impl MemDisk {
    fn take(&self, mut state: MutexGuard<'_, State>, path: &Path, node: Node) -> io::Result<Box<dyn Held>> {
        let path = if node == Node::Dir { path } else { Path::new("") };
        let taken = (node, path.to_owned());
        if !state.locks.insert(taken.clone()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), taken }))
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.call(Call::Open)?;
        let inode = match (state.live.get(path), how) {
            (Some(_), Open::New) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(Node::Dir), _) => return Err(ErrorKind::IsADirectory.into()),
            (Some(Node::File(inode)), _) => *inode,
            (None, Open::New) => state.add(path)?,
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemFile { disk: self.clone(), inode, writable: matches!(how, Open::Write | Open::New) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::CreateDir)?;
        let mut missing: Vec<_> = path.ancestors().take_while(|dir| !state.is_dir(dir)).collect();
        missing.reverse();
        for dir in missing {
            if state.live.contains_key(dir) {
                return Err(ErrorKind::NotADirectory.into());
            }
            state.name(NameChange::Add(dir.to_owned(), Node::Dir));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.call(Call::List)?;
        if !state.is_dir(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let names = state.children(path);
        Ok(names.iter().filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn presence(&self, path: &Path) -> io::Result<bool> {
        let state = self.call(Call::Presence)?;
        Ok(state.is_dir(path) || state.live.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Rename)?;
        match state.live.get(from) {
            None => Err(ErrorKind::NotFound.into()),
            // Not used by the store, and not modelled: a move to another directory, or onto one.
            Some(_) if parent(from) != parent(to) || state.is_dir(to) => Err(ErrorKind::Unsupported.into()),
            Some(_) => {
                // What is not durable yet of the names in a directory goes with it.
                for change in &mut state.pending {
                    match change {
                        NameChange::Add(path, _) | NameChange::Remove(path) if path != from => {
                            *path = behind(from, to, path);
                        }
                        NameChange::Rename(one, other) if one.starts_with(from) && one != from => {
                            (*one, *other) = (behind(from, to, one), behind(from, to, other));
                        }
                        _ => {}
                    }
                }
                state.name(NameChange::Rename(from.to_owned(), to.to_owned()));
                Ok(())
            }
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Remove)?;
        match state.live.get(path) {
            None => Ok(()),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) => {
                state.name(NameChange::Remove(path.to_owned()));
                Ok(())
            }
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Remove)?;
        // One by one, the innermost first, as a power cut may leave some of them.
        let names: Vec<_> = state.live.keys().filter(|name| name.starts_with(path)).rev().cloned().collect();
        for name in names {
            state.name(NameChange::Remove(name));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        if state.is_dir(path) { state.sync_names(path) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let mut state = self.call(Call::Lock)?;
        let node = match state.live.get(path).copied() {
            Some(node) => node,
            None => Node::File(state.add(path)?),
        };
        self.take(state, path, node)
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let state = self.call(Call::Lock)?;
        match state.live.get(path).copied() {
            Some(Node::Dir) => self.take(state, path, Node::Dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn check_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.call(Call::Free)?.free_bytes())
    }

    fn uncache(&self, path: &Path, from: u64, to: Option<u64>) {
        let to = to.unwrap_or(u64::MAX);
        self.state().uncached.entry(path.to_owned()).or_default().push((from, to));
    }
}
