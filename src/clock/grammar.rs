//! A point of time as text, in every form in which it comes: one grammar, whatever separates date
//! and time.
//!
//! | part | form |
//! |---|---|
//! | date | `2026-11-22`; alone it is its first moment |
//! | separator | `T`, `t`, a blank, `_` |
//! | time | `10:00`, `10:00:00`, with a point or a comma and digits after the seconds |
//! | offset | none (UTC), `Z`, `z`, `+07`, `+0700`, `+07:00`, `+07:00:00`, with `-` or `−` as well; a blank may stand before it |
//! | Unix time | digits, with sign, fraction or exponent: seconds, or milliseconds beyond 20,000,000,000 either way |
//! | zone | after an offset, as Go prints it: `UTC`, `CET`, `+07`, and ` m=+0.1`; the offset alone counts |
//! | the rest of ISO 8601 | basic format, ordinal and week dates, leap seconds |
//!
//! It takes what pydantic takes, and what PostgreSQL, Python's `isoformat` and Go's `String` write of the
//! years 1 to 9999.

use std::ops::Range;

use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, UtcDateTime};

/// Largest Unix time that counts seconds: pydantic's.
const SECONDS_MAX: f64 = 2e10;
/// The years 1 to 9999, in microseconds.
const UNIX_MICROS: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The point of time that `text` is, in microseconds since 1970.
pub(super) fn parse(text: &str) -> Option<i64> {
    date_time(text.as_bytes()).or_else(|| unix(text)).or_else(|| calendar(text))
}

/// A Unix time; `None` if it is none, or lies outside of the years 1 to 9999.
pub(super) fn unix(text: &str) -> Option<i64> {
    let is_fit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(is_fit) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    let micros = if number.abs() > SECONDS_MAX { number * 1e3 } else { number * 1e6 };
    // Beyond its bounds this conversion gives the nearest of them.
    let micros = micros.round() as i64;
    UNIX_MICROS.contains(&micros).then_some(micros)
}

/// `YYYY-MM-DD[THH:MM[:SS[.fraction]][offset]]`, the shape of nearly all timestamps.
fn date_time(text: &[u8]) -> Option<i64> {
    let (year, month, day) = (number(text, 0..4)?, number(text, 5..7)?, number(text, 8..10)?);
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let days = date.to_julian_day() - UtcDateTime::UNIX_EPOCH.date().to_julian_day();
    let midnight = i64::from(days) * DAY_SECONDS;
    if text.len() == 10 {
        return Some(midnight * SECOND_MICROS);
    }
    let (hour, minute) = (number(text, 11..13)?, number(text, 14..16)?);
    if !matches!(text[10], b'T' | b't' | b' ' | b'_') || text[13] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let (mut second, mut micros, mut rest) = (0, 0, &text[16..]);
    if rest.first() == Some(&b':') {
        second = number(rest, 1..3).filter(|second| *second <= 59)?;
        rest = &rest[3..];
        if let [b'.' | b',', fraction @ ..] = rest {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let scale = fraction[..digits].iter().take(6);
            micros = scale.clone().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            micros *= 10_i64.pow(6 - u32::try_from(scale.len()).ok()?);
            rest = &fraction[digits..];
        }
    }
    let ahead = offset(rest).or_else(|| offset(without_zone(rest)?))?;
    let seconds = midnight + i64::from(hour * 3_600 + minute * 60 + second) - ahead;
    Some(seconds * SECOND_MICROS + micros)
}

/// The offset in ` +0700 WIB` or ` +0700 +07 m=+0.1`, as Go prints a time.
fn without_zone(text: &[u8]) -> Option<&[u8]> {
    let mut words = text.strip_prefix(b" ")?.split(|byte| *byte == b' ');
    let (offset, zone, running) = (words.next()?, words.next()?, words.next());
    let is_zone = (2..=6).contains(&zone.len())
        && (zone.iter().all(u8::is_ascii_alphabetic)
            || (matches!(zone[0], b'+' | b'-') && zone[1..].iter().all(u8::is_ascii_digit)));
    let is_running = |word: &[u8]| {
        let number = word.strip_prefix(b"m=").filter(|number| matches!(number, [b'+' | b'-', _, ..]));
        number.is_some_and(|number| number[1..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'))
    };
    let is_numeric = matches!(offset, [b'+' | b'-', _, _, _, _]);
    let is_go = is_numeric && is_zone && running.is_none_or(is_running) && words.next().is_none();
    is_go.then_some(offset)
}

/// The seconds that an offset is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").filter(|rest| !rest.is_empty()).unwrap_or(text);
    let (sign, text) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        // A true minus, as ISO 8601 would have it.
        [0xe2, 0x88, 0x92, rest @ ..] => (-1, rest),
        _ => return None,
    };
    let hours = number(text, 0..2).filter(|hours| *hours <= 23)?;
    let (minutes, seconds) = match text {
        [_, _] => (0, 0),
        [_, _, _, _] => (number(text, 2..4)?, 0),
        [_, _, b':', _, _] => (number(text, 3..5)?, 0),
        [_, _, b':', _, _, b':', _, _] => (number(text, 3..5)?, number(text, 6..8)?),
        _ => return None,
    };
    (minutes <= 59 && seconds <= 59).then(|| sign * i64::from(hours * 3_600 + minutes * 60 + seconds))
}

