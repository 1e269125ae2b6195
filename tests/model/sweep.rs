//! One write, sync or other call fails, at each place where one is made: in starts, commits,
//! rotations, seals, checkpoints and stops.

use std::time::Duration;

use fastrand::Rng;
use sekali::error::ErrorKind;
use sekali::store::{EventStore, Health};

use super::expected::{Verdict, require};
use super::flaw::Flaw;
use super::runtime::{blocking, wait};
use super::traffic;
use super::world::World;
use crate::support::mem_disk::{Call, Fault};

/// Batches of one play; the store is stopped and started in the middle.
const BATCHES: usize = 14;
/// Events in a generation: several are sealed.
const GENERATION_EVENTS: u64 = 20;
/// Longer than anything waits that is done when nothing comes.
const REST: Duration = Duration::from_secs(3);

/// What a play did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Writes and syncs from each start to its end.
    pub lives: Vec<(u64, u64)>,
    /// And its other calls.
    pub calls: Vec<Vec<(Call, u64)>>,
    /// Whether a call failed as planned.
    pub has_come: bool,
    /// Whether the store failed, or did not open, and was started again.
    pub has_failed: bool,
}

struct Sweep {
    world: World,
    /// In which life, and what.
    fault: Option<(usize, Fault)>,
    swept: Swept,
}

/// Plays the batches of a seed with one fault, which either the store survives, or a restart does.
pub fn sweep(fault: Option<(usize, Fault)>, seed: u64) -> Verdict<Swept> {
    let world = World::stopped(Flaw::None, GENERATION_EVENTS);
    let mut sweep = Sweep { world, fault, swept: Swept::default() };
    sweep.start()?;
    let rng = &mut Rng::with_seed(seed);
    for number in 0..BATCHES {
        sweep.append(rng)?;
        if number % 5 == 4 {
            sekali::sync::sleep(REST);
        }
        if number == BATCHES / 2 {
            let store = sweep.world.store();
            let closed = blocking("close", move || store.close())?;
            require(closed.is_ok() || fault.is_some(), || {
                format!("a healthy store does not close: {closed:?}")
            })?;
            sweep.world.expected.stopped(closed.is_ok());
            sweep.start_again()?;
        }
    }
    sekali::sync::sleep(REST);
    sweep.start_again()?;
    Ok(sweep.swept)
}

impl Sweep {
    fn append(&mut self, rng: &mut Rng) -> Verdict {
        let batch = traffic::batch(rng, &self.world.expected, &[]);
        while let Err(kind) = self.world.append(&batch)? {
            if kind == ErrorKind::Io && self.has_just_come() {
                // What had to be read could not be: that is said, and nothing else happens.
                continue;
            }
            require(kind == ErrorKind::Unsure, || format!("an I/O error is answered {kind:?}"))?;
            let store = self.world.store();
            let is_ready = store.health() == Health::Ready;
            require(!is_ready, || "a failed store says it is ready".into())?;
            wait("failed()", async move { store.failed().await })?;
            self.fail()?;
            self.start_again()?;
        }
        Ok(())
    }

    /// The fault has taken the store down: the only time it may.
    fn fail(&mut self) -> Verdict {
        require(!self.swept.has_failed, || "one fault takes two stores down".into())?;
        self.swept.has_failed = true;
        Ok(())
    }

    /// Whether a planned call has failed since this was last asked.
    fn has_just_come(&mut self) -> bool {
        let (before, now) = (self.swept.has_come, self.world.disk.failed_calls() > 0);
        self.swept.has_come |= now;
        now && !before
    }

    fn start_again(&mut self) -> Verdict {
        let disk = &self.world.disk;
        self.swept.lives.push((disk.writes(), disk.syncs()));
        self.swept.calls.push(Call::ALL.map(|call| (call, disk.calls(call))).to_vec());
        self.swept.has_come |= disk.failed_calls() > 0;
        self.world.kill()?;
        self.start()
    }

    fn start(&mut self) -> Verdict {
        if let Some((_, fault)) = self.fault.filter(|(life, _)| *life == self.swept.lives.len()) {
            self.world.disk.plan(fault);
        }
        match self.world.try_open()? {
            Ok(()) => match self.world.audit() {
                // It failed meanwhile.
                Err(why) if why.contains("is unknown (") && self.world.store().health() != Health::Ready => {
                    self.fail()?;
                    self.start_again()
                }
                Err(_) if self.has_just_come() => self.world.audit(),
                audited => audited,
            },
            Err(e) => {
                let is_clear = match e.kind() {
                    ErrorKind::Io => e.to_string().contains("cure the disk"),
                    // It can't make or lock its directory.
                    kind => kind == ErrorKind::Unusable,
                };
                require(is_clear, || {
                    format!("an I/O error keeps the store from opening as {:?}: {e}", e.kind())
                })?;
                self.fail()?;
                self.start_again()
            }
        }
    }
}
