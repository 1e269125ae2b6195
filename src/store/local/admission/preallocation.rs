//! Room in the journal, reserved before anything is decided.
//!
//! One thread writes zeros ahead of the journal's writer and syncs them, and prepares the next
//! generation's folder. So a commit overwrites blocks that the file system has already allocated
//! (an fdatasync that must allocate takes longer), and a full disk is met before an event is
//! decided, never after.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::vitals::Watch;
use crate::clock::Clock;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::journal_end::zero;
use crate::store::local::format::layout::{JOURNAL, folder, journal_path};
use crate::sync::{self, Condvar, Mutex};

/// Zeros written and synced at once, a *step*: a commit that meets it waits for it.
const STEP_BYTES: u64 = 1 << 20;
/// Most bytes of the maps and the filter an event.
const SEALED_BYTES: u64 = 64;
/// Most bytes that sled takes for a claim, with a wide margin, and for itself.
const INDEX_BYTES: (u64, u64) = (512, 1 << 20);
/// Pause between two pieces that nobody waits for: writing one keeps a processor busy, and
/// commits are let through.
const PAUSE: Duration = Duration::from_millis(1);
/// Full journals that stay in the system's cache, or about so many. What is zeroed takes new pages
/// of it, and from some systems a new page costs more than all that is done with it: as many leave
/// it first, of the journal this far back.
const CACHED: u64 = 4;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The next generation's folder, its journal filled with zeros.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) zeroed: u64,
}

#[derive(Debug)]
struct State {
    /// The live journal, in a handle of its own: the system tells of a failed write-back once a
    /// handle, and the writer must hear of it.
    file: Arc<dyn DiskFile>,
    id: u64,
    /// Zeros are on disk up to here.
    zeroed: u64,
    /// Frames are written up to here.
    written: u64,
    /// Reserved for what is decided or about to be.
    outstanding: u64,
    /// The largest reservation that waits.
    wanted: u64,
    next_id: u64,
    next: Option<Prepared>,
    /// Bytes that the next journal must have before it can be taken.
    next_wanted: u64,
    /// The writer is between two journals: nothing can be reserved in either.
    is_switching: bool,
    /// Why there is no room.
    full: Option<String>,
    /// The preparing thread ended: nothing more comes.
    stopped: bool,
}

impl State {
    /// Bytes that can be reserved. The last one never is: after the last frame there is always a
    /// zero, so a journal that ends with a frame, or within one, was cut.
    fn room(&self) -> u64 {
        self.zeroed.saturating_sub(self.written + self.outstanding + 1)
    }
}

/// Accounts of the journal's room.
#[derive(Debug)]
pub(crate) struct Preallocation {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    pub(crate) watch: Watch,
    data_dir: PathBuf,
    /// Zeros kept ahead of the writer.
    ahead: u64,
    /// Left free on the disk: for seals, the index and the manifest.
    reserve: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Preallocation {
    /// Accounts for the journal of generation `id`, written up to `written` and zeroed up to
    /// `zeroed`.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        data_dir: &Path,
        (generation_events, generation_bytes): (u64, u64),
        id: u64,
        (written, zeroed): (u64, u64),
    ) -> Result<Self> {
        let path = journal_path(data_dir, id);
        let state = State {
            file: disk.open(&path, Open::Write).during("open", &path)?,
            id,
            zeroed,
            written,
            outstanding: 0,
            wanted: 0,
            next_id: id + 1,
            next: None,
            next_wanted: 0,
            is_switching: false,
            full: None,
            stopped: false,
        };
        Ok(Self {
            watch: Watch::new("a write of room for the journal", clock.monotonic()),
            disk,
            clock,
            data_dir: data_dir.to_path_buf(),
            ahead: (generation_bytes / 16).clamp(256 << 10, 16 << 20),
            reserve: generation_bytes / 4
                + generation_events.saturating_mul(SEALED_BYTES).min(generation_bytes),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Bytes that are zeroed at a time.
    fn step(&self) -> u64 {
        STEP_BYTES.min(self.ahead)
    }

    /// Whether a step more is to be zeroed.
    fn is_low(&self, state: &State) -> bool {
        state.room() < (self.ahead - self.step()).max(self.ahead / 2).max(state.wanted)
    }

    /// Reserves `bytes`, waiting for zeros to be written.
    ///
    /// # Errors
    /// `NoSpace` if the disk is full; `Unsure` if the store has failed, as nothing else ends this
    /// before the workers.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if !state.is_switching && state.room() >= bytes {
                let was_low = self.is_low(&state);
                state.outstanding += bytes;
                // Once: while it is low, there is work to be done anyway.
                if !was_low && self.is_low(&state) {
                    self.changed.notify_all();
                }
                return Ok(());
            }
            if state.stopped {
                return Err(Error::new(
                    ErrorKind::Unsure,
                    "whether the events were stored is unknown (the store failed); sending them again is safe",
                ));
            }
            if let (Some(why), false) = (&state.full, state.is_switching) {
                return Err(Error::new(ErrorKind::NoSpace, why.clone()));
            }
            state.wanted = state.wanted.max(bytes);
            self.changed.notify_all();
            state = self.changed.wait(state);
        }
    }