/// The number whose digits stand there.
fn number(text: &[u8], range: Range<usize>) -> Option<u32> {
    let digits = text.get(range)?.iter();
    digits.copied().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// Every other form of ISO 8601.
fn calendar(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase().replacen([' ', '_'], "T", 1);
    let parsed = OffsetDateTime::parse(&text, &Rfc3339);
    let parsed = match parsed.or_else(|_| OffsetDateTime::parse(&text, &Iso8601::PARSING)) {
        // Both take offsets of a day and more.
        Ok(time) if time.offset().whole_hours().abs() < 24 => time,
        Ok(_) => return None,
        Err(_) => PrimitiveDateTime::parse(&text, &Iso8601::PARSING).ok()?.assume_utc(),
    };
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_has_many_forms() {
        let expected = parse("2026-11-22T10:00:00Z");
        assert_eq!(expected, Some(1_795_341_600_000_000));
        for text in [
            "2026-11-22T10:00:00",
            "2026-11-22t10:00z",
            "2026-11-22 10:00",
            "2026-11-22_10:00:00.000",
            "2026-11-22 10:00:00,000000+00",
            "2026-11-22 17:00:00+0700",
            "2026-11-22T06:30:00-03:30",
            "2026-11-22T06:30:00.0\u{2212}0330",
            "2026-11-22 10:53:28+00:53:28",
            "2026-11-22 10:00:00 +00:00",
            "2026-11-22 10:00:00 +0000 UTC",
            "2026-11-22 17:00:00.000000000 +0700 WIB",
            "2026-11-22 07:00:00 -0300 -03",
            "2026-11-22 10:00:00 +0000 UTC m=+0.000012345",
            "20261122T100000Z",
            "20261122 100000Z",
            "2026-W47-7T10:00:00Z",
            "2026-326T10:00:00Z",
            "1795341600",
            "+1795341600.0",
            "1795341600000",
            "1.7953416e9",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("2026-11-22"), expected.map(|at| at - 36_000 * SECOND_MICROS));
        assert_eq!(parse("1970-01-01T00:00:00.1234567"), Some(123_456));
        assert_eq!(parse("1969-12-31T23:59:59,5"), Some(-500_000));
        assert_eq!(parse("-1.5"), Some(-1_500_000));
        assert_eq!(parse("20000000001"), Some(20_000_000_001_000));
    }

    #[test]
    fn what_is_no_point_of_time_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "e",
            "now",
            "nan",
            "inf",
            "infinity",
            "0x10",
            "1_000",
            " 5",
            "5 ",
            "99999999999999999999",
            "253402300800000",
            "-62135596800001",
            "1763800000000000",
            "2026-11",
            "2026-11-22T",
            "2026-11-22T10",
            "2026-11-22Z",
            "2026-11-22T10:00:00.",
            "2026-11-22T10:00:00+1",
            "2026-11-22T10:00:00+24",
            "2026-11-22T10:00:00+0760",
            "2026-11-22T10:00:00 ",
            "2026-11-22T10:00:00  Z",
            "2026-11-22-10:00:00",
            "2026-11-22T10:00:00Z+01",
            "2026-11-22 10:00:00 UTC",
            "2026-11-22 10:00:00 +00:00 UTC",
            "2026-11-22 10:00:00 +0000 UTC now",
            "2026-11-22 10:00:00 +0000 UTC m=",
            "2026-11-22 10:00:00 +0000 UTC m=+0.1 m=+0.1",
            "2026-11-22 10:00:00 +0000  UTC",
            "2026-11-22 10:00:00 +2500 CET",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
