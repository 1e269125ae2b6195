//! The checkpoint: one thread, off the path of an answer, that puts claims into sled and seals full
//! generations.
//!
//! It takes synced frames in journal order. A set that goes into the index is exactly a range of
//! frames; its claims leave RAM once the index has them. When a generation is closed, what has not
//! been put into its index yet never is: the seal makes the generation's maps from the journal, and
//! the index is removed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index_set::{IndexSet, fill, open_index};
use super::seal::STEPS;
use super::throttle::Throttle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::NICENESS_LOWEST;
use crate::store::local::admission::job::Job;
use crate::store::local::format::claim::Covered;
use crate::store::local::format::layout::INDEX;
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::{ClaimSet, Claims};
use crate::store::local::generation::index::Index;
use crate::store::local::shared::Shared;
use crate::store::local::write::group::Committed;
use crate::sync;
use crate::sync::mpsc::{Receiver, RecvTimeoutError};

/// What waits goes into the index when nothing more has come for this time.
const IDLE: Duration = Duration::from_secs(1);
/// What waits goes into the index when it has waited for this time, too. A generation that is full
/// sooner is sealed without ever having been indexed: under full load that saves much work, and RAM
/// holds its claims either way.
const AGE: Duration = Duration::from_secs(30);
/// How often it looks at what comes. Being woken by each commit would cost more than it does with
/// it.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Claims that leave RAM at a look beside as many as came. What those that come take is what those
/// that leave gave back; if all left at once, that would be given to the system, and asked of it
/// again.
const LEAVE: usize = 512;
/// The time that a seal takes while there is time, in that of filling the next generation. At full
/// load it takes longer than it is told: it gives way, and the syncs and the end of it are not
/// among its steps.
const SEAL_TIME: f64 = 0.5;
/// Pause after an error of the disk.
const BACK_OFF: Duration = Duration::from_secs(1);

/// What waits for the index of one generation, in the journal's order.
#[derive(Debug)]
struct Waiting {
    generation: Arc<Generation>,
    frames: VecDeque<Frame>,
    claims: usize,
}

/// A frame that waits.
#[derive(Debug)]
struct Frame {
    came: Instant,
    claims: usize,
    committed: Committed,
}

/// The index of the live generation, and what it holds.
pub(crate) struct LiveIndex {
    pub(crate) index: Arc<dyn Index>,
    pub(crate) covered: Covered,
}

/// The thread's state.
pub(crate) struct Checkpoint {
    shared: Arc<Shared>,
    committed: Receiver<Committed>,
    /// Closed generations to seal, then the live one.
    waiting: Vec<Waiting>,
    /// What can be found elsewhere and leaves RAM.
    leaving: VecDeque<Arc<ClaimSet>>,
    index: Option<LiveIndex>,
    /// The index had an error and is to be rebuilt.
    is_broken: bool,
    retry_at: Option<Instant>,
}

impl Checkpoint {
    /// A checkpoint for `live` that goes on with `index`, if there is one to trust; `closed` are to
    /// be sealed.
    pub(crate) fn new(
        shared: Arc<Shared>,
        committed: Receiver<Committed>,
        generations: Vec<Arc<Generation>>,
        index: Option<LiveIndex>,
    ) -> Self {
        let waiting = generations.into_iter().map(Waiting::new).collect();
        Self { shared, committed, waiting, leaving: VecDeque::new(), index, is_broken: false, retry_at: None }
    }

