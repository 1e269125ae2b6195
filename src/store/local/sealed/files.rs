//! The files of a sealed generation: how they are opened and written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::{Filter, GenerationKey};
use super::maps::{BLOCK_KEY_BYTES, CLAIM_KEY_BYTES, FRAME_KEY_BYTES, SealedMaps};
use super::open_files::FileCache;
use super::sorted_file::writer::write;
use super::sorted_file::{Kind, Shape, SortedFile};
use crate::disk::{self, Behind, Disk, Open, is_temporary};
use crate::error::{During, Error, Result};
use crate::store::local::format::claim::{BlockLocation, Claim, FrameLocation};
use crate::store::local::format::codec::FixedRecord;
use crate::store::local::format::hash::Secret;
use crate::store::local::format::layout::{
    CLAIMS, FILTER, FRAMES, JOURNAL, MERGED_FILTERS, PROCESSED, folder,
};
use crate::store::local::format::manifest::{Closed, Entry, Hole};

/// What it began with before format 3.
const BLOOM_MAGIC: [u8; 4] = *b"sKlB";

/// Which generation of which store, for what is read and written of it.
#[derive(Clone, Debug)]
pub(crate) struct SealedFiles<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) files: &'a Arc<FileCache>,
    pub(crate) data_dir: &'a Path,
    pub(crate) store_id: [u8; 16],
    pub(crate) secret: &'a Secret,
    pub(crate) entry: &'a Entry,
    pub(crate) closed: Closed,
    /// Those in its journal.
    pub(crate) holes: Arc<[Hole]>,
}

impl SealedFiles<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        folder(self.data_dir, self.entry.id).join(name)
    }

    fn shape(&self, kind: Kind) -> Shape {
        let (key_width, value_width) = match kind {
            Kind::Claims => (CLAIM_KEY_BYTES, Claim::BYTES),
            Kind::Processed => (BLOCK_KEY_BYTES, BlockLocation::BYTES),
            Kind::Frames => (FRAME_KEY_BYTES, FrameLocation::BYTES),
        };
        Shape { kind, key_width, value_width, store_id: self.store_id, nonce: self.entry.nonce }
    }

    /// Opens the maps.
    ///
    /// # Errors
    /// `Corrupt` if a file is missing, of another generation, or not what it should hold; `Io`.
    pub(crate) fn open(&self) -> Result<SealedMaps> {
        let maps = SealedMaps {
            journal: self.files.file(&self.path(JOURNAL)),
            claims: self.open_map(Kind::Claims, CLAIMS)?,
            processed: self.open_map(Kind::Processed, PROCESSED)?,
            frames: self.open_map(Kind::Frames, FRAMES)?,
        };
        match maps.claims.count() == self.claims() {
            true => Ok(maps),
            false => Err(Error::corrupt(&self.path(CLAIMS), 0, "not as many claims as MANIFEST says")),
        }
    }

    /// Reads the filter.
    ///
    /// # Errors
    /// As [`SealedFiles::open`].
    pub(crate) fn filter(&self) -> Result<Filter> {
        let filter = self.read_filter(FILTER)?;
        match (filter.claims(), filter.generations()) == (self.claims(), &[self.key()]) {
            true => Ok(filter),
            false => Err(Error::corrupt(&self.path(FILTER), 0, "not of as many claims as MANIFEST says")),
        }
    }

    /// Whether the filter is of a format before this one: a start that was killed has written
    /// MANIFEST again, and not all filters. The next one rebuilds it.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn has_older_filter(&self) -> Result<bool> {
        let path = self.path(FILTER);
        let mut magic = [0; BLOOM_MAGIC.len()];
        let file = self.disk.open(&path, Open::Read).during("open", &path)?;
        file.read_exact_at(&mut magic, 0).during("read", &path)?;
        Ok(magic == BLOOM_MAGIC)
    }

    /// Reads a filter whose newest generation is this one; of which others it is, the caller
    /// checks.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn read_filter(&self, name: &str) -> Result<Filter> {
        let path = self.path(name);
        let bytes = disk::read(&**self.disk, &path).during("read", &path)?;
        Filter::decode(&path, &bytes, self.store_id, self.entry.nonce)
    }

    /// Rebuilds the filter from the claims, which are sound.
    ///
    /// # Errors
    /// `Corrupt` if they are not; `NoSpace`, `Io`.
    pub(crate) fn renew_filter(&self, maps: &SealedMaps) -> Result<()> {
        let filter = Filter::build(vec![self.key()], self.claims(), vec![maps.hashes()])?;
        self.write_filter(FILTER, &filter)
    }

    /// Writes a filter; the caller makes its name durable.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn write_filter(&self, name: &str, filter: &Filter) -> Result<()> {
        self.replace(name, |path| {
            let mut file = Behind::new(self.disk.open(path, Open::New).during("create", path)?, 0);
            filter.encode(self.store_id, |piece| file.write(piece).during("write to", path))?;
            file.finish().during("sync", path)
        })
    }

    /// Has a file written under another name, which then takes the place of what there was. Those
    /// who read the one before read all of it, however often they open it.
    fn replace(&self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path(name);
        self.remove_temporaries(name)?;
        let temporary = disk::temporary(&path).during("name a file beside", &path)?;
        let replaced =
            write(&temporary).and_then(|()| self.disk.rename(&temporary, &path).during("replace", &path));
        if replaced.is_err() {
            // It may take room that others need. What stays is removed by whoever tries again.
            let _ = self.disk.remove_file(&temporary);
        }
        replaced
    }

    /// Removes what was to replace a file when a process ended.
    fn remove_temporaries(&self, name: &str) -> Result<()> {
        let folder = folder(self.data_dir, self.entry.id);
        let names = self.disk.list(&folder).during("list", &folder)?;
        names
            .iter()
            .filter(|other| is_temporary(other, name))
            .map(|other| folder.join(other))
            .try_for_each(|left| self.disk.remove_file(&left).during("remove", &left))
    }

    /// Removes the filters that end with this generation: the next start rebuilds them from those
    /// they are of.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn remove_merged_filters(&self) -> Result<()> {
        MERGED_FILTERS.into_iter().try_for_each(|name| {
            let path = self.path(name);
            self.disk.remove_file(&path).during("remove", &path)
        })
    }

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// `Io` if it can't be told.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        self.disk.presence(&path).during("look for", &path)
    }

    /// Events that it holds.
    pub(crate) fn claims(&self) -> u64 {
        self.closed.events - self.holes.iter().map(Hole::events).sum::<u64>()
    }

    /// What filters call this generation.
    pub(crate) fn key(&self) -> GenerationKey {
        (self.entry.id, self.entry.nonce)
    }

    fn open_map(&self, kind: Kind, name: &str) -> Result<SortedFile> {
        SortedFile::open(self.files, &self.path(name), self.shape(kind))
    }

    pub(crate) fn write_map<K: AsRef<[u8]>>(
        &self,
        kind: Kind,
        name: &str,
        records: impl Iterator<Item = (K, Vec<u8>)>,
    ) -> Result<()> {
        let write = |path: &Path| write(&**self.disk, path, self.shape(kind), records).map(|_| ());
        self.replace(name, write)
    }
}