    /// Reserves `bytes` if there is room now.
    pub(crate) fn try_reserve(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let fits = !state.is_switching && state.room() >= bytes;
        if fits {
            state.outstanding += bytes;
        }
        fits
    }

    /// Gives back a reservation; frames are written up to `written` now, if given.
    pub(crate) fn settle(&self, reserved: u64, written: Option<u64>) {
        let mut state = self.state.lock();
        state.outstanding = state.outstanding.saturating_sub(reserved);
        if let Some(written) = written {
            state.written = written;
        }
        if self.is_low(&state) || state.wanted > 0 {
            self.changed.notify_all();
        }
    }

    /// The next generation's journal, if it is ready and has room for `head` bytes beside all that
    /// is reserved. The caller then switches with [`Preallocation::switch`].
    pub(crate) fn take_next(&self, head: u64) -> Option<Prepared> {
        let mut state = self.state.lock();
        let wanted = head + state.outstanding + self.ahead / 4;
        if state.next.as_ref().is_some_and(|next| next.zeroed >= wanted) {
            // From here on this folder is the writer's: the next one to be prepared is another.
            state.next_id += 1;
            state.next_wanted = 0;
            state.is_switching = true;
            return state.next.take();
        }
        state.next_wanted = state.next_wanted.max(wanted);
        self.changed.notify_all();
        None
    }

    /// From here on, room is that of `prepared`, whose head ends at `written`.
    pub(crate) fn switch(&self, prepared: &Prepared, written: u64) {
        let mut state = self.state.lock();
        state.file = Arc::clone(&prepared.file);
        state.id = prepared.id;
        (state.zeroed, state.written) = (prepared.zeroed, written);
        state.is_switching = false;
        self.changed.notify_all();
    }

    /// The writer goes on where it was.
    pub(crate) fn stay(&self) {
        self.state.lock().is_switching = false;
        self.changed.notify_all();
    }

    /// Ends [`Preallocation::run`] and all waiting.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether the disk was found full, and why.
    pub(crate) fn full(&self) -> Option<String> {
        self.state.lock().full.clone()
    }

