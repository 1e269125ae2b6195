//! A disk in memory that knows what was synced. A power cut keeps what was, and any part of what
//! was not; a kill keeps all that was written. Faults are planned by counting writes and syncs.
//!
//! | change | durable after | at a power cut else |
//! |---|---|---|
//! | write, length of a file | `sync` of the file | any 512-byte sectors of any writes, the last kept write torn at any byte |
//! | create, rename, remove, new directory | `sync_dir` of its directory | those of a directory up to some point, in order |
//!
//! After a failed sync the writes it covered are durable or not, each by itself, still readable,
//! and never become durable by a later sync: as Linux does it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

mod handle;

pub use handle::{MemDisk, STALL};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR_BYTES: usize = 512;

/// A call that neither writes nor syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `stat` of a name.
    Presence,
    /// `readdir`.
    List,
    /// `open`.
    Open,
    /// `mkdir`.
    CreateDir,
    /// `rename`.
    Rename,
    /// `unlink`, `rmdir`.
    Remove,
    /// `flock`.
    Lock,
    /// `fstat`.
    Length,
    /// `pread`.
    Read,
    /// `ftruncate`.
    SetLength,
    /// `statvfs`.
    Free,
}

impl Call {
    /// Every kind of call.
    pub const ALL: [Self; 11] = [
        Self::Presence,
        Self::List,
        Self::Open,
        Self::CreateDir,
        Self::Rename,
        Self::Remove,
        Self::Lock,
        Self::Length,
        Self::Read,
        Self::SetLength,
        Self::Free,
    ];
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write number `at` (from 0) fails after `kept` bytes (or all but one, if it is shorter)
    /// were written.
    Write { at: u64, kept: usize },
    /// The sync number `at` (from 0) of a file or directory fails.
    Sync { at: u64 },
    /// At the write number `at` the disk goes dead after `kept` bytes.
    DeadAtWrite { at: u64, kept: usize },
    /// At the sync number `at` the disk goes dead before it is done.
    DeadAtSync { at: u64 },
    /// The call number `at` (from 0) of its kind fails, and does nothing. `code` is the error's.
    Call { call: Call, at: u64, code: i32 },
    /// At the operation number `at` (from 0), whatever it is, the disk goes dead before it is done.
    DeadAt { at: u64 },
    /// The sync number `at` of a file comes back after two minutes. In a simulation they take none.
    Stall { at: u64 },
}

impl Fault {
    /// `EIO`, `EACCES`, `ENOMEM`: what the system says when it does not answer.
    pub const CODES: [i32; 3] = [EIO, 13, 12];
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
                // A directory takes with it what is in it.
                let moved: Vec<_> = names.keys().filter(|name| name.starts_with(from)).cloned().collect();
                for name in moved {
                    if let Some(node) = names.remove(&name) {
                        names.insert(behind(from, to, &name), node);
                    }
                }
            }
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        }
    }
}

/// What a name in `from` is called once that is `to`.
fn behind(from: &Path, to: &Path, name: &Path) -> PathBuf {
    match name.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => name.to_owned(),
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
    /// What is taken, by what it is: a file of the same name may be another. Directories have no
    /// number here.
    locks: BTreeSet<(Node, PathBuf)>,
    faults: Vec<Fault>,
    writes: u64,
    syncs: u64,
    calls: BTreeMap<Call, u64>,
    operations: u64,
    /// Calls that failed as planned.
    failed_calls: u64,
    capacity_bytes: Option<u64>,
    /// Places of files that are to leave the cache.
    uncached: BTreeMap<PathBuf, Vec<(u64, u64)>>,
    /// Places of inodes that are to be read soon.
    prefetched: BTreeMap<usize, Vec<(u64, u64)>>,
    /// A digest of all that was done.
    trace: u64,
}

fn os(code: i32) -> Error {
    Error::from_raw_os_error(code)
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(os(EIO)) } else { Ok(()) }
    }

    /// Counts an operation, at which the disk may go dead.
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        self.dead |= self.faults.contains(&Fault::DeadAt { at: number });
        self.alive()
    }

    /// Counts a call, and says whether it fails.
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.operation()?;
        let count = self.calls.entry(call).or_default();
        let number = *count;
        *count += 1;
        let planned = self.faults.iter().find_map(|fault| match fault {
            Fault::Call { call: planned, at, code } if (*planned, *at) == (call, number) => Some(*code),
            _ => None,
        });
        let Some(code) = planned else { return Ok(()) };
        self.failed_calls += 1;
        Err(os(code))
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

    /// Takes a change into the digest.
    fn trace(&mut self, what: &[u64], data: &[u8]) {
        for part in what {
            self.trace = xxh3_64_with_seed(&part.to_le_bytes(), self.trace);
        }
        self.trace = xxh3_64_with_seed(data, self.trace);
    }

    fn write(&mut self, inode: usize, data: &[u8], offset: usize) -> io::Result<()> {
        self.trace(&[1, inode as u64, offset as u64], data);
        self.operation()?;
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
        self.operation()?;
        let number = self.syncs;
        self.syncs += 1;
        if self.faults.contains(&Fault::DeadAtSync { at: number }) {
            self.dead = true;
        }
        let fails = self.dead || self.faults.contains(&Fault::Sync { at: number });
        if fails { Err(os(EIO)) } else { Ok(()) }
    }

    fn sync_file(&mut self, inode: usize) -> io::Result<()> {
        self.trace(&[2, inode as u64], &[]);
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
        // Names are kept by path: the removal of a former directory must not take what is in the
        // new one.
        let removal =
            |change: &NameChange| matches!(change, NameChange::Remove(path) if dir.starts_with(path));
        if let Some(last) = self.pending.iter().rposition(removal) {
            let above = self.pending[last].dir().to_owned();
            let later = self.pending.split_off(last + 1);
            let (done, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.pending).into_iter().partition(|change| change.dir() == above);
            done.iter().for_each(|change| change.apply(&mut self.durable));
            self.pending = rest.into_iter().chain(later).collect();
        }
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
