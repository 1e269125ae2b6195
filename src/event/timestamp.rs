//! The timestamp of an event: it comes as a string or as a number, and goes out as it came.
//!
//! | came as | is kept as |
//! |---|---|
//! | a string that is a date-time or a date | its text |
//! | a string that is a Unix time, such as `"1795341600"` | its text in double quotes |
//! | a JSON number, a Unix time | its text |
//!
//! So a kept text says by itself which of them it is: no date reads as a number.

use std::borrow::Cow;

use super::fault::{Fault, Field, fault};
use crate::clock::Timestamp;
use crate::limits::TIMESTAMP_BYTES_MAX;

/// The timestamp that a JSON value is, as it is kept.
///
/// # Errors
/// It is neither a string nor a number, or can't be a timestamp.
pub fn keep_json(raw: &str) -> Result<Cow<'_, str>, Fault> {
    let refused = |kind, message| fault(Field::Timestamp, kind, message);
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => keep(text),
        Some(_) => {
            let text: String = serde_json::from_str(raw).map_err(|_| {
                refused("string_unicode", "timestamp must not hold an escape of half a surrogate pair")
            })?;
            keep(&text).map(|kept| Cow::Owned(kept.into_owned()))
        }
        None if is_number(raw) => Ok(Cow::Borrowed(raw)),
        None => Err(refused(
            "datetime_type",
            "timestamp must be a string or a number: a date-time or a Unix time",
        )),
    }
}

/// The timestamp that a text is, as it is kept. What can't be one is found by [`check`], but for a
/// text that begins as a kept one.
///
/// # Errors
/// It begins with a double quote.
pub fn keep(text: &str) -> Result<Cow<'_, str>, Fault> {
    match text.as_bytes() {
        [b'"', ..] => Err(invalid()),
        _ if is_dated(text) || Timestamp::from_unix(text).is_none() => Ok(Cow::Borrowed(text)),
        _ => Ok(Cow::Owned(format!("\"{text}\""))),
    }
}

/// Checks a kept timestamp.
///
/// # Errors
/// If `kept` is no ISO 8601 date-time, date or Unix time. Without an offset it is taken as UTC.
pub fn check(kept: &str) -> Result<(), Fault> {
    let is_valid = match kept.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').is_some_and(|text| Timestamp::from_unix(text).is_some()),
        None => Timestamp::parse(kept).is_some() && (is_dated(kept) || !is_numeric(kept) || is_number(kept)),
    };
    if is_valid && kept.len() <= TIMESTAMP_BYTES_MAX { Ok(()) } else { Err(invalid()) }
}

/// Appends a kept timestamp as the JSON value that it came as.
pub fn push_json(kept: &str, out: &mut Vec<u8>) {
    if kept.starts_with('"') || (!is_dated(kept) && is_number(kept)) {
        out.extend_from_slice(kept.as_bytes());
    } else {
        // A string always serialises, and a Vec takes all that is written.
        let _ = serde_json::to_writer(out, kept);
    }
}

fn invalid() -> Fault {
    fault(
        Field::Timestamp,
        "datetime_parsing",
        "timestamp must be an ISO 8601 date-time such as 2026-11-22T10:00:00Z, a date or a Unix time",
    )
}

/// Whether it begins as nearly all do: with a year and a hyphen, as no number does.
fn is_dated(text: &str) -> bool {
    matches!(text.as_bytes(), [y0, y1, y2, y3, b'-', ..] if [y0, y1, y2, y3].iter().all(|byte| byte.is_ascii_digit()))
}

/// Whether it reads as a number, JSON's or another's.
fn is_numeric(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// Whether it is a JSON number.
fn is_number(text: &str) -> bool {
    let begins = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    text.as_bytes().first().is_some_and(begins)
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        && !text.ends_with(|last: char| last.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes back of a JSON value, if it is taken.
    fn back(raw: &str) -> Option<String> {
        let kept = keep_json(raw).ok()?;
        check(&kept).ok()?;
        let mut out = Vec::new();
        push_json(&kept, &mut out);
        String::from_utf8(out).ok()
    }

    #[test]
    fn numbers_and_strings_come_back_as_what_they_were() {
        for raw in [
            "1795341600",
            "1795341600.50",
            "-5",
            "1e9",
            "0",
            "20000000001",
            "1795341600123",
            "\"1795341600\"",
            "\"1795341600.50\"",
            "\"+5\"",
            "\"007\"",
            "\".5\"",
            "\"5.\"",
            "\"2026-11-22\"",
            "\"20261122\"",
            "\"2026-11-22 10:00:00,123+00\"",
            "\"20261122T100000Z\"",
            "\"2026-11-22T10:00:00Z\"",
        ] {
            assert_eq!(back(raw).as_deref(), Some(raw));
        }
        assert_eq!(back(r#""2026-11-22\u005410:00:00Z""#).as_deref(), Some("\"2026-11-22T10:00:00Z\""));
        assert_eq!(back(r#""\u0031795341600""#).as_deref(), Some("\"1795341600\""));
        for raw in [
            "null",
            "true",
            "{}",
            "[]",
            "\"\"",
            "\"yesterday\"",
            "1E400",
            "1763800000000000",
            "253402300800000",
            r#""\"1795341600\"""#,
            r#""\"""#,
            r#""\ud800""#,
            "\"nan\"",
        ] {
            assert_eq!(back(raw), None, "{raw}");
        }
        for kept in ["+5", "007", "5.", "\"2026-11-22\"", "\"\"", "\""] {
            assert!(check(kept).is_err(), "{kept} is no kept form");
        }
        let long = format!("2026-11-22T10:00:00.{}Z", "0".repeat(64));
        assert!(check(&long).is_err());
    }

    #[test]
    fn date_times_of_the_field_are_taken_and_others_refused() {
        for good in [
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00",
            "2026-11-22T10:00:00.123456",
            "2026-11-22T10:00:00.123456789+07:00",
            "2026-11-22t10:00:00z",
            "2026-11-22T10:00Z",
            "2026-11-22",
            "2026-11-22 10:00:00,123+00",
            "1763800000",
            "20261122T100000Z",
            "2016-12-31T23:59:60Z",
            "2024-02-29T00:00:00-11:30",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:30:00Z",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00:00+99:00",
            "2026-11-22T10:00:00-25:00",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00+07:60",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:00.1x",
            "2o26-11-22T10:00:00Z",
            "2026-11-22T10:00-00Z",
            "2026-11-22T10:00:00Zjunk",
            "2026/11/22T10:00:00Z",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_kept_text_has_one_reading(text in "[-+0-9.eETZ: \"]{0,20}") {
            if let Ok(kept) = keep(&text)
                && check(&kept).is_ok()
            {
                let mut out = Vec::new();
                push_json(&kept, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
            }
        }
    }
}
