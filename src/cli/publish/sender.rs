//! Sends lines in chunks, and adds up the answers.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use sekali::clock::{Clock, SystemClock};
use sekali::limits::LINE_BYTES_MAX;
use serde::Serialize;

use super::publish_answer::{PublishAnswer, Unread};
use crate::cli::client::refusal::{fault, sentence};
use crate::cli::client::remote::Remote;
use crate::cli::exit::Failure;
use crate::cli::terminal::interrupt::Interrupt;
use crate::cli::terminal::output::say;

/// Lines and bytes that make a chunk: what the service commits at once, and what is sent again if
/// there was no answer.
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: usize = 512 << 10;
/// Longest that a line waits for others that fill the chunk.
const CHUNK_TIME: Duration = Duration::from_secs(1);
/// A text of this length is no event: it is neither held nor sent.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(TEXT_BYTES_MAX > LINE_BYTES_MAX);
pub(super) const TOO_LONG: &str = "far too long for an event";
/// The path that chunks are sent to.
const PATH: &str = "/publish";
/// Most refusals that are told one by one.
const TOLD_MAX: u64 = 100;
/// Most conflicts that are told one by one.
const NAMED_MAX: u64 = 10;

/// What became of all that was sent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    /// Valid events that were answered.
    pub(super) received: u64,
    /// Events of them that are stored now.
    pub(super) unique_processed: u64,
    /// Events of them that were stored before; also by an earlier try of this command, if its
    /// answer was lost.
    pub(super) duplicate_dropped: u64,
    /// Dropped events whose payload differs from what is stored.
    pub(super) conflicts: u64,
    /// Events that were refused.
    pub(super) rejected: u64,
    /// Requests that were sent again.
    pub(super) retries: u64,
}

impl Totals {
    /// Whether there was an answer to anything.
    pub(super) fn is_any(&self) -> bool {
        self.received > 0 || self.rejected > 0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} stored", self.unique_processed)?;
        write!(f, "{:>12} dropped, as stored before", self.duplicate_dropped)?;
        if self.conflicts > 0 {
            write!(f, "; {} of them with another payload", self.conflicts)?;
        }
        write!(f, "\n{:>12} refused", self.rejected)
    }
}

/// Takes the texts of events, and sends them in chunks.
pub(super) struct Sender {
    remote: Remote,
    /// What the lines come from.
    name: String,
    /// What a position in the input is called.
    unit: &'static str,
    bar: ProgressBar,
    interrupt: Interrupt,
    lines: Vec<u8>,
    /// Positions of the lines that wait, and since when the first of them does.
    positions: Vec<u64>,
    since: Instant,
    totals: Totals,
    /// Refusals that were told one by one.
    told: u64,
    /// Whether conflicts are told too.
    is_naming: bool,
    /// Conflicts meanwhile.
    named: u64,
}

impl Sender {
    pub(super) fn new(
        remote: Remote,
        name: String,
        unit: &'static str,
        bar: ProgressBar,
        interrupt: Interrupt,
    ) -> Self {
        bar.enable_steady_tick(Duration::from_millis(200));
        let (lines, positions) = (Vec::new(), Vec::new());
        let totals = Totals::default();
        Self {
            remote,
            name,
            unit,
            bar,
            interrupt,
            lines,
            positions,
            since: SystemClock.monotonic(),
            totals,
            told: 0,
            is_naming: false,
            named: 0,
        }
    }

    /// Has the first conflicts told from now on, or no more.
    pub(super) fn name_conflicts(&mut self, is_naming: bool) {
        self.is_naming = is_naming;
    }

