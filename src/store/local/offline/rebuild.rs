//! Rebuilding the indexes of a store from its journals.

use std::sync::Arc;

use super::store::{Progress, cut, is_cut, journal_bytes, open, sealed_files};
use super::verify::Report;
use crate::disk::{Disk, Open};
use crate::error::{During, Result};
use crate::store::local::format::hash::Secret;
use crate::store::local::format::hold::Hold;
use crate::store::local::format::layout::{INDEX, folder, journal_path};
use crate::store::local::format::manifest::{Closed, Entry, Manifest};
use crate::store::local::format::walk::{Step, Walk};
use crate::store::local::options::{Options, Seams};
use crate::store::local::sealed::open_files::{FileCache, OPEN_FILES_MAX};

/// What a rebuild says that the operating system keeps from its files.
const CURE: &str = "cure the disk or the permissions, then rebuild again: no event was touched";

/// Rebuilds the maps and filters of all sealed generations from their journals, and drops the
/// live index, which the next start rebuilds. The live journal is read for its events alone; what
/// is wrong with it is in the report.
///
/// # Errors
/// `Locked`, `Unusable`, `NoSpace`, `Io`; `Corrupt` if the journal of a closed generation is
/// damaged.
pub fn rebuild(options: &Options, seams: &Seams, progress: Progress<'_>) -> Result<Report> {
    let (hold, manifest) = open(options, &*seams.disk)?;
    renew(options, seams, &hold, manifest, progress).map_err(|e| e.with_cure(CURE))
}

fn renew(
    options: &Options,
    seams: &Seams,
    hold: &Hold,
    mut manifest: Manifest,
    progress: Progress<'_>,
) -> Result<Report> {
    let disk = &seams.disk;
    let open_files = FileCache::new(Arc::clone(disk), OPEN_FILES_MAX);
    let total = journal_bytes(options, &**disk, &manifest);
    let mut report = Report::default();
    if let Some(clean) = &mut manifest.clean {
        clean.covered = None;
    }
    manifest.write(&**disk, hold)?;
    let secret = Secret::new(manifest.secret());
    for entry in &manifest.generations {
        seams.indexes.remove(&folder(&options.data_dir, entry.id).join(INDEX))?;
        if let (Some(closed), true) = (entry.closed, entry.sealed) {
            let files = sealed_files(options, seams, &open_files, &manifest, &secret, (entry, closed));
            files.build(&|_| {})?;
            files.remove_merged_filters()?;
        }
        match entry.closed.map_or_else(|| walked(options, &**disk, &manifest, entry), Ok) {
            Ok(found) => report.add(entry, found, &manifest),
            Err(e) => {
                report.generations += 1;
                report.faults.push(e.to_string());
            }
        }
        progress(report.bytes, total);
    }
    Ok(report)
}

/// What the journal of the live generation holds.
fn walked(options: &Options, disk: &dyn Disk, manifest: &Manifest, entry: &Entry) -> Result<Closed> {
    let path = journal_path(&options.data_dir, entry.id);
    let file = disk.open(&path, Open::Read).during("open", &path)?;
    let mut walk = Walk::new(file, &path, manifest.store_id(), entry, manifest.holes_of(entry.id));
    while !matches!(walk.step()?, Step::End | Step::Nothing) {}
    walk.check_end()?;
    let found = walk.closed(0);
    if is_cut(manifest, found) { Err(cut(&path, found)) } else { Ok(found) }
}
