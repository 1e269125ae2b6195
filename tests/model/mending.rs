//! What makes, starts, upgrades, rebuilds or repairs a store breaks off at any operation of the
//! disk, by a kill or a power cut, or one of its calls fails. Done again, it ends as if the first
//! had not been; what repair says is the same.

use std::path::Path;

use fastrand::Rng;
use sekali::disk::{Disk, Open, read};
use sekali::error::{Error, ErrorKind};
use sekali::store::StoredEvent;
use sekali::store::local::repair::{Repaired, repair};
use sekali::store::local::{rebuild, verify};

use super::expected::{Verdict, require};
use super::flaw::Flaw;
use super::runtime::{blocking, simulate, wait};
use super::traffic;
use super::world::{World, listing, patiently};
use crate::support::golden;
use crate::support::mem_disk::{Call, Fault, MemDisk};

/// Batches in a store.
const BATCHES: usize = 12;
/// Events in a generation: several are sealed.
const GENERATION_EVENTS: u64 = 20;
/// Longer than anything waits that is done when nothing comes.
const REST: std::time::Duration = std::time::Duration::from_secs(3);

/// What is done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The first start, in no directory.
    Create,
    /// A start, after a kill.
    Start,
    /// The first start with this version.
    Upgrade,
    /// The work of `sekali rebuild`.
    Rebuild,
    /// The work of `sekali repair --accept-loss`.
    Repair,
    /// A start without MANIFEST, which is refused.
    Refuse,
}

impl Work {
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Start, Self::Upgrade, Self::Rebuild, Self::Repair, Self::Refuse];
}

/// How it breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Kill,
    Cut,
    Error(Call, i32),
}

/// A store that work can be done to, and what is seen of it when that has been done without a
/// fault.
#[derive(Debug)]
pub struct Job {
    work: Work,
    seed: u64,
    disk: MemDisk,
    /// What a repair says.
    repaired: Option<Repaired>,
    events: Vec<StoredEvent>,
    operations: u64,
    calls: Vec<(Call, u64)>,
}

fn stopped(disk: MemDisk) -> Verdict<World> {
    let mut world = World::stopped(Flaw::None, GENERATION_EVENTS);
    world.replug(disk)?;
    Ok(world)
}

fn close(world: &mut World) -> Verdict<MemDisk> {
    world.close()?;
    Ok(world.disk.clone())
}

/// A stopped store, all of which is durable.
fn store(seed: u64, is_closed: bool, batches: usize) -> Verdict<MemDisk> {
    let (mut world, rng) = (World::stopped(Flaw::None, GENERATION_EVENTS), &mut Rng::with_seed(seed));
    world.try_open()?.map_err(|e| format!("a new store does not open: {e}"))?;
    for number in 0..batches {
        let batch = traffic::batch(rng, &world.expected, &[]);
        world.append(&batch)?.map_err(|kind| format!("a healthy store refuses: {kind:?}"))?;
        if number % 5 == 4 || number + 1 == batches {
            sekali::sync::sleep(REST);
        }
    }
    let disk = match is_closed {
        true => close(&mut world)?,
        false => world.disk.clone(),
    };
    Ok(disk.crash(seed))
}

/// One or two journals are damaged, cut or lost.
fn damage(disk: &MemDisk, rng: &mut Rng) -> Verdict {
    let failed = |e: std::io::Error| format!("the model's disk: {e}");
    let mut journals = disk.files();
    journals.retain(|path| {
        path.ends_with("journal") && read(disk, path).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    });
    for _ in 0..rng.usize(1..3) {
        let path = &journals[rng.usize(..journals.len())];
        match rng.u8(..6) {
            0 => {
                disk.remove_file(path).map_err(failed)?;
                disk.sync_dir(path.parent().unwrap_or(path)).map_err(failed)?;
                journals.retain(|journal| disk.presence(journal).unwrap_or(false));
                if journals.is_empty() {
                    break;
                }
            }
            1 => {
                let file = disk.open(path, Open::Write).map_err(failed)?;
                let written = read(disk, path).map_err(failed)?.iter().rposition(|byte| *byte != 0);
                file.set_len(rng.u64(..=written.unwrap_or(0) as u64)).map_err(failed)?;
                file.sync().map_err(failed)?;
            }
            _ => disk.turn(path, rng.usize(..), 1 << rng.u8(..8)),
        }
    }
    Ok(())
}