    /// Conflicts while they were told.
    pub(super) fn named_conflicts(&self) -> u64 {
        self.named
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What positions are called from now on.
    pub(super) fn count_by(&mut self, unit: &'static str) {
        self.unit = unit;
    }

    /// Takes the JSON text of an event, which may go over several lines.
    pub(super) fn take(&mut self, position: u64, text: &[u8]) -> Result<(), Failure> {
        if text.len() >= TEXT_BYTES_MAX {
            self.refuse(position, TOO_LONG);
            return Ok(());
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        if !self.positions.is_empty() && self.lines.len() + text.len() > CHUNK_BYTES {
            self.flush()?;
        }
        // Between the tokens of JSON a blank is as good as a line's end, and in them there can't be
        // one.
        self.lines.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.lines.push(b'\n');
        self.positions.push(position);
        let now = SystemClock.monotonic();
        if self.positions.len() == 1 {
            self.since = now;
        }
        let is_due =
            self.positions.len() >= CHUNK_LINES || now.saturating_duration_since(self.since) > CHUNK_TIME;
        if is_due { self.flush() } else { Ok(()) }
    }

    /// Counts and tells a refusal.
    pub(super) fn refuse(&mut self, position: u64, why: &str) {
        self.totals.rejected = self.totals.rejected.saturating_add(1);
        self.tell(position, why);
    }

    /// Sends the lines that wait.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while !self.positions.is_empty() {
            self.interrupt.check()?;
            let answer = self.remote.publish(self.lines.clone(), self.is_naming)?;
            let sent = self.positions.len();
            let publish_answer = PublishAnswer::read(&answer, sent).map_err(|why| match why {
                Unread::Refused => self.remote.refused(PATH, &answer),
                Unread::Strange(why) => self.remote.strange(PATH, "an account of what was sent", why),
            })?;
            self.add(&publish_answer);
            if let Some(line) = publish_answer.refused {
                let position = self.positions[line - 1];
                self.refuse(position, &sentence(&answer.body));
            }
            self.drop_settled(publish_answer.settled);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Totals {
        self.bar.finish_and_clear();
        if self.totals.rejected > self.told {
            say(format_args!("{} more were refused", self.totals.rejected - self.told));
        }
        Totals { retries: self.remote.retried, ..self.totals }
    }

    fn add(&mut self, publish_answer: &PublishAnswer) {
        let totals = &mut self.totals;
        // Each chunk adds up to what was sent, so only a file without end could overflow these.
        for (total, more) in [
            (&mut totals.received, publish_answer.counts.received),
            (&mut totals.unique_processed, publish_answer.counts.unique_processed),
            (&mut totals.duplicate_dropped, publish_answer.counts.duplicate_dropped),
            (&mut totals.conflicts, publish_answer.counts.conflicts),
            (&mut totals.rejected, publish_answer.rejected),
        ] {
            *total = total.saturating_add(more);
        }
        let mut conflicts = self.named;
        if self.is_naming {
            self.named = self.named.saturating_add(publish_answer.counts.conflicts);
        }
        self.bar.set_message(format!("{} stored", totals.unique_processed));
        // A line may have several faults.
        for faults in publish_answer.errors.chunk_by(|one, next| one["line"] == next["line"]) {
            let line = faults[0]["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            let position = line.and_then(|line| self.positions.get(line.checked_sub(1)?)).copied();
            let whys: Vec<_> = faults.iter().filter_map(fault).collect();
            let (position, whys) = (position.unwrap_or_default(), whys.join("; "));
            match faults[0]["type"] == "conflict" {
                true if conflicts < NAMED_MAX => self.say(position, &whys),
                true => {}
                false => self.tell(position, &whys),
            }
            conflicts += u64::from(faults[0]["type"] == "conflict");
        }
    }

    fn tell(&mut self, position: u64, why: &str) {
        if self.told < TOLD_MAX {
            self.told += 1;
            self.say(position, why);
        }
    }

    fn say(&self, position: u64, why: &str) {
        self.bar.suspend(|| say(format_args!("{}, {} {position}: {why}", self.name, self.unit)));
    }

    fn drop_settled(&mut self, lines: usize) {
        let bytes = memchr::memchr_iter(b'\n', &self.lines).nth(lines - 1).map_or(0, |end| end + 1);
        self.lines.drain(..bytes);
        self.positions.drain(..lines);
    }
}
