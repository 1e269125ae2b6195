//! Points of time as a user types them.

use sekali::clock::{Clock, SystemClock, Timestamp};

/// A time for the service, as it was given; a span such as 10m stands for the time so long ago.
pub(crate) fn time(text: &str) -> Result<String, String> {
    let form = || "use a time such as 2026-11-22T10:00:00Z, or how long ago: 10m, 2h, 3d".to_owned();
    if Timestamp::parse(text).is_some() { Ok(text.to_owned()) } else { ago(text)?.ok_or_else(form) }
}

/// A place for a consumer, as it was given: a span stands for a time here too.
pub(crate) fn place(text: &str) -> Result<String, String> {
    Ok(ago(text)?.unwrap_or_else(|| text.to_owned()))
}

/// The time so long ago; `None` if the text is no span.
fn ago(text: &str) -> Result<Option<String>, String> {
    let Ok(span) = humantime::parse_duration(text) else { return Ok(None) };
    // A capital M is a month there, and in other programs a minute.
    if text.contains('M') {
        return Err("M may be a minute or a month: use 10m, or 10months".to_owned());
    }
    let then =
        i64::try_from(span.as_micros()).ok().and_then(|micros| SystemClock.now().0.checked_sub(micros));
    match then {
        Some(then) if then >= 0 => Ok(Some(Timestamp(then).to_string())),
        _ => Err("that is before 1970".to_owned()),
    }
}
