//! Sends lines in chunks, and adds up the answers.

use std::fmt;
use std::time::Duration;

use indicatif::ProgressBar;
use sekali::limits::LINE_BYTES_MAX;
use serde::Serialize;

use super::super::interrupt::Interrupt;
use super::super::refusal::{fault, told};
use super::super::remote::Remote;
use super::super::{Failure, say};
use super::receipt::{Receipt, Unread};

/// Lines and bytes that make a chunk: what the service commits at once, and what is sent again if there was no answer.
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: usize = 512 << 10;
/// A text as long is no event: it is neither held nor sent.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(TEXT_BYTES_MAX > LINE_BYTES_MAX);
pub(super) const TOO_LONG: &str = "far too long for an event";
/// Where chunks are sent.
const PATH: &str = "/publish";
/// Most refusals that are told one by one.
const TOLD_MAX: u64 = 100;

/// What became of all that was sent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    /// Valid events answered.
    pub(super) received: u64,
    /// Of these, stored now.
    pub(super) unique_processed: u64,
    /// Of these, stored before; by an earlier try of this command, too, if its answer was lost.
    pub(super) duplicate_dropped: u64,
    /// Of the dropped, those whose payload differs from what is stored.
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

/// Takes lines, sends them.
pub(super) struct Sender {
    remote: Remote,
    /// What the lines come from.
    name: String,
    /// What a place in it is called.
    unit: &'static str,
    bar: ProgressBar,
    interrupt: Interrupt,
    lines: Vec<u8>,
    /// Places of the lines that wait.
    places: Vec<u64>,
    totals: Totals,
    /// Refusals that were told one by one.
    told: u64,
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
        let (lines, places) = (Vec::new(), Vec::new());
        Self { remote, name, unit, bar, interrupt, lines, places, totals: Totals::default(), told: 0 }
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What places are called from now on.
    pub(super) fn count_by(&mut self, unit: &'static str) {
        self.unit = unit;
    }

    /// Takes the JSON text of an event, which may go over several lines.
    pub(super) fn take(&mut self, place: u64, text: &[u8]) -> Result<(), Failure> {
        if text.len() >= TEXT_BYTES_MAX {
            self.refuse(place, TOO_LONG);
            return Ok(());
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        if !self.places.is_empty() && self.lines.len() + text.len() > CHUNK_BYTES {
            self.flush()?;
        }
        // Between the tokens of JSON a blank is as good as a line's end, and in them there can't be one.
        self.lines.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.lines.push(b'\n');
        self.places.push(place);
        if self.places.len() >= CHUNK_LINES { self.flush() } else { Ok(()) }
    }

    /// Counts and tells a refusal.
    pub(super) fn refuse(&mut self, place: u64, why: &str) {
        self.totals.rejected = self.totals.rejected.saturating_add(1);
        self.tell(place, why);
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while !self.places.is_empty() {
            self.interrupt.check()?;
            let answer = self.remote.publish(self.lines.clone())?;
            let sent = self.places.len();
            let receipt = Receipt::read(&answer, sent).map_err(|why| match why {
                Unread::Refused => self.remote.refused(PATH, &answer),
                Unread::Strange(why) => self.remote.strange(PATH, "a receipt of what was sent", why),
            })?;
            self.add(&receipt);
            if let Some(line) = receipt.refused {
                let place = self.places[line - 1];
                self.refuse(place, &told(&answer.body));
            }
            self.drop_settled(receipt.settled);
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

    fn add(&mut self, receipt: &Receipt) {
        let totals = &mut self.totals;
        // Each chunk adds up to what was sent, so only a file without end could overflow these.
        for (total, more) in [
            (&mut totals.received, receipt.counts.received),
            (&mut totals.unique_processed, receipt.counts.unique_processed),
            (&mut totals.duplicate_dropped, receipt.counts.duplicate_dropped),
            (&mut totals.conflicts, receipt.counts.conflicts),
            (&mut totals.rejected, receipt.rejected),
        ] {
            *total = total.saturating_add(more);
        }
        self.bar.set_message(format!("{} stored", totals.unique_processed));
        // A line may have several faults.
        for faults in receipt.errors.chunk_by(|one, next| one["line"] == next["line"]) {
            let line = faults[0]["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            let place = line.and_then(|line| self.places.get(line.checked_sub(1)?)).copied();
            let whys: Vec<_> = faults.iter().filter_map(fault).collect();
            self.tell(place.unwrap_or_default(), &whys.join("; "));
        }
    }

    fn tell(&mut self, place: u64, why: &str) {
        if self.told < TOLD_MAX {
            self.told += 1;
            self.bar.suspend(|| say(format_args!("{}, {} {place}: {why}", self.name, self.unit)));
        }
    }

    fn drop_settled(&mut self, lines: usize) {
        let bytes = memchr::memchr_iter(b'\n', &self.lines).nth(lines - 1).map_or(0, |end| end + 1);
        self.lines.drain(..bytes);
        self.places.drain(..lines);
    }
}