    /// The thread. Returns when the journal's writer is gone, with the live index if it has
    /// everything.
    pub(crate) fn run(mut self) -> Option<LiveIndex> {
        loop {
            let wait = Duration::from_millis(if self.is_due() { 1 } else { 200 });
            match sync::recv_timeout(&self.committed, wait) {
                Ok(committed) => _ = self.look(Some(committed)),
                Err(RecvTimeoutError::Timeout) => _ = self.look(None),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.is_due() {
                self.work();
            } else {
                sync::sleep(LOOK_EVERY);
            }
        }
        while self.waiting.len() > 1 && self.shared.failure.get().is_none() {
            if self.seal_oldest().is_err() {
                return None;
            }
        }
        if self.shared.failure.get().is_some() || self.is_broken {
            return None;
        }
        self.checkpoint().and_then(|()| self.flush()).ok()?;
        self.index
    }

    /// Takes what came, `first` before it, and lets go of what may leave. Returns whether anything
    /// came.
    fn look(&mut self, first: Option<Committed>) -> bool {
        let (mut came, mut claims) = (false, LEAVE);
        let mut next = first.or_else(|| self.committed.try_recv().ok());
        while let Some(committed) = next {
            (came, claims) = (true, claims + self.take(committed));
            next = self.committed.try_recv().ok();
        }
        self.let_go(claims);
        came
    }

    /// Takes a frame; returns how many claims it has.
    fn take(&mut self, committed: Committed) -> usize {
        let is_of = |waiting: &Waiting| waiting.generation.id == committed.generation.id;
        let at = self.waiting.iter().position(is_of).unwrap_or_else(|| {
            self.waiting.push(Waiting::new(Arc::clone(&committed.generation)));
            self.waiting.len() - 1
        });
        let covered = self.index.as_ref().map_or(0, |open| open.covered.through);
        let is_covered = self.waiting.len() == 1 && committed.through <= covered;
        let waiting = &mut self.waiting[at];
        let claims = committed.sets.iter().filter_map(|set| set.with(Claims::len)).sum::<usize>();
        if claims > 0 {
            waiting.claims += claims;
            waiting.frames.push_back(Frame { came: self.shared.now(), claims, committed });
        }
        if is_covered {
            // A rebuild has read it from the journal already.
            release(&self.shared, waiting, waiting.frames.len(), &mut self.leaving);
        }
        claims
    }

    /// Drops at least `claims` claims from memory, rounded up to whole sets.
    fn let_go(&mut self, claims: usize) {
        let mut gone = 0;
        while gone < claims
            && let Some(set) = self.leaving.pop_front()
        {
            gone += set.drop_claims();
        }
        if gone > 0 {
            for queue in &self.shared.queues {
                // At once. One that has gone has forgotten all.
                drop(queue.push(Job::Forget, 0, &self.shared.pace));
            }
        }
    }

    fn is_due(&self) -> bool {
        let now = self.shared.now();
        if self.shared.failure.get().is_some() || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.waiting.len() > 1
            || self.is_broken
            || self.damaged_maps().is_some()
            || self.waiting.last().is_some_and(|live| {
                let is_doubtful = live.generation.is_doubtful();
                let has_waited = |frame: Option<&Frame>, time| {
                    frame.is_some_and(|frame| now.saturating_duration_since(frame.came) >= time)
                };
                has_waited(live.frames.back(), IDLE) || has_waited(live.frames.front(), AGE) || is_doubtful
            })
    }

    fn work(&mut self) {
        let doubtful = self.waiting.last().is_some_and(|live| live.generation.is_doubtful());
        let damaged = self.damaged_maps();
        let is_of_journal = damaged.is_some() || self.waiting.len() > 1 || doubtful || self.is_broken;
        let done = if self.waiting.len() > 1 {
            self.seal_oldest()
        } else if let Some(generation) = damaged {
            self.renew_maps(&generation)
        } else if doubtful || self.is_broken {
            self.rebuild()
        } else {
            self.checkpoint()
        };
        self.retry_at = None;
        let Err(e) = done else { return self.shared.set_trouble(None) };
        match e.kind() {
            // What the journal itself says is damaged can't be rebuilt from it.
            ErrorKind::Corrupt if is_of_journal => self.shared.failure.set(&e),
            kind => {
                if kind == ErrorKind::NoSpace && !is_of_journal {
                    tracing::debug!(error = %e, "claims stay in RAM");
                } else {
                    tracing::warn!(error = %e, "the checkpoint failed and will be tried again");
                }
                // Otherwise RAM has what the index lacks.
                let trouble = is_of_journal.then(|| format!("an index can't be rebuilt, and is needed: {e}"));
                self.shared.set_trouble(trouble);
                self.retry_at = Some(self.shared.now() + BACK_OFF);
            }
        }
    }

    /// A sealed generation whose maps were found damaged.
    fn damaged_maps(&self) -> Option<Arc<Generation>> {
        let generations = self.shared.generations();
        generations.iter().find(|generation| generation.is_doubtful() && generation.is_sealed()).cloned()
    }

    /// Puts all that waits of the live generation into its index, unless it is closed or room gets
    /// short meanwhile. While events come, it pauses between steps: it has the priority of the
    /// threads that answer them.
    fn checkpoint(&mut self) -> Result<()> {
        let Some(live) = self.waiting.last() else { return Ok(()) };
        let (generation, count) = (Arc::clone(&live.generation), live.frames.len());
        let Some(last) = live.frames.back() else { return Ok(()) };
        let through = last.committed.through;
        self.shared.preallocation.check_index(live.claims as u64)?;
        let sets = live.frames.iter().flat_map(|frame| &frame.committed.sets);
        let sets: Vec<Arc<Claims>> = sets.filter_map(|set| set.claims()).collect();
        let blocks: Vec<_> = live.frames.iter().flat_map(|frame| &frame.committed.blocks).cloned().collect();
        let (index, covered) = match &self.index {
            Some(open) => (Arc::clone(&open.index), open.covered),
            None => open_index(&self.shared, &generation)?,
        };
        let mut set = IndexSet::new(covered, through, &sets, &blocks);
        loop {
            match set.step(&self.shared, &*index) {
                Ok(true) => break,
                Ok(false) => {}
                Err(e) => {
                    // sled's errors are sticky: this Db is never used again.
                    drop(index);
                    self.drop_index();
                    return Err(e);
                }
            }
            if self.look(None) {
                sync::sleep(LOOK_EVERY);
            }
            if self.waiting.len() > 1 {
                // Its seal makes the maps of all of it.
                return Ok(());
            }
            // What came meanwhile may have taken the room. The next try starts over; what it finds
            // in the index does no harm.
            self.shared.preallocation.check_index(set.left() as u64)?;
        }
        generation.set_index(Some(Arc::clone(&index)));
        self.index = Some(LiveIndex { index, covered: set.covered });
        if let Some(live) = self.waiting.last_mut() {
            release(&self.shared, live, count, &mut self.leaving);
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let Some(open) = &self.index else { return Ok(()) };
        let now = self.shared.now();
        let flushed = self.shared.watches.index.during(now, || open.index.flush());
        if flushed.is_err() {
            self.drop_index();
        }
        flushed
    }

    fn drop_index(&mut self) {
        if let Some(live) = self.waiting.last() {
            live.generation.set_index(None);
        }
        self.index = None;
        self.is_broken = true;
    }

    /// Rebuilds the live index from the journal.
    fn rebuild(&mut self) -> Result<()> {
        self.drop_index();
        let Some(live) = self.waiting.last_mut() else { return Ok(()) };
        self.shared.preallocation.check_index(live.generation.events())?;
        let (index, mut covered) = open_index(&self.shared, &live.generation)?;
        // All that waits is in frames up to here.
        fill(&self.shared, &live.generation, &*index, &mut covered)?;
        live.generation.set_index(Some(Arc::clone(&index)));
        live.generation.clear_doubt();
        self.index = Some(LiveIndex { index, covered });
        self.is_broken = false;
        self.shared.seams.metrics.rebuilt();
        tracing::info!(generation = live.generation.id, "the index was rebuilt from the journal");
        release(&self.shared, live, live.frames.len(), &mut self.leaving);
        self.flush()
    }

    /// Seals the oldest closed generation.
    fn seal_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.waiting.first() else { return Ok(()) };
        let generation = Arc::clone(&oldest.generation);
        self.seal(&generation)?;
        generation.clear_doubt();
        let mut oldest = self.waiting.remove(0);
        let count = oldest.frames.len();
        release(&self.shared, &mut oldest, count, &mut self.leaving);
        self.index = None;
        self.is_broken = false;
        let index = generation.dir.join(INDEX);
        // What is left of it is removed by the next start.
        if let Err(e) = self.shared.seams.indexes.remove(&index) {
            tracing::debug!(error = %e, "a sealed generation's index could not be removed yet");
        }
        Ok(())
    }

    /// Makes the maps of a closed generation, and lets look-ups go to them.
    fn seal(&mut self, generation: &Generation) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (id, closed) = (generation.id, generation.closed());
        self.giving_way(|| {
            // Once the next generation is full too, everybody waits for it.
            let throttle = Throttle::new(&*shared.seams.clock, STEPS * closed.events, || {
                shared.elapsed((id + 1) as f64, SEAL_TIME)
            });
            let entry = generation.entry();
            let (maps, filter) =
                shared.sealed_files(generation, &entry).build(&|steps| throttle.done(steps))?;
            // Its zeros are given back.
            let path = generation.journal_path();
            let journal = generation.journal()?;
            journal
                .set_len(closed.end)
                .and_then(|()| journal.sync())
                .map_err(|e| Error::io("cut", &path, e))?;
            shared.update_manifest(|manifest| {
                if let Some(entry) = manifest.generations.iter_mut().find(|entry| entry.id == id) {
                    entry.sealed = true;
                }
            })?;
            shared.filters.add(filter);
            generation.set_sealed(maps);
            tracing::info!(generation = id, events = closed.events, "generation sealed");
            Ok(())
        })
    }

