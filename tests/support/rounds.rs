//! How often each fault is played. `SEKALI_FAULTS=all` plays each as often as a change to this
//! repository needs, and `SEKALI_FAULTS=soak` plays it for a day or two. Without it a short round
//! is played: it fails if the service is broken, and takes seconds. A variable of its own, which
//! goes before that, sets one of the numbers.

/// A number for threads of the machine, or another where a seed drives them: then histories take
/// milliseconds, and a short round has as many as any other.
const fn threads(real: u64, simulated: u64) -> u64 {
    if cfg!(feature = "simulation") { simulated } else { real }
}

/// The variable, and its number in a short round, for each change, and in a soak of a day or two.
const ROUNDS: [(&str, u64, u64, u64); 26] = [
    ("SEKALI_ATTACK_KINDS", 5, u64::MAX, u64::MAX),
    ("SEKALI_ATTACK_ROUNDS", 1, 1, 20),
    ("SEKALI_ATTACK_SECONDS", 1, 2, 2),
    ("SEKALI_BROKEN_OFF", threads(10, 500), threads(60, 500), 10_000),
    ("SEKALI_CALL_ERRORS", threads(10, 500), threads(60, 500), 10_000),
    ("SEKALI_CRASH_ROUNDS", 30, 300, 10_000),
    ("SEKALI_DAMAGES", 100, 500, 20_000),
    ("SEKALI_DATABASE_CUTS", 24, 120, 2_000),
    ("SEKALI_DATABASE_EVENTS", 6_000, 100_000, 1_000_000),
    ("SEKALI_DATABASE_FAILOVERS", 1, 4, 200),
    ("SEKALI_DATABASE_KILLS", 4, 30, 2_000),
    ("SEKALI_DATABASE_OUTAGES", 2, 8, 500),
    ("SEKALI_FAULT_ERRORS", 2, 15, 1_000),
    ("SEKALI_FAULT_KILLS", 4, 50, 1_000),
    ("SEKALI_FAULT_STARTS", 10, 40, 1_000),
    ("SEKALI_FORGETFUL_CASES", threads(15, 50), 50, 2_000),
    ("SEKALI_FULL_DISKS", 4, 100, 2_000),
    ("SEKALI_IO_ERRORS", 2_000, 2_000, 100_000),
    ("SEKALI_MODEL_CASES", threads(30, 5_000), threads(100, 5_000), threads(20_000, 1_000_000)),
    ("SEKALI_OVERLOAD_SECONDS", 10, 30, 1_800),
    ("SEKALI_PATRONI_FAULTS", 1, 10, 300),
    ("SEKALI_POWER_CUTS", 2, 100, 2_000),
    ("SEKALI_POWER_CUTS_XFS", 2, 25, 500),
    ("SEKALI_RECOVERY_KILLS", 4, 10, 1_000),
    ("SEKALI_REPAIRS", 30, 300, 20_000),
    ("SEKALI_SOAK_SECONDS", 15, 120, 28_800),
];

/// The number that a variable of the table stands for.
///
/// # Panics
/// If the table has no such variable, or a variable is set to what it can't be.
pub fn rounds(variable: &str) -> u64 {
    let row = ROUNDS.iter().find(|(name, ..)| *name == variable);
    let (_, short, change, soak) = row.unwrap_or_else(|| panic!("{variable} is in no row of the table"));
    let number = match std::env::var("SEKALI_FAULTS").as_deref() {
        Err(_) | Ok("short") => short,
        Ok("all") => change,
        Ok("soak") => soak,
        Ok(other) => panic!("SEKALI_FAULTS must be short, all or soak, not {other:?}"),
    };
    super::number(variable, *number)
}
