//! Plays a history against the store, and holds every answer against the model.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::{Either, select};
use sekali::clock::Timestamp;
use sekali::disk::Disk;
use sekali::error::{Error, ErrorKind};
use sekali::store::local::{rebuild, verify};
use sekali::store::{EventStore, Health, Stats, StoredEvent};

use super::expected::{Sent, Verdict, require};
use super::flaw::Flaw;
use super::history::{History, Kind, Step};
use super::reading;
use super::runtime::{Running, blocking, wait};
use super::traffic::{self, packed};
use super::world::{DEADLINE, World, listing, patiently};
use crate::support::mem_disk::{Call, Fault, STALL};
use crate::support::{now, until};

/// After this time without requests, nothing is left to do.
const QUIET: Duration = Duration::from_secs(3);

/// What a history comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// How often the index was asked for what it forgot.
    pub lies: u64,
    /// A digest of all that the disk was told, in order.
    pub trace: u64,
}

/// Plays it on a machine with a flaw, and says which promise was broken at which step.
pub fn play(history: &History, flaw: Flaw) -> Verdict<Played> {
    let mut world = World::new(flaw, history.seed)?;
    for (number, step) in history.steps.iter().enumerate() {
        perform(&mut world, step, flaw).map_err(|why| format!("step {number}, {:?}: {why}", step.kind))?;
    }
    world.audit().map_err(|why| format!("at the end: {why}"))?;
    world.close()?;
    Ok(Played { lies: world.lies.load(Ordering::Relaxed), trace: world.disk.trace() })
}

fn perform(world: &mut World, step: &Step, flaw: Flaw) -> Verdict {
    let rng = &mut Rng::with_seed(step.seed);
    match step.kind {
        Kind::Append => {
            let batch = traffic::batch(rng, &world.expected, &[]);
            world.append(&batch)?.map_err(|kind| format!("a healthy store refuses: {kind:?}"))?;
            world.refresh()
        }
        Kind::Burst => {
            let burst = Burst::begin(world, rng)?;
            burst.end(world)?;
            world.refresh()
        }
        Kind::Find => reading::find(world, rng),
        Kind::Read => reading::read(world, rng),
        Kind::Resume => reading::resume(world, rng),
        Kind::Stats => reading::topics(world, rng),
        Kind::Reject => {
            let events = rng.u64(1..100);
            world.expected.reject(events);
            world.store().count_rejected(events);
            Ok(())
        }
        Kind::Clock => {
            let at = 1_795_000_000_000_000 + rng.i64(-40_000_000_000_000..40_000_000_000_000);
            world.clock.set(Timestamp(at));
            Ok(())
        }
        Kind::Close => {
            if rng.bool() {
                let burst = Burst::begin(world, rng)?;
                world.is_closing = true;
                world.begin_close()?;
                burst.end(world)?;
                world.is_closing = false;
                world.end_close()?;
            } else {
                world.close()?;
            }
            if rng.u8(..4) == 0 {
                world.lose_index(rng);
            }
            world.start(rng)
        }
        Kind::Kill => {
            world.kill()?;
            restart(world, rng)
        }
        Kind::Cut => {
            world.cut(rng)?;
            restart(world, rng)
        }
        Kind::KillInFlight | Kind::CutInFlight => {
            let burst = Burst::begin(world, rng)?;
            let writes = world.disk.writes() + rng.u64(..4);
            until_some_writes(world, writes);
            burst.accident(world, step.kind == Kind::KillInFlight, rng.u64(..))?;
            restart(world, rng)
        }
        Kind::CutRecovery => cut_recovery(world, rng),
        Kind::IoError => io_error(world, rng),
        Kind::FailedCall => failed_call(world, rng),
        Kind::Full => full(world, rng),
        Kind::Stall => stall(world, rng),
        Kind::Damage => damage(world, rng),
        Kind::Verify | Kind::Rebuild => {
            if rng.bool() {
                world.close()?;
            } else {
                world.kill()?;
            }
            let (options, seams) = (world.options().clone(), world.seams());
            if step.kind == Kind::Rebuild {
                let rebuilt = blocking("rebuild", move || rebuild::rebuild(&options, &seams, &|_, _| ()))?;
                rebuilt.map_err(|e| format!("rebuild fails: {e}"))?;
            } else if flaw != Flaw::ForgetsClaims {
                let report = blocking("verify", move || verify::verify(&options, &seams, &|_, _| ()))?;
                let report = report.map_err(|e| format!("verify fails: {e}"))?;
                require(report.faults.is_empty(), || format!("verify finds {:?}", report.faults))?;
            }
            world.start(rng)
        }
    }
}