    /// Rebuilds the damaged maps of a sealed generation and its filter, which may have been
    /// damaged too.
    fn renew_maps(&mut self, generation: &Generation) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.giving_way(|| {
            // Look-ups wait for it.
            let (maps, filter) = shared.sealed_files(generation, &generation.entry()).build(&|_| {})?;
            generation.set_sealed(maps);
            shared.filters.add(filter);
            generation.clear_doubt();
            shared.seams.metrics.rebuilt();
            tracing::info!(generation = generation.id, "a sealed index was rebuilt from the journal");
            Ok(())
        })
    }

    /// Does long work in a thread of its own, which gives way, and looks at what comes
    /// meanwhile. Should it fall behind, the others wait for it (`Lag`), and so leave it theirs.
    /// Calls into sled don't give way: they have a deadline.
    fn giving_way(&mut self, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let work = || {
            sync::give_way(NICENESS_LOWEST);
            work()
        };
        let meanwhile = || {
            self.look(None);
            sync::sleep(LOOK_EVERY);
        };
        sync::in_own_thread("seal", work, meanwhile)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")))?
    }
}

impl Waiting {
    fn new(generation: Arc<Generation>) -> Self {
        Self { generation, frames: VecDeque::new(), claims: 0 }
    }
}

/// The first `count` frames that waited can be found elsewhere now: they may leave RAM.
fn release(shared: &Shared, waiting: &mut Waiting, count: usize, leaving: &mut VecDeque<Arc<ClaimSet>>) {
    for Frame { claims, committed, .. } in waiting.frames.drain(..count) {
        leaving.extend(committed.sets);
        waiting.generation.forget_blocks(&committed.blocks);
        waiting.claims -= claims;
        shared.lag.sub(claims as u64);
    }
}
