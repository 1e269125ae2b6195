//! A disk in memory that knows what was synced. A power cut keeps what was, and any part of what was not; a kill keeps
//! all that was written. Faults are planned by counting writes and syncs.
//!
//! | change | durable after | at a power cut else |
//! |---|---|---|
//! | write, length of a file | `sync` of the file | any 512-byte sectors of any writes, the last kept write torn at any byte |
//! | create, rename, remove, new directory | `sync_dir` of its directory | those of a directory up to some point, in order |
//!
//! After a failed sync the writes it covered are durable or not, each by itself, still readable, and never become
//! durable by a later sync: as Linux does it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use sekali::disk::{Disk, DiskFile, Open};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR_BYTES: usize = 512;

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write number `at` (from 0) fails after `kept` bytes (or all but one, if it is shorter) were written.
    Write { at: u64, kept: usize },
    /// The sync number `at` (from 0) of a file or directory fails.
    Sync { at: u64 },
    /// At the write number `at` the disk goes dead after `kept` bytes.
    DeadAtWrite { at: u64, kept: usize },
    /// At the sync number `at` the disk goes dead before it is done.
    DeadAtSync { at: u64 },
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(content, *offset, data),
            Self::Len(len) => content.resize(*len, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// What a power cut leaves of it.
    fn cut(&mut self, rng: &mut fastrand::Rng) {
        let keep = rng.u8(..=4);
        let kept: Vec<_> =
            std::mem::take(&mut self.pending).into_iter().filter(|_| rng.u8(..4) < keep).collect();
        let last = kept.iter().rposition(|change| matches!(change, Change::Write { .. }));
        for (i, change) in kept.iter().enumerate() {
            match change {
                Change::Write { offset, data } if Some(i) == last && rng.bool() => {
                    put(&mut self.durable, *offset, &data[..rng.usize(..=data.len())]);
                }
                Change::Write { offset, data } if rng.u8(..4) == 0 => {
                    torn(&mut self.durable, *offset, data, rng);
                }
                change => change.apply(&mut self.durable),
            }
        }
        self.live = self.durable.clone();
    }
}

