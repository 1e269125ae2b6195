//! Planted faults: disks and indexes that break what the store rests on, to prove that the model
//! sees it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sekali::disk::{Disk, DiskFile, Held, Open};
use sekali::error::Result;
use sekali::store::local::format::claim::{BlockLocation, Claim, Covered};
use sekali::store::local::index::{BlockVisitor, ClaimVisitor, Index, Indexes, MemoryIndexes};

use crate::support::mem_disk::MemDisk;

/// What is wrong with the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// The machine has no flaw.
    #[default]
    None,
    /// A sync of a journal does nothing.
    NoSync,
    /// A sync of a directory does nothing.
    NoDirSync,
    /// A power cut undoes the last write to a journal, synced or not.
    LosesLastWrite,
    /// An index does not know some of its claims.
    ForgetsClaims,
    /// An index gives a claim's offset plus one.
    WrongOffsets,
}

/// File, place and former content.
type LastWrite = (PathBuf, u64, Vec<u8>);

/// A disk with a flaw.
#[derive(Clone, Debug)]
pub struct FlawedDisk {
    flaw: Flaw,
    disk: MemDisk,
    /// The last write to a journal.
    last: Arc<Mutex<Option<LastWrite>>>,
}

#[derive(Debug)]
struct FlawedFile {
    owner: FlawedDisk,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl FlawedDisk {
    pub fn new(flaw: Flaw, disk: MemDisk) -> Self {
        Self { flaw, disk, last: Arc::default() }
    }

    /// Cuts the power.
    pub fn crash(&self, seed: u64) -> io::Result<MemDisk> {
        let disk = self.disk.crash(seed);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((path, offset, former)) = last.filter(|_| self.flaw == Flaw::LosesLastWrite)
            && let Ok(file) = disk.open(&path, Open::Write)
        {
            file.write_all_at(&former, offset)?;
            file.sync()?;
        }
        Ok(disk)
    }
}

impl DiskFile for FlawedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.owner.flaw == Flaw::LosesLastWrite && self.path.ends_with("journal") {
            let mut former = vec![0; buf.len()];
            let read = self.file.read_at(&mut former, offset)?;
            former.truncate(read);
            let mut last = self.owner.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((self.path.clone(), offset, former));
        }
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.owner.flaw == Flaw::NoSync && self.path.ends_with("journal") {
            return Ok(());
        }
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
}

impl Disk for FlawedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        Ok(Arc::new(FlawedFile { owner: self.clone(), path: path.to_owned(), file }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn presence(&self, path: &Path) -> io::Result<bool> {
        self.disk.presence(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.flaw == Flaw::NoDirSync { Ok(()) } else { self.disk.sync_dir(path) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        self.disk.lock(path)
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        self.disk.lock_dir(path)
    }

    fn check_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.check_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn uncache(&self, path: &Path, from: u64, to: Option<u64>) {
        self.disk.uncache(path, from, to);
    }
}

/// Indexes with a flaw.
#[derive(Clone, Debug)]
pub struct FlawedIndexes {
    pub flaw: Flaw,
    pub indexes: MemoryIndexes,
    /// Claims that were asked for and denied or changed.
    pub lies: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FlawedIndex {
    owner: FlawedIndexes,
    index: Box<dyn Index>,
}

impl Indexes for FlawedIndexes {
    fn open(&self, dir: &Path) -> Result<Box<dyn Index>> {
        Ok(Box::new(FlawedIndex { owner: self.clone(), index: self.indexes.open(dir)? }))
    }

    fn sync(&self, dir: &Path) -> Result<()> {
        self.indexes.sync(dir)
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        self.indexes.remove(dir)
    }
}

impl Index for FlawedIndex {
    fn claim(&self, key: &[u8]) -> Result<Option<Claim>> {
        let claim = self.index.claim(key)?;
        let is_chosen = key.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(3);
        match (self.owner.flaw, claim) {
            (Flaw::ForgetsClaims, Some(_)) if is_chosen => {
                self.owner.lies.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            (Flaw::WrongOffsets, Some(claim)) => {
                self.owner.lies.fetch_add(1, Ordering::Relaxed);
                Ok(Some(Claim { offset: claim.offset + 1, ..claim }))
            }
            (_, claim) => Ok(claim),
        }
    }

    fn insert(
        &self,
        claims: &[(&[u8], Claim)],
        blocks: &[(&[u8], u64, BlockLocation)],
        covered: &Covered,
    ) -> Result<()> {
        self.index.insert(claims, blocks, covered)
    }

    fn block_at_or_before(&self, topic: &[u8], offset: u64) -> Result<Option<(u64, BlockLocation)>> {
        self.index.block_at_or_before(topic, offset)
    }

    fn covered(&self) -> Result<Option<Covered>> {
        self.index.covered()
    }

    fn flush(&self) -> Result<()> {
        self.index.flush()
    }

    fn for_each_claim(&self, visit: &mut ClaimVisitor<'_>) -> Result<()> {
        self.index.for_each_claim(visit)
    }

    fn for_each_block(&self, visit: &mut BlockVisitor<'_>) -> Result<()> {
        self.index.for_each_block(visit)
    }
}