/// A directory of an older version, durable.
fn golden_store(seed: u64) -> Verdict<MemDisk> {
    let (disk, all) = (MemDisk::new(), golden::directories());
    let from = &all[(seed % all.len() as u64) as usize];
    let mut files = Vec::new();
    golden::files(from, &mut files);
    let failed = |e: std::io::Error| format!("the model's disk: {e}");
    for file in files {
        let at = Path::new("/data").join(file.strip_prefix(from).unwrap_or(&file));
        let dir = at.parent().unwrap_or(&at);
        disk.create_dir_all(dir).map_err(failed)?;
        let made = disk.open(&at, Open::New).map_err(failed)?;
        made.write_all_at(&std::fs::read(&file).map_err(failed)?, 0).map_err(failed)?;
        made.sync().map_err(failed)?;
        for dir in at.ancestors().skip(1) {
            disk.sync_dir(dir).map_err(failed)?;
        }
    }
    Ok(disk.crash(seed))
}

/// Does it; what a repair has said.
fn perform(work: Work, world: &mut World) -> Verdict<Result<Option<Repaired>, Error>> {
    let (options, seams) = (world.options().clone(), world.seams());
    match work {
        Work::Create | Work::Start | Work::Upgrade | Work::Refuse => Ok(world.try_open()?.map(|()| None)),
        Work::Rebuild => {
            let done = blocking("rebuild", move || rebuild::rebuild(&options, &seams, &|_, _| ()))?;
            Ok(done.map(|_| None))
        }
        Work::Repair => Ok(blocking("repair", move || repair(&options, &seams, true, &|_, _| ()))?.map(Some)),
    }
}

/// All events of a store that is sound.
fn examine(work: Work, disk: MemDisk) -> Verdict<Vec<StoredEvent>> {
    let mut world = stopped(disk)?;
    world.try_open()?.map_err(|e| format!("it does not start ({:?}): {e}", e.kind()))?;
    let events = wait("listing", patiently(|| listing(world.store())))?.map_err(|e| e.to_string())?;
    let unique = world.stats()?.totals.unique_processed;
    require(unique == events.len() as u64, || format!("it counts {unique} of {} events", events.len()))?;
    if work == Work::Upgrade {
        if !cfg!(feature = "simulation") {
            return Ok(events);
        }
        // Filters of an older version are rebuilt meanwhile.
        sekali::sync::sleep(REST);
    }
    world.close()?;
    let (options, seams) = (world.options().clone(), world.seams());
    let report = blocking("verify", move || verify::verify(&options, &seams, &|_, _| ()))?;
    let faults = report.map_err(|e| format!("verify fails: {e}"))?.faults;
    require(faults.is_empty(), || format!("verify finds {faults:?}"))?;
    Ok(events)
}

/// A store and the work to be done to it; `None` if its damage is none, or more than repair can
/// mend.
pub fn prepare(work: Work, seed: u64) -> Verdict<Option<Job>> {
    simulate(seed, move || {
        let rng = &mut Rng::with_seed(seed);
        let disk = match work {
            Work::Create => MemDisk::new(),
            Work::Upgrade => golden_store(seed)?,
            Work::Repair => {
                let disk = store(seed, rng.bool(), BATCHES)?;
                damage(&disk, rng)?;
                disk
            }
            // Some have one generation only.
            Work::Refuse => store(seed, rng.bool(), [1, BATCHES][(seed % 2) as usize])?,
            _ => store(seed, rng.bool(), BATCHES)?,
        };
        let mut events = Vec::new();
        if work == Work::Refuse {
            events = examine(work, disk.copy())?;
            hide_manifest(&disk)?;
        }
        let mut world = stopped(disk.copy())?;
        let done = perform(work, &mut world)?;
        let (operations, calls) =
            (world.disk.operations(), Call::ALL.map(|call| (call, world.disk.calls(call))).to_vec());
        let repaired = match (done, work) {
            (Err(_), Work::Refuse) => None,
            (Err(e), Work::Repair) if e.kind() == ErrorKind::Corrupt => return Ok(None),
            (Err(e), _) => return Err(format!("{work:?} fails: {e}")),
            (Ok(Some(repaired)), _) if repaired.losses.is_empty() => return Ok(None),
            (Ok(repaired), _) => repaired,
        };
        if work != Work::Refuse {
            events = examine(work, world.disk.kill())?;
        }
        Ok(Some(Job { work, seed, disk: disk.copy(), repaired, events, operations, calls }))
    })
}