/// Writes any of the sectors that the data covers.
fn torn(content: &mut Vec<u8>, offset: usize, data: &[u8], rng: &mut fastrand::Rng) {
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
        if rng.bool() {
            put(content, offset + at, &data[at..end]);
        }
        at = end;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Add(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        parent(path)
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(path, node) => _ = names.insert(path.clone(), *node),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

#[derive(Clone, Debug, Default)]
struct State {
    dead: bool,
    inodes: Vec<Inode>,
    live: Names,
    durable: Names,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    writes: u64,
    syncs: u64,
    capacity_bytes: Option<u64>,
}

fn os(code: i32) -> Error {
    Error::from_raw_os_error(code)
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(os(EIO)) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        let files = self.live.values().filter_map(|node| match node {
            Node::File(inode) => Some(self.inodes[*inode].live.len() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(1 << 50, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("") || path == Path::new("/") || self.live.get(path) == Some(&Node::Dir)
    }

    fn name(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn add(&mut self, path: &Path) -> io::Result<usize> {
        if !self.is_dir(parent(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        self.inodes.push(Inode::default());
        let inode = self.inodes.len() - 1;
        self.name(NameChange::Add(path.to_owned(), Node::File(inode)));
        Ok(inode)
    }

    fn write(&mut self, inode: usize, data: &[u8], offset: usize) -> io::Result<()> {
        let number = self.writes;
        self.writes += 1;
        let short = |kept: usize| kept.min(data.len().saturating_sub(1));
        for fault in self.faults.clone() {
            match fault {
                Fault::Write { at, kept } if at == number => {
                    self.inodes[inode].change(Change::Write { offset, data: data[..short(kept)].to_vec() });
                    return Err(os(EIO));
                }
                Fault::DeadAtWrite { at, kept } if at == number => {
                    self.inodes[inode].change(Change::Write { offset, data: data[..short(kept)].to_vec() });
                    self.dead = true;
                    return Err(os(EIO));
                }
                _ => {}
            }
        }
        let growth = (offset + data.len()).saturating_sub(self.inodes[inode].live.len()) as u64;
        if growth > self.free_bytes() {
            return Err(os(ENOSPC));
        }
        self.inodes[inode].change(Change::Write { offset, data: data.to_vec() });
        Ok(())
    }

    /// Counts a sync, and says whether it fails.
    fn sync(&mut self) -> io::Result<()> {
        let number = self.syncs;
        self.syncs += 1;
        if self.faults.contains(&Fault::DeadAtSync { at: number }) {
            self.dead = true;
        }
        let fails = self.dead || self.faults.contains(&Fault::Sync { at: number });
        if fails { Err(os(EIO)) } else { Ok(()) }
    }

    fn sync_file(&mut self, inode: usize) -> io::Result<()> {
        let synced = self.sync();
        if self.dead {
            return synced;
        }
        let Inode { durable, pending, .. } = &mut self.inodes[inode];
        for (i, change) in std::mem::take(pending).into_iter().enumerate() {
            if synced.is_ok() || (i as u64 ^ self.syncs).is_multiple_of(2) {
                change.apply(durable);
            }
        }
        synced
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        self.sync()?;
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.dir() == dir);
        self.pending = rest;
        done.iter().for_each(|change| change.apply(&mut self.durable));
        Ok(())
    }

    /// What is directly in a directory, as paths.
    fn children(&self, dir: &Path) -> Vec<PathBuf> {
        self.live.keys().filter(|name| parent(name) == dir).cloned().collect()
    }

    fn sync_tree(&mut self, path: &Path) -> io::Result<()> {
        for child in self.children(path) {
            match self.live.get(&child) {
                Some(Node::Dir) => self.sync_tree(&child)?,
                Some(Node::File(inode)) => self.sync_file(*inode)?,
                None => {}
            }
        }
        self.sync_names(path)
    }

    fn cut(&mut self, rng: &mut fastrand::Rng) {
        let mut left: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for change in &self.pending {
            *left.entry(change.dir().to_owned()).or_default() += 1;
        }
        left.values_mut().for_each(|count| *count = rng.usize(..=*count));
        for change in std::mem::take(&mut self.pending) {
            let Some(left) = left.get_mut(change.dir()).filter(|left| **left > 0) else { continue };
            *left -= 1;
            change.apply(&mut self.durable);
        }
        // What lies in a directory that is gone is gone.
        let names = self.durable.clone();
        let reachable = |name: &Path| {
            name.ancestors()
                .skip(1)
                .all(|dir| dir == Path::new("") || dir == Path::new("/") || names.contains_key(dir))
        };
        self.durable.retain(|name, _| reachable(name));
        self.live = self.durable.clone();
        self.inodes.iter_mut().for_each(|inode| inode.cut(rng));
    }
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<State>>);

impl MemDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Bounds the bytes in all files together; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Writes so far: where to plan a fault.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the power: this disk is dead, the one returned is what is found afterwards.
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.end();
        state.cut(&mut fastrand::Rng::with_seed(seed));
        Self(Arc::new(Mutex::new(state)))
    }

    /// Kills the process: this disk is dead, the one returned has all that was written, synced or not.
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
            ..state.clone()
        };
        state.dead = true;
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        state.alive()?;
        Ok(state)
    }
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
        let state = self.disk.alive()?;
        let content = state.inodes[self.inode].live.get(offset as usize..).unwrap_or_default();
        let n = content.len().min(buf.len());
        buf[..n].copy_from_slice(&content[..n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.write(self.inode, buf, offset as usize)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.alive()?.sync_file(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.inodes[self.inode].live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        if len.saturating_sub(state.inodes[self.inode].live.len() as u64) > state.free_bytes() {
            return Err(os(ENOSPC));
        }
        state.inodes[self.inode].change(Change::Len(len as usize));
        Ok(())
    }
}

struct Lock(MemDisk, PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.0.lock() {
            state.locks.remove(&self.1);
        }
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.alive()?;
        let inode = match (state.live.get(path), how) {
            (Some(Node::Dir), _) => return Err(ErrorKind::IsADirectory.into()),
            (Some(Node::File(inode)), Open::Create) => {
                let inode = *inode;
                state.inodes[inode].change(Change::Len(0));
                inode
            }
            (Some(Node::File(inode)), _) => *inode,
            (None, Open::Create) => state.add(path)?,
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemFile { disk: self.clone(), inode, writable: how != Open::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
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
        let state = self.alive()?;
        if !state.is_dir(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let names = state.children(path);
        Ok(names.iter().filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.alive().is_ok_and(|state| state.is_dir(path) || state.live.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        match state.live.get(from) {
            None => Err(ErrorKind::NotFound.into()),
            // Not used by the store, and not modelled: a move of a directory, or to another one.
            Some(Node::Dir) => Err(ErrorKind::Unsupported.into()),
            Some(_) if parent(from) != parent(to) => Err(ErrorKind::Unsupported.into()),
            Some(_) => {
                state.name(NameChange::Rename(from.to_owned(), to.to_owned()));
                Ok(())
            }
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
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
        let mut state = self.alive()?;
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

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        self.alive()?.sync_tree(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.alive()?;
        if !state.live.contains_key(path) {
            state.add(path)?;
        }
        if !state.locks.insert(path.to_owned()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone(), path.to_owned())))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.alive()?.free_bytes())
    }
}
