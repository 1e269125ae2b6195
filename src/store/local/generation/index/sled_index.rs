//! Indexes in sled. The only file that names it.
//!
//! Deliberately absent, each for a measured fault of sled 0.34.7: transactions and batches (a
//! process-wide lock), `len` (scans), `drop_tree` (quadratic; a generation's folder is removed
//! instead), `generate_id` (repeats after a crash), `flush_async` (deadlocks), the flusher thread.

use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::{BlockVisitor, ClaimVisitor, Index, Indexes};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::claim::{BlockLocation, Claim, Covered};
use crate::store::local::format::codec::{FixedRecord, INDEX_VERSION};

/// How often, and how long apart, a Db is opened whose lock is still held.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// `topic \0 offset`, so that a topic's blocks lie together and in order.
fn block_key(topic: &[u8], offset: u64) -> Vec<u8> {
    [topic, &[0], &offset.to_be_bytes()].concat()
}

/// Topic and offset of a key of `processed`.
fn block_key_parts(key: &[u8]) -> Option<(&[u8], u64)> {
    let (topic, offset) = key.split_last_chunk::<8>()?;
    Some((topic.strip_suffix(&[0])?, u64::from_be_bytes(*offset)))
}

/// Bytes of an index that are given back to the disk at once.
pub(super) const FREED_BYTES: u64 = 4 << 20;

/// Indexes in sled.
#[derive(Clone, Copy, Debug)]
pub struct SledIndexes {
    /// What sled is told to keep in memory, in bytes; it takes about four times as much.
    pub cache_bytes: u64,
}

impl Default for SledIndexes {
    /// 16 MiB: the index is filled in sorted sets and seldom read.
    fn default() -> Self {
        Self { cache_bytes: 16 << 20 }
    }
}

impl Indexes for SledIndexes {
    fn open(&self, dir: &Path) -> Result<Box<dyn Index>> {
        let config = sled::Config::new().path(dir).cache_capacity(self.cache_bytes).flush_every_ms(None);
        // sled would make it for all to look into.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::io("create", dir, e))?;
        let dir = dir.to_owned();
        // sled panics on some damaged files.
        let open = || {
            catch_unwind(AssertUnwindSafe(|| {
                let db = config.open()?;
                let trees = (db.open_tree("dedup")?, db.open_tree("processed")?, db.open_tree("meta")?);
                Ok((db, trees))
            }))
        };
        let mut opened = open();
        // A Db that was just dropped gives its lock back only when its last thread has gone.
        for _ in 0..LOCK_TRIES {
            match &opened {
                Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {}
                _ => break,
            }
            std::thread::sleep(LOCK_PAUSE);
            opened = open();
        }
        let (db, (dedup, processed, meta)) = match opened {
            Ok(result) => result.map_err(|e| error(&dir, e))?,
            Err(_) => return Err(useless(&dir, "sled can't open it")),
        };
        let open = OpenSled { db, dedup, processed, meta };
        Ok(Box::new(SledIndex { open: Some(open), dir, broken: OnceLock::new() }))
    }

    fn sync(&self, dir: &Path) -> Result<()> {
        sync_tree(dir).during("sync", dir)
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        // What can't be cut is given back at once.
        let _ = cut(&dir.join("db"));
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
            _ => Ok(()),
        }
    }
}

/// Cuts sled's file shorter and shorter. A file system that tells its disk what is free (`discard`)
/// does so when it is, and a disk may do nothing else meanwhile: no sync of the journal then waits
/// for more than a piece. Left whole if it is still open: a look-up that began before may read it,
/// and goes on with a file that is removed.
fn cut(path: &Path) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let mut locked = file.try_lock();
    for _ in 0..LOCK_TRIES {
        if locked.is_ok() {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = file.try_lock();
    }
    locked?;
    let mut left = file.metadata()?.len();
    while left > FREED_BYTES {
        left -= FREED_BYTES;
        file.set_len(left)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Puts a version byte and a record into `value`.
fn encode(record: &impl FixedRecord, value: &mut Vec<u8>) {
    value.clear();
    value.push(INDEX_VERSION);
    record.encode_to(value);
}

/// sled's own flush never calls fsync on Linux.
fn sync_tree(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(dir)?.sync_all()
}

/// sled's own errors say nothing of what is stored: the index is dropped and rebuilt.
fn error(dir: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(e) => Error::io("use the index", dir, e),
        other => useless(dir, &other.to_string()),
    }
}

fn useless(dir: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("the index {} is of no use: {why}", dir.display()))
}

/// sled, open.
#[derive(Debug)]
struct OpenSled {
    db: sled::Db,
    dedup: sled::Tree,
    processed: sled::Tree,
    meta: sled::Tree,
}

/// One generation's sled Db.
#[derive(Debug)]
struct SledIndex {
    /// Taken when dropped, only.
    open: Option<OpenSled>,
    dir: PathBuf,
    /// The first error: after one of its own, sled is not to be trusted any more.
    broken: OnceLock<(ErrorKind, String)>,
}