fn restart(world: &mut World, rng: &mut Rng) -> Verdict {
    if rng.bool() {
        world.lose_index(rng);
    }
    world.start(rng)
}

/// Lets the store get some way.
fn until_some_writes(world: &World, writes: u64) {
    let deadline = now() + Duration::from_millis(5);
    while world.disk.writes() < writes && now() < deadline {
        sekali::sync::yield_now();
    }
}

type Answer = Result<Vec<sekali::store::Outcome>, Error>;
type Glimpse = (Result<Stats, Error>, Result<Vec<StoredEvent>, Error>);

/// Batches in flight, and a reader beside them.
struct Burst {
    batches: Vec<Vec<Sent>>,
    answers: Vec<Running<Answer>>,
    glimpses: Vec<Running<Glimpse>>,
}

impl Burst {
    fn begin(world: &mut World, rng: &mut Rng) -> Verdict<Self> {
        let mut batches = Vec::new();
        for _ in 0..rng.usize(2..7) {
            let batch = traffic::batch(rng, &world.expected, &batches);
            batches.push(batch);
        }
        let packed: Vec<_> = batches.iter().map(|batch| packed(batch)).collect::<Verdict<_>>()?;
        batches.iter().for_each(|batch| world.expected.attempt(batch));
        let (mut answers, mut glimpses) = (Vec::new(), Vec::new());
        for batch in packed {
            let store = world.store();
            answers.push(world.spawn(async move { store.append(batch.into()).await }));
            if rng.u8(..3) == 0 {
                let store = world.store();
                glimpses.push(world.spawn(async move { (store.stats().await, listing(store).await) }));
            }
        }
        Ok(Self { batches, answers, glimpses })
    }

    /// Waits for all answers. Those that did not come are unknown.
    fn end(self, world: &mut World) -> Verdict {
        let Self { batches, answers, glimpses } = self;
        let mut seen = Vec::new();
        for glimpse in glimpses {
            seen.push(wait("a reader", glimpse)?.map_err(|e| format!("a reader panicked: {e}"))?);
        }
        for (batch, answer) in batches.iter().zip(answers) {
            let answer = wait("a batch", answer)?.map_err(|e| format!("an append panicked: {e}"))?;
            // Refused or not answered is the same to the model.
            let _ = world.answer(batch, answer)?;
        }
        for stats in seen.iter().filter_map(|(stats, _)| stats.as_ref().ok()) {
            world.expected.stats(stats, false)?;
        }
        // Readers ran beside each other: the one that saw most comes last.
        let mut listings: Vec<_> = seen.into_iter().filter_map(|(_, events)| events.ok()).collect();
        listings.sort_by_key(Vec::len);
        listings.into_iter().try_for_each(|events| world.expected.listing(events))
    }

    /// Kills the process or cuts the power under the batches, then waits for what was answered.
    fn accident(self, world: &mut World, is_kill: bool, seed: u64) -> Verdict {
        let next = world.unplug(is_kill, seed)?;
        self.end(world)?;
        world.replug(next)
    }
}

