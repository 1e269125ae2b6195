//! MANIFESTs that were written and did not get into their place: the process was killed before it
//! renamed them, or the power went before the new name was durable.
//!
//! Once MANIFEST is there, durably, they are of no use. Where it is missing, one of them may be all
//! that knows the store.

use std::path::{Path, PathBuf};

use super::layout::MANIFEST;
use super::manifest::Manifest;
use crate::disk::{Disk, is_temporary};
use crate::error::{During, Error, ErrorKind, Result};

/// A MANIFEST that is whole, but not in its place.
#[derive(Debug)]
pub(crate) struct Stray {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
}

/// Paths of all that was to become MANIFEST in `dir`.
fn paths(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    let names = disk.list(dir).during("list", dir)?;
    Ok(names.iter().filter(|name| is_temporary(name, MANIFEST)).map(|name| dir.join(name)).collect())
}

/// The newest that is whole: generations are only added, then sealed, then given up in part.
///
/// # Errors
/// `Io` if the directory can't be listed.
pub(crate) fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<Stray>> {
    let whole = paths(disk, dir)?.into_iter().filter_map(|path| {
        let manifest = Manifest::read_from(disk, &path).ok()?;
        Some(Stray { path, manifest })
    });
    let age = |manifest: &Manifest| {
        let sealed = manifest.generations.iter().filter(|entry| entry.sealed).count();
        (manifest.generations.len(), sealed, manifest.holes.len())
    };
    Ok(whole.max_by_key(|stray| age(&stray.manifest)))
}

/// Removes them all: MANIFEST is in its place, durably, and is not the work of what they are of.
///
/// # Errors
/// `Io`.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<()> {
    paths(disk, dir)?.iter().try_for_each(|path| {
        tracing::info!(path = %path.display(), "left by a process that was killed; MANIFEST is in its place");
        disk.remove_file(path).during("remove", path)
    })
}

/// There is no MANIFEST, and something shows that there was one.
pub(crate) fn missing(shows: &Path, how: &str, cure: &str) -> Error {
    let message = format!("{} {how}, but {MANIFEST} is missing: {cure}", shows.display());
    Error::new(ErrorKind::Corrupt, message)
}

/// What helps where MANIFEST is missing.
pub(crate) fn cure_of_missing(disk: &dyn Disk, dir: &Path) -> Result<String> {
    Ok(match newest(disk, dir)? {
        Some(Stray { path, .. }) => format!(
            "{} is a whole one that did not get into its place: `sekali repair` says what it holds, `sekali repair --accept-loss` puts \
             it there",
            path.display()
        ),
        None => "restore it, or begin a new store in another directory".to_owned(),
    })
}
