//! Handles of immutable files that are open only while they are used: 500 sealed generations of
//! three files each must not hold 1,500 descriptors.
//!
//! A clock: a file that was read since the hand last passed stays open, another one is closed to
//! make room.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use crate::disk::{Disk, DiskFile, Open};
use crate::error::{During, Result};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Files kept open at once by default.
pub const OPEN_FILES_MAX: usize = 128;

#[derive(Debug)]
struct Handle {
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    used: AtomicBool,
}

/// Opens files for reading and keeps a bounded number of them open.
#[derive(Debug)]
pub struct FileCache {
    disk: Arc<dyn Disk>,
    capacity: usize,
    /// Handles whose file is open. Locked before a handle, never after.
    ring: Mutex<VecDeque<Weak<Handle>>>,
}

/// A file that is opened when it is read.
#[derive(Debug)]
pub struct CachedFile {
    cache: Arc<FileCache>,
    path: PathBuf,
    handle: Arc<Handle>,
}

impl FileCache {
    /// A cache of at most `capacity` open files (at least one).
    pub fn new(disk: Arc<dyn Disk>, capacity: usize) -> Arc<Self> {
        Arc::new(Self { disk, capacity: capacity.max(1), ring: Mutex::default() })
    }

    /// A handle of the file at `path`, which is opened when it is first read.
    pub fn file(self: &Arc<Self>, path: &Path) -> CachedFile {
        let handle = Arc::new(Handle { file: Mutex::default(), used: AtomicBool::new(false) });
        CachedFile { cache: self.clone(), path: path.to_owned(), handle }
    }

    /// A handle that is open already, for tests that watch a file being read.
    #[cfg(test)]
    pub(crate) fn preopened(self: &Arc<Self>, path: &Path, file: Arc<dyn DiskFile>) -> CachedFile {
        let handle = Arc::new(Handle { file: Mutex::new(Some(file)), used: AtomicBool::new(false) });
        CachedFile { cache: self.clone(), path: path.to_owned(), handle }
    }

    /// Closes files until there is room for one.
    fn make_room(&self, ring: &mut VecDeque<Weak<Handle>>) {
        let mut spared = 0;
        while ring.len() >= self.capacity {
            let Some(handle) = ring.pop_front().and_then(|handle| handle.upgrade()) else { continue };
            if handle.used.swap(false, Ordering::Relaxed) && spared < self.capacity {
                spared += 1;
                ring.push_back(Arc::downgrade(&handle));
            } else {
                handle.file.lock().take();
            }
        }
    }
}

impl CachedFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    ///
    /// # Errors
    /// `Io` if it can't be opened.
    pub fn get(&self) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.handle.file.lock().clone() {
            self.handle.used.store(true, Ordering::Relaxed);
            return Ok(file);
        }
        let opened = self.cache.disk.open(&self.path, Open::Random).during("open", &self.path)?;
        let mut ring = self.cache.ring.lock();
        self.cache.make_room(&mut ring);
        let mut file = self.handle.file.lock();
        if let Some(file) = &*file {
            return Ok(file.clone()); // another thread was faster
        }
        *file = Some(opened.clone());
        ring.push_back(Arc::downgrade(&self.handle));
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    #[test]
    fn more_files_than_may_be_open_are_all_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FileCache::new(Arc::new(SystemDisk), 3);
        let files: Vec<_> = (0..10)
            .map(|i| {
                let path = dir.path().join(i.to_string());
                std::fs::write(&path, [i]).unwrap();
                cache.file(&path)
            })
            .collect();
        for round in 0..30 {
            let i = round * 7 % 10;
            let mut byte = [0];
            files[i].get().unwrap().read_exact_at(&mut byte, 0).unwrap();
            assert_eq!(byte, [i as u8]);
            let open = files.iter().filter(|file| file.handle.file.lock().is_some()).count();
            assert!(open <= 3, "{open} files are open");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let cache = FileCache::new(Arc::new(SystemDisk), 3);
        let error = cache.file(Path::new("/nowhere/claims")).get().unwrap_err();
        assert!(error.to_string().contains("/nowhere/claims"), "{error}");
    }
}