impl SledIndex {
    /// Calls into sled, which may panic on damaged files, and remembers an error.
    fn guarded<T>(&self, call: impl FnOnce(&OpenSled) -> Result<T>) -> Result<T> {
        if let Some((kind, message)) = self.broken.get() {
            return Err(Error::new(*kind, message.clone()));
        }
        let Some(open) = &self.open else { return Err(self.damaged("it is closed")) };
        let result = catch_unwind(AssertUnwindSafe(|| call(open)))
            .unwrap_or_else(|_| Err(self.damaged("sled panicked on what it read")));
        if let Err(e) = &result {
            let _ = self.broken.set((e.kind(), e.to_string())); // the first one stays
        }
        result
    }

    fn damaged(&self, what: &str) -> Error {
        useless(&self.dir, what)
    }

    /// A record that lies after a version byte.
    fn decode<T: FixedRecord>(&self, bytes: &[u8]) -> Result<T> {
        let record = bytes.strip_prefix(&[INDEX_VERSION]).and_then(|bytes| T::from_bytes(bytes).ok());
        record.ok_or_else(|| self.damaged(&format!("an entry is no {}", T::NAME)))
    }

    fn decode_block_key<'k>(&self, key: &'k [u8]) -> Result<(&'k [u8], u64)> {
        block_key_parts(key).ok_or_else(|| self.damaged("a key of `processed` is no topic and offset"))
    }

    /// Turns sled's error into ours.
    fn ours(&self) -> impl Fn(sled::Error) -> Error + '_ {
        |e| error(&self.dir, e)
    }
}

impl Index for SledIndex {
    fn claim(&self, key: &[u8]) -> Result<Option<Claim>> {
        self.guarded(|sled| match sled.dedup.get(key).map_err(self.ours())? {
            Some(bytes) => self.decode(&bytes).map(Some),
            None => Ok(None),
        })
    }

    fn insert(
        &self,
        claims: &[(&[u8], Claim)],
        blocks: &[(&[u8], u64, BlockLocation)],
        covered: &Covered,
    ) -> Result<()> {
        self.guarded(|sled| {
            let mut value = Vec::with_capacity(1 + Claim::BYTES);
            for (key, claim) in claims {
                encode(claim, &mut value);
                let swapped = sled.dedup.compare_and_swap(key, None::<&[u8]>, Some(&value[..]));
                if let Err(found) = swapped.map_err(self.ours())?
                    && found.current.as_deref() != Some(&value[..])
                {
                    let what = "an event has another claim than its journal says";
                    return Err(Error::corrupt(&self.dir, 0, what));
                }
            }
            for (topic, offset, location) in blocks {
                encode(location, &mut value);
                sled.processed.insert(block_key(topic, *offset), &value[..]).map_err(self.ours())?;
            }
            sled.meta.insert("covered", covered.encoded()).map_err(self.ours())?;
            Ok(())
        })
    }

    fn block_at_or_before(&self, topic: &[u8], offset: u64) -> Result<Option<(u64, BlockLocation)>> {
        self.guarded(|sled| {
            let range = block_key(topic, 0)..=block_key(topic, offset);
            let Some(entry) = sled.processed.range(range).next_back() else { return Ok(None) };
            let (key, value) = entry.map_err(self.ours())?;
            Ok(Some((self.decode_block_key(&key)?.1, self.decode(&value)?)))
        })
    }

    fn covered(&self) -> Result<Option<Covered>> {
        self.guarded(|sled| {
            let Some(bytes) = sled.meta.get("covered").map_err(self.ours())? else { return Ok(None) };
            match Covered::from_bytes(&bytes) {
                Ok(covered) if covered.version == INDEX_VERSION => Ok(Some(covered)),
                _ => Err(self.damaged("`covered` is no covered range")),
            }
        })
    }

    fn flush(&self) -> Result<()> {
        self.guarded(|sled| sled.db.flush().map(|_| ()).map_err(self.ours()))
    }

    fn for_each_claim(&self, visit: &mut ClaimVisitor<'_>) -> Result<()> {
        self.guarded(|sled| {
            for entry in &sled.dedup {
                let (key, value) = entry.map_err(self.ours())?;
                visit(&key, self.decode(&value)?)?;
            }
            Ok(())
        })
    }

    fn for_each_block(&self, visit: &mut BlockVisitor<'_>) -> Result<()> {
        self.guarded(|sled| {
            for entry in &sled.processed {
                let (key, value) = entry.map_err(self.ours())?;
                let (topic, offset) = self.decode_block_key(&key)?;
                visit(topic, offset, self.decode(&value)?)?;
            }
            Ok(())
        })
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        // A Db that panicked may panic again as it flushes; each handle alone, as two panics at
        // once would abort.
        if let Some(OpenSled { db, dedup, processed, meta }) = self.open.take() {
            for tree in [dedup, processed, meta] {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(tree)));
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
        }
    }
}