    /// The preparing thread. Returns when stopped, or with an error that is final: a sync that
    /// failed may have taken frames with it.
    pub(crate) fn run(&self) -> Result<()> {
        let mut state = self.state.lock();
        while !state.stopped {
            let work = self.work(&state);
            let Some(work) = work else {
                if !state.is_switching {
                    // What there was no room for is not wanted any more: reservations were given
                    // back.
                    state.full = None;
                }
                state = self.changed.wait(state);
                continue;
            };
            drop(state);
            let done = self.perform(work);
            state = self.state.lock();
            match done {
                Ok(Done::Extended { id, zeroed }) if id == state.id => {
                    state.zeroed = zeroed;
                    state.full = None;
                    if state.room() >= state.wanted {
                        state.wanted = 0;
                    }
                }
                // The writer has moved on meanwhile.
                Ok(Done::Extended { .. }) => {}
                Ok(Done::Prepared(prepared)) => {
                    state.next = (prepared.id == state.next_id).then_some(prepared);
                    state.full = None;
                }
                Err(e) if e.kind() != ErrorKind::NoSpace => {
                    state.stopped = true;
                    self.changed.notify_all();
                    return Err(e);
                }
                Err(e) => {
                    if state.full.is_none() {
                        tracing::warn!(error = %e, "no room for the journal; writing waits, reading goes on");
                    }
                    state.full = Some(format!("{e}; free some space, then send the events again"));
                    // Whoever waits is refused, and wants it no longer.
                    state.wanted = 0;
                    self.changed.notify_all();
                    state = self.changed.wait_while(&self.state, state, RETRY, |state| !state.stopped).0;
                    continue;
                }
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    fn work(&self, state: &State) -> Option<Work> {
        if state.is_switching {
            return None;
        }
        if self.is_low(state) {
            let work = Work::Extend {
                file: Arc::clone(&state.file),
                id: state.id,
                from: state.zeroed.max(state.written),
            };
            return Some(work);
        }
        let wanted = state.next_wanted.max(self.ahead / 2);
        let (file, from) = match &state.next {
            Some(next) if next.zeroed >= wanted => return None,
            Some(next) => (Some(Arc::clone(&next.file)), next.zeroed),
            None => (None, 0),
        };
        let to = wanted.min(from + self.step());
        Some(Work::Prepare { id: state.next_id, file, from, to })
    }

    fn perform(&self, work: Work) -> Result<Done> {
        self.watch.during(self.clock.monotonic(), || self.perform_watched(work))
    }

    fn perform_watched(&self, work: Work) -> Result<Done> {
        self.check_free()?;
        match work {
            Work::Extend { file, id, from } => {
                let path = journal_path(&self.data_dir, id);
                let zeroed = zero(&*file, &path, from, from + self.step(), |from, to| {
                    self.make_way(id, from, to);
                })?;
                Ok(Done::Extended { id, zeroed })
            }
            Work::Prepare { id, file, from, to } => {
                let prepared = prepare(&*self.disk, &self.data_dir, id, file, (from, to), |from, to| {
                    self.make_way(id, from, to);
                })?;
                Ok(Done::Prepared(prepared))
            }
        }
    }

    /// Before a piece of the journal of generation `id` is zeroed: pauses, unless somebody waits
    /// for room or may soon, and has the same place of an earlier journal leave the cache; with the
    /// beginning, what is after it all in the one before.
    fn make_way(&self, id: u64, from: u64, to: u64) {
        let state = self.state.lock();
        let has_time = state.next_wanted == 0 && state.room() >= (self.ahead / 4).max(state.wanted);
        drop(state);
        if has_time {
            sync::sleep(PAUSE);
        }
        if let Some(old) = id.checked_sub(CACHED) {
            self.disk.uncache(&journal_path(&self.data_dir, old), from, Some(to));
        }
        if let (0, Some(older)) = (from, id.checked_sub(CACHED + 1)) {
            self.disk.uncache(&journal_path(&self.data_dir, older), 0, None);
        }
    }

    /// Free bytes of the disk, and those that are kept for sealing.
    pub(crate) fn free(&self) -> Result<(u64, u64)> {
        let free = self.disk.free_bytes(&self.data_dir).during("ask for free space in", &self.data_dir)?;
        Ok((free, self.reserve))
    }

    /// Whether there is room to index so many claims. On a disk that gets full sled is not asked to
    /// write: an error of its is for good, and what had left RAM could then not be looked up.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn check_index(&self, claims: u64) -> Result<()> {
        let (free, reserve) = self.free()?;
        let (a_claim, itself) = INDEX_BYTES;
        if free >= claims.saturating_mul(a_claim).saturating_add(itself + reserve) {
            return Ok(());
        }
        let message = format!(
            "{free} bytes are free, too few to index {claims} claims beside the {reserve} kept for sealing: free some space"
        );
        Err(Error::new(ErrorKind::NoSpace, message))
    }

    fn check_free(&self) -> Result<()> {
        let (free, _) = self.free()?;
        if free < self.reserve + self.step() {
            let message = format!(
                "{} has {free} bytes free, too few beside the {} kept for sealing what is stored",
                self.data_dir.display(),
                self.reserve
            );
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        Ok(())
    }
}

enum Work {
    Extend { file: Arc<dyn DiskFile>, id: u64, from: u64 },
    Prepare { id: u64, file: Option<Arc<dyn DiskFile>>, from: u64, to: u64 },
}

enum Done {
    Extended { id: u64, zeroed: u64 },
    Prepared(Prepared),
}

/// Makes the folder and journal of generation `id`, or goes on with its `file`, zeroed from one
/// place to another, durably.
pub(crate) fn prepare(
    disk: &dyn Disk,
    data_dir: &Path,
    id: u64,
    file: Option<Arc<dyn DiskFile>>,
    (from, to): (u64, u64),
    make_way: impl Fn(u64, u64),
) -> Result<Prepared> {
    let folder = folder(data_dir, id);
    let path = folder.join(JOURNAL);
    let is_new = file.is_none();
    let file = match file {
        Some(file) => file,
        None => {
            disk.create_dir_all(&folder).during("create", &folder)?;
            disk.open(&path, Open::New).during("create", &path)?
        }
    };
    let zeroed = zero(&*file, &path, from, to, make_way).inspect_err(|_| {
        if is_new {
            // The next try makes another, and never one in the place of a file that it does not
            // know.
            let _ = disk.remove_file(&path);
        }
    })?;
    if is_new {
        disk.sync_dir(&folder).during("sync", &folder)?;
        disk.sync_dir(data_dir).during("sync", data_dir)?;
    }
    Ok(Prepared { id, file, zeroed })
}
