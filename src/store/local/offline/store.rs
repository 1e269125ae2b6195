//! Opening a store that no process serves, to look into it or to mend it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk, Open};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::hold::Hold;
use crate::store::local::format::layout::{MANIFEST, journal_path};
use crate::store::local::format::manifest::{Closed, Entry, Manifest};
use crate::store::local::format::stray::{self, Stray};
use crate::store::local::open::data_dir;
use crate::store::local::options::{Options, Seams};
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::open_files::FileCache;

/// Is told how many bytes of journal are done, of how many.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// What is said where the operating system keeps a store from being opened.
const UNCHANGED: &str = "nothing was changed: cure the disk or the permissions, then try again";

fn none(options: &Options) -> Error {
    let message = format!("there is no store in {}", options.data_dir.display());
    Error::new(ErrorKind::Unusable, message)
}

/// As [`open`]. Where MANIFEST is missing, with the newest that is whole but not in its place.
pub(crate) fn open_for_repair(
    options: &Options,
    disk: &dyn Disk,
) -> Result<(Hold, Manifest, Option<PathBuf>)> {
    let opened = || {
        let dir = &options.data_dir;
        let path = dir.join(MANIFEST);
        if !disk.presence(dir).during("look for", dir)? {
            return Err(none(options));
        }
        let is_missing = disk::is_absent(disk, &path).during("look for", &path)?;
        if !is_missing || stray::newest(disk, dir)?.is_none() {
            return open(options, disk).map(|(hold, manifest)| (hold, manifest, None));
        }
        let hold = data_dir::take(&Options { must_exist: false, ..options.clone() }, disk)?;
        if let Some(manifest) = Manifest::read(disk, dir)? {
            return Ok((hold, manifest, None));
        }
        let Stray { path, manifest } = stray::newest(disk, dir)?.ok_or_else(|| none(options))?;
        Ok((hold, manifest, Some(path)))
    };
    opened().map_err(|e| e.with_cure(UNCHANGED))
}

pub(crate) fn open(options: &Options, disk: &dyn Disk) -> Result<(Hold, Manifest)> {
    let opened = || {
        let dir = &options.data_dir;
        if !disk.presence(dir).during("look for", dir)? {
            return Err(none(options));
        }
        let hold = data_dir::take(&Options { must_exist: true, ..options.clone() }, disk)?;
        let manifest = Manifest::read(disk, dir)?.ok_or_else(|| none(options))?;
        Ok((hold, manifest))
    };
    opened().map_err(|e| e.with_cure(UNCHANGED))
}

pub(crate) fn journal_bytes(options: &Options, disk: &dyn Disk, manifest: &Manifest) -> u64 {
    let length = |entry: &Entry| match entry.closed {
        Some(closed) => closed.end,
        None => {
            let path = journal_path(&options.data_dir, entry.id);
            disk.open(&path, Open::Read).and_then(|file| file.len()).unwrap_or(0)
        }
    };
    manifest.generations.iter().map(length).sum()
}

pub(crate) fn sealed_files<'a>(
    options: &'a Options,
    seams: &'a Seams,
    files: &'a Arc<FileCache>,
    manifest: &Manifest,
    secret: &'a Secret,
    (entry, closed): (&'a Entry, Closed),
) -> SealedFiles<'a> {
    let (data_dir, store_id) = (&options.data_dir, manifest.store_id());
    let holes = manifest.holes_of(entry.id);
    SealedFiles { disk: &seams.disk, files, data_dir, store_id, secret, entry, closed, holes }
}

/// Whether the live journal ends before what is known to be durable in it.
pub(crate) fn is_cut(manifest: &Manifest, found: Closed) -> bool {
    found.end == 0 || manifest.clean.is_some_and(|clean| clean.end > found.end)
}

pub(crate) fn cut(path: &Path, found: Closed) -> Error {
    Error::corrupt(path, found.end, "no valid frame, and a durable one was here")
}
