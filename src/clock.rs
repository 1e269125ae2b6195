//! Time, through a seam that tests can set.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::UtcDateTime;

use crate::sync;

mod grammar;

/// A point of wall-clock time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads a date-time, a date or a Unix time, as `clock/grammar.rs` has them; without an offset
    /// it is UTC. `None` if it is none, or lies outside of what 64 bits of microseconds hold.
    pub fn parse(text: &str) -> Option<Self> {
        grammar::parse(text).map(Self)
    }

    /// Reads a Unix time only.
    pub fn from_unix(text: &str) -> Option<Self> {
        grammar::unix(text).map(Self)
    }

    /// Whether HTTP's `Date` can say it: from 1970 to the year 9999.
    pub fn has_http_date(self) -> bool {
        const BEHIND_9999: i64 = 253_402_300_800_000_000;
        (0..BEHIND_9999).contains(&self.0)
    }

    /// Appends this time as RFC 3339 in UTC with microseconds, as in `2026-11-22T10:00:00.000000Z`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        let seconds = self.0.div_euclid(1_000_000);
        let micros = self.0.rem_euclid(1_000_000).unsigned_abs() as u32;
        let at = UtcDateTime::from_unix_timestamp(seconds).unwrap_or(UtcDateTime::UNIX_EPOCH);
        // Digit by digit, which is much faster than formatting: one is written with every answer
        // and every event that is read.
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        if at.year() < 0 {
            out.push(b'-');
        }
        put(&mut text[..4], at.year().unsigned_abs());
        put(&mut text[5..7], u8::from(at.month()).into());
        put(&mut text[8..10], at.day().into());
        put(&mut text[11..13], at.hour().into());
        put(&mut text[14..16], at.minute().into());
        put(&mut text[17..19], at.second().into());
        put(&mut text[20..26], micros);
        out.extend_from_slice(&text);
    }
}

/// Fills `digits` with the last digits of `number`.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(27);
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no time: write it as 2026-11-22T10:00:00Z")))
    }
}

/// The source of time.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Wall-clock time, which may jump, also backwards. Only pruning and what a person reads rest
    /// on it.
    fn now(&self) -> Timestamp;
    /// Time that never goes back.
    fn monotonic(&self) -> Instant;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        };
        Timestamp(micros)
    }

    fn monotonic(&self) -> Instant {
        sync::monotonic()
    }
}

/// A clock that stands where it was set, for tests. Monotonic time runs on.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_timestamp_parses_to_itself() {
        for at in [0, 1, -1, 1_795_000_000_123_456, -62_135_596_800_000_000] {
            let text = Timestamp(at).to_string();
            assert_eq!(Timestamp::parse(&text), Some(Timestamp(at)), "{text}");
        }
        assert_eq!(Timestamp(1_795_000_000_023_456).to_string(), "2026-11-18T11:06:40.023456Z");
    }

    #[test]
    fn http_has_a_date_from_1970_to_the_year_9999() {
        let last = Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap().0;
        for (at, has_date) in [(0, true), (last, true), (-1, false), (last + 1, false), (i64::MIN, false)] {
            assert_eq!(Timestamp(at).has_http_date(), has_date, "{}", Timestamp(at));
        }
    }

    #[test]
    fn any_time_is_written_without_a_panic() {
        for at in [i64::MIN, i64::MAX] {
            assert!(Timestamp(at).to_string().ends_with('Z'));
        }
    }
}