fn hide_manifest(disk: &MemDisk) -> Verdict {
    let dir = Path::new("/data");
    disk.rename(&dir.join("MANIFEST"), &dir.join("hidden"))
        .and_then(|()| disk.sync_dir(dir))
        .map_err(|e| format!("the model's disk: {e}"))
}

impl Job {
    /// Each way in which it can break off or fail, and where.
    pub fn ends(&self) -> Vec<(End, u64)> {
        let kills = (0..self.operations).flat_map(|at| [(End::Kill, at), (End::Cut, at)]);
        kills.chain(self.errors()).collect()
    }

    /// Each call that can fail.
    pub fn errors(&self) -> Vec<(End, u64)> {
        let fails = |(call, count): &(Call, u64)| {
            let call = *call;
            (0..*count).map(move |at| (End::Error(call, Fault::CODES[(at % 3) as usize]), at))
        };
        self.calls.iter().flat_map(fails).collect()
    }

    /// Has it break off, and does it again. Returns whether the fault has come.
    pub fn play(&self, end: End, at: u64) -> Verdict<bool> {
        let (work, seed, repaired) = (self.work, self.seed, self.repaired.clone());
        let (disk, events) = (self.disk.copy(), self.events.clone());
        let played = simulate(seed ^ at, move || {
            let mut world = stopped(disk.copy())?;
            world.disk.plan(match end {
                End::Kill | End::Cut => Fault::DeadAt { at },
                End::Error(call, code) => Fault::Call { call, at, code },
            });
            let first = perform(work, &mut world)?;
            let has_come = match end {
                End::Error(..) => world.disk.failed_calls() > 0,
                End::Kill | End::Cut => world.disk.operations() > at,
            };
            if let Err(e) = &first {
                let is_clear = e.to_string().contains("cure the disk") || e.kind() == ErrorKind::Unusable;
                let is_refused = work == Work::Refuse && e.kind() == ErrorKind::Corrupt;
                require((e.kind() != ErrorKind::Corrupt && is_clear) || is_refused, || {
                    format!("it ends as {:?}: {e}", e.kind())
                })?;
            }
            let found = match end {
                End::Cut => world.disk.crash(seed ^ at),
                End::Kill | End::Error(..) => world.disk.kill(),
            };
            drop(world);
            let mut world = stopped(found)?;
            if work == Work::Refuse {
                require(first.is_err(), || "a store is made over what was there".into())?;
                let dir = Path::new("/data");
                let back = world.disk.rename(&dir.join("hidden"), &dir.join("MANIFEST"));
                back.map_err(|e| format!("the model's disk: {e}"))?;
            } else {
                let second = perform(work, &mut world)?.map_err(|e| format!("again it fails: {e}"))?;
                if let (Some(expected), Some(second)) = (&repaired, &second) {
                    same_report(expected, second)?;
                }
                // The power goes: what the second found and left must be durable.
                let found = world.disk.crash(seed);
                drop(world);
                world = stopped(found)?;
            }
            let found = examine(work, world.disk.kill())?;
            require(found == events, || {
                format!("{} events are there, and {} should be", found.len(), events.len())
            })?;
            Ok(has_come)
        });
        played.map_err(|why| format!("SEKALI_SEED={seed}, {work:?}, {end:?} at {at}: {why}"))
    }
}

/// A second repair says what the first would have said, be it that the first has done it.
fn same_report(expected: &Repaired, second: &Repaired) -> Verdict {
    let told = if second.losses.is_empty() { &second.given_up } else { &second.losses };
    let is_same = told == &expected.losses
        && (second.events, &second.salvaged) == (expected.events, &expected.salvaged);
    require(is_same, || format!("it says {second:?}, and first said {expected:?}"))
}
