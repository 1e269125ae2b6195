//! What happens to a store, as data: the same seed makes the same history, and steps can be left
//! out of it.

/// What is done in one step. Details come from the step's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Append one batch, and take its answer.
    Append,
    /// Several batches in flight at once, with a reader beside them.
    Burst,
    /// Look for events that are there, and for some that are not.
    Find,
    /// Read some pages and keep the cursor.
    Read,
    /// Go on from kept cursors.
    Resume,
    /// Read totals and topics.
    Stats,
    /// Count invalid events.
    Reject,
    /// Set the clock, forwards or backwards.
    Clock,
    /// Stop cleanly, start.
    Close,
    /// Kill the idle process, start.
    Kill,
    /// Kill it with batches in flight, start.
    KillInFlight,
    /// Cut the power of an idle machine, start.
    Cut,
    /// Cut it with batches in flight, start.
    CutInFlight,
    /// Cut it, and again while it recovers, several deep.
    CutRecovery,
    /// A write or sync fails, the process ends, start.
    IoError,
    /// A call of another kind fails, in a start or after it, start.
    FailedCall,
    /// The disk is full, then there is room.
    Full,
    /// A sync does not come back for minutes, start.
    Stall,
    /// A bit of any file turns while the store is stopped.
    Damage,
    /// Stop or kill, prove that all parts agree, start.
    Verify,
    /// Stop or kill, rebuild the indexes, start.
    Rebuild,
}

/// How often each is drawn.
const WEIGHTS: [(u32, Kind); 21] = [
    (30, Kind::Append),
    (12, Kind::Burst),
    (4, Kind::Find),
    (6, Kind::Read),
    (4, Kind::Resume),
    (4, Kind::Stats),
    (2, Kind::Reject),
    (5, Kind::Clock),
    (5, Kind::Close),
    (3, Kind::Kill),
    (3, Kind::KillInFlight),
    (3, Kind::Cut),
    (5, Kind::CutInFlight),
    (3, Kind::CutRecovery),
    (4, Kind::IoError),
    (4, Kind::FailedCall),
    (1, Kind::Full),
    (if cfg!(feature = "simulation") { 2 } else { 0 }, Kind::Stall),
    (2, Kind::Damage),
    (2, Kind::Verify),
    (1, Kind::Rebuild),
];

/// One step; its seed decides all that is random in it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The kind of step.
    pub kind: Kind,
    /// Where its details come from.
    pub seed: u64,
}

/// The steps that a seed stands for.
#[derive(Clone, Debug)]
pub struct History {
    /// Where the first start's settings come from.
    pub seed: u64,
    /// Its steps, in the order in which they are played.
    pub steps: Vec<Step>,
}

impl History {
    /// The history of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(5..40);
        let steps = (0..count).map(|_| Step { kind: draw(&mut rng), seed: rng.u64(..) }).collect();
        Self { seed, steps }
    }
}

fn draw(rng: &mut fastrand::Rng) -> Kind {
    let mut at = rng.u32(..WEIGHTS.iter().map(|(weight, _)| weight).sum::<u32>());
    for (weight, kind) in WEIGHTS {
        if at < weight {
            return kind;
        }
        at -= weight;
    }
    Kind::Append
}

/// A line a step.
impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "started with seed {}", self.seed)?;
        let mut steps = self.steps.iter().enumerate();
        steps.try_for_each(|(number, Step { kind, seed })| writeln!(f, "{number:3} {kind:?} {seed}"))
    }
}