/// Cuts the power, and again while the store recovers, at any operation of the disk.
fn cut_recovery(world: &mut World, rng: &mut Rng) -> Verdict {
    world.cut(rng)?;
    for _ in 0..rng.usize(1..5) {
        let at = rng.u64(..12);
        world.disk.plan(match rng.u8(..3) {
            0 => Fault::DeadAtWrite { at, kept: rng.usize(..5_000) },
            1 => Fault::DeadAtSync { at },
            _ => Fault::DeadAt { at: rng.u64(..150) },
        });
        match world.open(rng)? {
            Ok(()) if rng.bool() => {
                let batch = traffic::batch(rng, &world.expected, &[]);
                let _ = world.append(&batch)?;
            }
            Ok(()) => {}
            Err(e) => require(matches!(e.kind(), ErrorKind::Io | ErrorKind::Unusable), || {
                format!("a power cut during recovery leaves a store that does not open ({:?}): {e}", e.kind())
            })?,
        }
        world.cut(rng)?;
        if rng.u8(..4) == 0 {
            world.lose_index(rng);
        }
    }
    restart(world, rng)
}

/// A write or a sync fails soon: from then on nothing is answered, and a restart finds what was.
fn io_error(world: &mut World, rng: &mut Rng) -> Verdict {
    let at = |now: u64, rng: &mut Rng| now + rng.u64(..20);
    let (write, sync) = (at(world.disk.writes(), rng), at(world.disk.syncs(), rng));
    world.disk.plan(match rng.bool() {
        true => Fault::Write { at: write, kept: rng.usize(..5_000) },
        false => Fault::Sync { at: sync },
    });
    for _ in 0..15 {
        let batch = traffic::batch(rng, &world.expected, &[]);
        let answer = world.append(&batch)?;
        if answer.is_ok() || batch.is_empty() {
            continue;
        }
        let store = world.store();
        require(answer == Err(ErrorKind::Unsure), || format!("after an I/O error: {answer:?}"))?;
        require(matches!(store.health(), Health::NotReady(_)), || "a failed store says it is ready".into())?;
        wait("failed()", async move { store.failed().await })?;
        let again = world.append(&batch)?;
        require(again == Err(ErrorKind::Unsure), || format!("a failed store answers {again:?}"))?;
        break;
    }
    if rng.bool() {
        world.kill()?;
    } else {
        world.cut(rng)?;
    }
    restart(world, rng)
}

/// A call fails that neither writes nor syncs: it is said, and the next start finds what was.
fn failed_call(world: &mut World, rng: &mut Rng) -> Verdict {
    if rng.bool() {
        world.close()?;
    } else {
        world.kill()?;
    }
    let call = Call::ALL[rng.usize(..Call::ALL.len())];
    // In the start, or later.
    let within = [8, 200][rng.usize(..2)];
    let at = rng.u64(..within);
    let code = Fault::CODES[rng.usize(..Fault::CODES.len())];
    world.disk.plan(Fault::Call { call, at, code });
    match world.open(rng)? {
        Ok(()) => {
            for _ in 0..10 {
                let batch = traffic::batch(rng, &world.expected, &[]);
                match world.append(&batch)? {
                    // What had to be read could not be.
                    Ok(()) | Err(ErrorKind::Io) => {}
                    Err(ErrorKind::Unsure) => break,
                    answer => return Err(format!("{call:?} fails, and an append ends with {answer:?}")),
                }
            }
        }
        Err(e) => require(matches!(e.kind(), ErrorKind::Io | ErrorKind::Unusable), || {
            format!("{call:?} fails, and the store does not open ({:?}): {e}", e.kind())
        })?,
    }
    if rng.bool() {
        world.kill()?;
    } else {
        world.cut(rng)?;
    }
    restart(world, rng)
}

/// Whether an index that forgot is being rebuilt, as the answer says.
fn is_of_index(world: &World, answer: &Result<(), ErrorKind>) -> bool {
    world.flaw == Flaw::ForgetsClaims && *answer == Err(ErrorKind::Rebuilding)
}

