//! What lies beside the journal: names that are not durable yet, the lock, journals that are gone,
//! cursors of another life.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use sekali::disk::Disk;
use sekali::error::ErrorKind;
use sekali::store::{EventStore, Health, Query};

use super::expected::{Verdict, require};
use super::flaw::Flaw;
use super::runtime::wait;
use super::traffic;
use super::world::World;
use crate::support::mem_disk::Fault;

const DATA: &str = "/data";
/// Events at which a generation is full: several begin in a few batches.
const GENERATION_EVENTS: u64 = 5;
/// In this time the store has looked whether it is where it was, whatever the scheduler thinks of
/// it.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

fn fill(world: &mut World, batches: usize, rng: &mut Rng) -> Verdict<Result<(), ErrorKind>> {
    for _ in 0..batches {
        let batch = traffic::batch(rng, &world.expected, &[]);
        if let Err(kind) = world.append(&batch)? {
            return Ok(Err(kind));
        }
    }
    Ok(Ok(()))
}

/// The process is killed at a sync; the next one finds all that it wrote, on a disk so full that it
/// makes no generation ready; events are answered, and the power goes. Says whether there was such
/// a sync.
pub fn cut_after_kill(at: u64, seed: u64) -> Verdict<bool> {
    let rng = &mut Rng::with_seed(seed);
    let mut world = World::stopped(Flaw::None, GENERATION_EVENTS);
    world.disk.plan(Fault::DeadAtSync { at });
    let opened = world.try_open()?;
    let has_died = opened.is_err() || fill(&mut world, 6, rng)?.is_err() || world.disk.syncs() > at;
    world.kill()?;
    let room: u64 = 1 << 40;
    world.disk.set_capacity(Some(room));
    let free = world.disk.free_bytes(Path::new(DATA)).map_err(|e| e.to_string())?;
    world.disk.set_capacity(Some(room - free + 1_000));
    if world.try_open()?.is_ok() {
        world.audit()?;
        // Whatever is answered.
        let _ = fill(&mut world, 2, rng)?;
    }
    world.cut(rng)?;
    world.disk.set_capacity(None);
    world.start(rng)?;
    Ok(has_died)
}

/// `LOCK` is removed under a running store: nobody else gets in, and the store sees it.
pub fn lock_removed(seed: u64) -> Verdict {
    let mut world = World::new(Flaw::None, seed)?;
    world.disk.remove_file(&Path::new(DATA).join("LOCK")).map_err(|e| e.to_string())?;
    let first = world.store();
    let second = world.try_open()?.map_err(|e| e.kind());
    require(second == Err(ErrorKind::Locked), || format!("a second process gets {second:?}"))?;
    let seen = wait("failed()", async move { sekali::sync::timeout(SEEN_WITHIN, first.failed()).await })?;
    require(seen.is_some(), || "the store does not see that its lock is gone".into())?;
    let health = world.store().health();
    require(matches!(health, Health::NotReady(_)), || format!("a store without its lock is {health:?}"))
}

/// A sealed journal is gone while the store is stopped: its events are not said to be there.
pub fn sealed_journal_removed(seed: u64) -> Verdict {
    let rng = &mut Rng::with_seed(seed);
    let mut world = World::stopped(Flaw::None, GENERATION_EVENTS);
    world.try_open()?.map_err(|e| e.to_string())?;
    let (data, first) = (Path::new(DATA), Path::new(DATA).join("gen-000001"));
    let sealed = (0..100).find_map(|_| {
        let filled = fill(&mut world, 1, rng);
        sekali::sync::sleep(Duration::from_millis(100));
        let is_sealed = world.disk.presence(&first.join("filter")).is_ok_and(|is_there| is_there);
        (filled.is_err() || is_sealed).then_some(filled)
    });
    sealed.ok_or("no generation is sealed")??.map_err(|kind| format!("{kind:?}"))?;
    world.close()?;
    let names = world.disk.list(data).map_err(|e| e.to_string())?;
    require(names.len() > 3, || format!("only {names:?}"))?;
    world.disk.remove_file(&first.join("journal")).map_err(|e| e.to_string())?;
    let opened = world.try_open()?.map_err(|e| e.kind());
    require(opened == Err(ErrorKind::Corrupt), || {
        format!("a start without a sealed journal ends with {opened:?}")
    })
}

/// A reader comes back with a cursor to a store that was restored from an older copy.
pub fn restored(seed: u64) -> Verdict {
    let rng = &mut Rng::with_seed(seed);
    let mut world = World::new(Flaw::None, seed)?;
    fill(&mut world, 3, rng)?.map_err(|kind| format!("{kind:?}"))?;
    let older = world.store();
    let then = wait("end", async move { older.end(None).await })?.map_err(|e| e.to_string())?;
    let copy = world.disk.copy();
    let mut now = then.clone();
    while now == then {
        fill(&mut world, 1, rng)?.map_err(|kind| format!("{kind:?}"))?;
        let store = world.store();
        now = wait("end", async move { store.end(None).await })?.map_err(|e| e.to_string())?;
    }
    world.kill()?;
    world.replug(copy.kill())?;
    world.try_open()?.map_err(|e| e.to_string())?;
    for (cursor, expected) in [(then, None), (now, Some(ErrorKind::ExpiredCursor))] {
        let (store, query) = (world.store(), Query { cursor: Some(cursor), limit: 10, ..Query::default() });
        let read = wait("a page", async move { store.read(query).await })?;
        let failed = read.err().map(|e| e.kind());
        require(failed == expected, || format!("a cursor of another life: {failed:?}, not {expected:?}"))?;
    }
    Ok(())
}
