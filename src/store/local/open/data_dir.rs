//! Taking a data directory, and making a store where there is none.

use super::leftovers;
use crate::disk::{Disk, is_absent};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::hold::Hold;
use crate::store::local::format::layout::MANIFEST;
use crate::store::local::format::manifest::{Entry, Manifest, random_u64};
use crate::store::local::format::stray::{self, Stray, cure_of_missing, missing};
use crate::store::local::generation::head::{self, empty_table};
use crate::store::local::options::Options;

/// Makes a new store.
pub(crate) fn create(options: &Options, disk: &dyn Disk, hold: &Hold) -> Result<Manifest> {
    let dir = &options.data_dir;
    if let Some(Stray { path, manifest }) = stray::newest(disk, dir)?
        && (options.must_exist || manifest.generations.len() > 1)
    {
        return Err(missing(&path, "knows a store", &cure_of_missing(disk, dir)?));
    }
    if options.must_exist {
        let message = format!(
            "{} holds no store (no {MANIFEST}): mount the right volume, or name another directory; `sekali serve` makes a store where --must-exist is not set",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Unusable, message));
    }
    leftovers::clear_for_new_store(disk, dir, &cure_of_missing(disk, dir)?)?;
    tracing::warn!(data_dir = %dir.display(), "created a new, empty store here");
    let random = || Ok::<u128, Error>(u128::from(random_u64()?) << 64 | u128::from(random_u64()?));
    let mut manifest = Manifest::new(random()?.to_be_bytes(), random()?.to_be_bytes());
    let entry =
        Entry { id: 1, nonce: random_u64()?, first_frame: 1, first_event: 0, closed: None, sealed: false };
    head::begin_journal(disk, dir, manifest.store_id(), &entry, &empty_table())?;
    manifest.generations.push(entry);
    manifest.write(disk, hold)?;
    Ok(manifest)
}

/// Takes the data directory for this process.
///
/// # Errors
/// `Unusable` if there is no store and there must be one; else those of [`Hold::take`].
pub(crate) fn take(options: &Options, disk: &dyn Disk) -> Result<Hold> {
    let dir = &options.data_dir;
    let manifest = dir.join(MANIFEST);
    let has_manifest = || {
        let is_there = !is_absent(disk, &manifest).during("look for", &manifest)?;
        let is_nowhere = || is_absent(disk, dir).during("look for", dir);
        Ok::<_, Error>(is_there || (!is_nowhere()? && stray::newest(disk, dir)?.is_some()))
    };
    if options.must_exist && !has_manifest()? {
        let message = format!(
            "{} holds no store: mount the right volume, or name another directory; `sekali serve` makes a store where --must-exist is not set",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Unusable, message));
    }
    Hold::take(disk, dir)
}