/// A sync does not come back: the store fails in time, and a restart finds what was.
fn stall(world: &mut World, rng: &mut Rng) -> Verdict {
    world.disk.plan(Fault::Stall { at: world.disk.syncs() + rng.u64(..4) });
    for _ in 0..15 {
        let begin = now();
        let batch = traffic::batch(rng, &world.expected, &[]);
        world.expected.attempt(&batch);
        let (store, packed) = (world.store(), packed(&batch)?);
        let answer = wait("an append under a stall", async move {
            let (append, failed) = (pin!(store.append(packed.into())), pin!(store.failed()));
            match select(append, failed).await {
                Either::Left((answer, _)) => answer,
                Either::Right((_, append)) => append.await,
            }
        })?;
        require(now() - begin < STALL / 2, || "an append waits for a sync that does not come back".into())?;
        let answer = world.answer(&batch, answer)?;
        if answer.is_err() && !is_of_index(world, &answer) {
            let store = world.store();
            require(matches!(store.health(), Health::NotReady(_)), || {
                format!("a failed store says it is ready, and answers {answer:?}")
            })?;
            break;
        }
    }
    // A process would end now, whatever hangs; a simulation ends with all its threads.
    sekali::sync::sleep(2 * STALL);
    if rng.bool() {
        world.kill()?;
    } else {
        world.cut(rng)?;
    }
    restart(world, rng)
}

/// A bit of a stopped store turns: it is found, or it changes nothing. What is found is not served
/// as it is.
fn damage(world: &mut World, rng: &mut Rng) -> Verdict {
    if cfg!(feature = "simulation") && rng.bool() {
        // By then a later frame says of each that it is there: without one, damage to the last is
        // as if it had never been written.
        sekali::sync::sleep(QUIET);
        world.kill()?;
    } else {
        world.close()?;
    }
    let (files, sound) = (world.disk.files(), world.disk.kill());
    world.replug(sound.copy())?;
    let (path, at) = (&files[rng.usize(..files.len())], rng.usize(..));
    world.disk.turn(path, at, 1 << rng.u8(..8));
    let (options, seams) = (world.options().clone(), world.seams());
    let report = blocking("verify", move || verify::verify(&options, &seams, &|_, _| ()))?;
    let is_found = !report.is_ok_and(|report| report.faults.is_empty());
    let seen = match world.open(rng)? {
        Err(e) => Err(e),
        Ok(()) => wait("listing", patiently(|| listing(world.store())))?,
    };
    let what = || format!("byte {at} of {} was turned", path.display());
    match seen {
        Ok(events) => require(events == world.expected.shown_events(), || format!("{}, unseen", what()))?,
        Err(e) => {
            let is_refusal = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unusable);
            require(is_refusal && is_found, || format!("{}, and: {e}", what()))?;
        }
    }
    world.kill()?;
    if is_found {
        world.replug(sound)?;
    }
    world.start(rng).map_err(|why| format!("{}: {why}", what()))
}

/// The disk fills up: appends are refused, reads go on, and appends work again once there is room.
fn full(world: &mut World, rng: &mut Rng) -> Verdict {
    let room: u64 = 1 << 40;
    world.disk.set_capacity(Some(room));
    let free = world.disk.free_bytes(std::path::Path::new("/data")).map_err(|e| e.to_string())?;
    world.disk.set_capacity(Some(room - free + rng.u64(..1 << 18)));
    for _ in 0..20 {
        let batch = match rng.bool() {
            true => traffic::bulk(rng),
            false => traffic::batch(rng, &world.expected, &[]),
        };
        let answer = world.append(&batch)?;
        // An index that forgot is not rebuilt before there is room for another.
        require(is_of_index(world, &answer) || matches!(answer, Ok(()) | Err(ErrorKind::NoSpace)), || {
            format!("on a full disk an append ends with {answer:?}")
        })?;
        world.refresh()?;
    }
    world.disk.set_capacity(None);
    let batch = traffic::batch(rng, &world.expected, &[]);
    let answer = until(DEADLINE.as_secs(), || match world.append(&batch) {
        Ok(Err(ErrorKind::NoSpace | ErrorKind::Rebuilding)) => None,
        answer => Some(answer),
    });
    let answer = answer.ok_or("there is room again, and appends are still refused")??;
    require(answer.is_ok(), || format!("there is room again, and an append ends with {answer:?}"))?;
    let store = world.store();
    let ready = until(DEADLINE.as_secs(), || (store.health() == Health::Ready).then_some(()));
    ready.ok_or("there is room again, and the store does not say that it is ready")?;
    world.refresh()
}
