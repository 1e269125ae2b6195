//! The filters' keeper: a thread that reads the filters of sealed generations after a start, and
//! makes one of four.
//!
//! A filter of several generations is a file in the newest one's folder. It is made from claims
//! that are durable, and believed only whole; without it, the filters that it is of are read.

use std::time::Duration;

use super::throttle::Throttle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::NICENESS_LOWEST;
use crate::store::local::format::layout::{FILTER, MERGED_FILTERS};
use crate::store::local::generation::Generation;
use crate::store::local::sealed::files::SealedFiles;
use crate::store::local::sealed::filter::Filter;
use crate::store::local::shared::Shared;
use crate::sync;

/// How often the keeper looks for filters to make one of.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many claims it reads before it looks whether the store stops.
const LOOK_EVERY_CLAIMS: usize = 1 << 16;
/// Pause after an error.
const BACK_OFF: Duration = Duration::from_secs(2);

/// The thread. Returns when the store stops.
pub(crate) fn run(shared: &Shared) {
    for id in shared.filters.unread().into_iter().rev() {
        if shared.is_stopping() {
            return;
        }
        // One that was read before may be of this generation too.
        if shared.filters.unread().contains(&id) {
            read(shared, id);
        }
    }
    sync::give_way(NICENESS_LOWEST);
    while !shared.is_stopping() {
        let pause = match shared.filters.view().mergeable().map(|ids| merge(shared, &ids)) {
            Some(Ok(())) => continue,
            Some(Err(_)) if shared.is_stopping() => return,
            Some(Err(e)) => {
                tracing::warn!(error = %e, "filters could not be made one; they are used as they are");
                BACK_OFF
            }
            None => LOOK_EVERY,
        };
        sync::park_timeout(pause);
    }
}

/// Reads the widest filter that ends with a generation. The checkpoint rebuilds a damaged
/// one of that generation alone, with its maps.
fn read(shared: &Shared, id: u64) {
    let Some(generation) = shared.generation(id) else { return };
    let entry = generation.entry();
    let files = shared.sealed_files(&generation, &entry);
    for name in MERGED_FILTERS {
        let filter = files.has(name).and_then(|is_there| match is_there {
            true => merged(shared, &files, name).map(Some),
            false => Ok(None),
        });
        match filter {
            Ok(Some(filter)) => return shared.filters.add(filter),
            Ok(None) => {}
            Err(e) => tracing::warn!(generation = id, error = %e, "the filters it is of are read instead"),
        }
    }
    match files.filter() {
        Ok(filter) => shared.filters.add(filter),
        Err(e) => {
            tracing::warn!(generation = id, error = %e, "a sealed index is rebuilt from its journal");
            generation.begin_rebuild();
        }
    }
}

/// A filter of several generations, each of which is there and has been sealed.
fn merged(shared: &Shared, files: &SealedFiles<'_>, name: &str) -> Result<Filter> {
    let filter = files.read_filter(name)?;
    let is_one = |(id, nonce): &(u64, u64)| {
        shared.generation(*id).is_some_and(|generation| generation.is_sealed() && generation.nonce == *nonce)
    };
    match filter.generations().iter().all(is_one) {
        true => Ok(filter),
        false => Err(Error::new(ErrorKind::Corrupt, format!("{name} is of other generations"))),
    }
}

/// Makes one filter of several generations from their claims.
fn merge(shared: &Shared, ids: &[u64]) -> Result<()> {
    let missing = || Error::new(ErrorKind::Corrupt, "a generation whose filter is in use is gone");
    let generations =
        ids.iter().map(|id| shared.generation(*id)).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
    let maps = generations
        .iter()
        .map(|generation| generation.maps())
        .collect::<Option<Vec<_>>>()
        .ok_or_else(missing)?;
    let stopping = || Error::new(ErrorKind::Stopping, "the store stops");
    // Without what holes burnt, which may be numbered in thousands of millions.
    let claims = maps.iter().map(|maps| maps.claims()).sum();
    // One generation for four of them, two for sixteen, four for 64: meanwhile so many filters
    // gather that others must ask, too.
    let (begin, time) = (shared.filled(), (ids.len() as f64).sqrt() / 2.0);
    let throttle = Throttle::new(&*shared.seams.clock, claims, || shared.elapsed(begin, time));
    let hashes = maps.iter().map(|maps| {
        let hashes = maps.hashes().inspect(|_| throttle.done(1)).enumerate();
        hashes.map(|(i, hash)| match i % LOOK_EVERY_CLAIMS == 0 && shared.is_stopping() {
            true => Err(stopping()),
            false => hash,
        })
    });
    let keys = generations.iter().map(|generation| (generation.id, generation.nonce)).collect();
    let filter = Filter::build(keys, claims, hashes.collect()).inspect_err(|e| {
        if e.kind() == ErrorKind::Corrupt {
            // Which one is damaged is seen when each is looked at.
            generations.iter().for_each(|generation| doubt_if_damaged(generation));
        }
    })?;
    let Some(newest) = generations.last() else { return Ok(()) };
    let entry = newest.entry();
    let name = format!("{FILTER}-{}", ids.len());
    // The file only saves the next start the others. On a disk that gets full it is not worth the
    // room.
    let written =
        shared.preallocation.free().and_then(|(free, reserve)| match free > reserve + filter.bytes() {
            true => shared.sealed_files(newest, &entry).write_filter(&name, &filter),
            false => Err(Error::new(
                ErrorKind::NoSpace,
                format!("{free} bytes are free, {reserve} are kept for sealing"),
            )),
        });
    if let Err(e) = written {
        tracing::warn!(error = %e, "{name} is not written; the next start reads the filters that it is of");
    }
    tracing::info!(first = ids.first(), last = ids.last(), claims, "filters were made one");
    shared.filters.add(filter);
    Ok(())
}

/// Has the checkpoint rebuild the maps of a generation if they can't be read.
fn doubt_if_damaged(generation: &Generation) {
    if generation.maps().is_some_and(|maps| maps.verify(&|_| {}).is_err()) {
        generation.begin_rebuild();
    }
}
