//! Query parameters and path segments: percent-decoding, and what is wrong with a value.

use std::str::FromStr;

use percent_encoding::percent_decode;

use crate::clock::Timestamp;
use crate::http::wire::problem::{Fault, Loc, Problem};

/// Decoded parameters, in the order they came. Of a repeated one, the last counts.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses what follows the `?`.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| {
            let msg = "Input should be percent-encoded UTF-8".to_owned();
            Problem::invalid(vec![Fault { loc: vec![Loc::Name("query")], msg, kind: "string_unicode" }])
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Where to go on; an empty one is none.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.get("cursor").filter(|cursor| !cursor.is_empty())
    }

    /// The id of the last event that a reader of a tail saw; an empty one is none. Readers that
    /// can't set a header put it here, as `lastEventId`, `last-event-id` or the like.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        let is_name = |name: &str| {
            let letters = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
            letters.map(|byte| byte.to_ascii_lowercase()).eq(*b"lasteventid")
        };
        let found = self.0.iter().rev().find(|(name, _)| is_name(name));
        found.map(|(_, id)| id.as_str()).filter(|id| !id.is_empty())
    }

    /// Whether an option is on, in any of the words that pydantic takes; off if it is absent.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        let Some(text) = self.get(name) else { return Ok(false) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => {
                let message = "Input should be a valid boolean: true or false";
                Err(bad(name, "bool_parsing", message.to_owned()))
            }
        }
    }

    /// A number from 1 to `max`.
    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        match usize::from_str(text) {
            Ok(0) => {
                let message = "Input should be greater than or equal to 1".to_owned();
                Err(bad("limit", "greater_than_equal", message))
            }
            Ok(limit) if limit <= max => Ok(limit),
            Ok(_) => {
                Err(bad("limit", "less_than_equal", format!("Input should be less than or equal to {max}")))
            }
            Err(_) => Err(bad("limit", "int_parsing", "Input should be an integer of 1 or more".into())),
        }
    }

    /// A point of time. In a query an unescaped `+` is a blank, so where a blank makes no sense a
    /// `+` was meant.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let mended = || {
            let (time, offset) = text.rsplit_once(' ')?;
            Timestamp::parse(&format!("{time}+{offset}"))
        };
        let message = "Input should be a date-time such as 2026-11-22T10:00:00Z, a date or a Unix time";
        let parsed = Timestamp::parse(text).or_else(mended);
        parsed.map(Some).ok_or_else(|| bad(name, "datetime_parsing", message.into()))
    }
}

/// A refusal of a query parameter.
pub(crate) fn bad(name: &'static str, kind: &'static str, msg: String) -> Problem {
    Problem::invalid(vec![Fault { loc: vec![Loc::Name("query"), Loc::Name(name)], msg, kind }])
}

/// Percent-decoding; what is no valid escape stays as it is. `None` if it is no UTF-8.
pub(crate) fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    String::from_utf8(unescape(text.as_bytes(), plus_is_blank)).ok()
}

/// Percent-decoding of bytes; what is no valid escape stays as it is.
pub(crate) fn unescape(bytes: &[u8], plus_is_blank: bool) -> Vec<u8> {
    if !plus_is_blank {
        return percent_decode(bytes).collect();
    }
    let blanks = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte });
    percent_decode(&blanks.collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_broken_ones_left() {
        let decoded = |text, plus_is_blank| decode(text, plus_is_blank).unwrap();
        assert_eq!(decoded("a%2Fb%20c+d%25", true), "a/b c d%");
        assert_eq!(decoded("a+b", false), "a+b");
        assert_eq!(decoded("%zz%4%", true), "%zz%4%");
        assert_eq!(decoded("%C3%A9", true), "é");
        assert_eq!(decode("%FF", true), None);
    }

    #[test]
    fn flags_and_last_ids_have_many_names() {
        let parsed = |query: &str| Parameters::parse(query).unwrap();
        for word in ["true", "True", "TRUE", "1", "yes", "Y", "on", "t"] {
            assert_eq!(parsed(&format!("partial={word}")).flag("partial").ok(), Some(true), "{word}");
        }
        for word in ["false", "False", "0", "no", "N", "OFF", "f"] {
            assert_eq!(parsed(&format!("partial={word}")).flag("partial").ok(), Some(false), "{word}");
        }
        for word in ["", "2", "maybe", "yess"] {
            assert!(parsed(&format!("partial={word}")).flag("partial").is_err(), "{word}");
        }
        for name in ["lastEventId", "Last-Event-ID", "last_event_id", "LASTEVENTID"] {
            assert_eq!(parsed(&format!("{name}=x")).last_event_id(), Some("x"), "{name}");
        }
        assert_eq!(parsed("lastEventId=").last_event_id(), None);
        assert_eq!(parsed("lastEvent=x&lastEventIds=y").last_event_id(), None);
    }

    #[test]
    fn a_plus_that_became_a_blank_in_an_offset_is_mended() {
        let parsed = |query: &str| Parameters::parse(query).unwrap();
        let time = |query: &str| parsed(query).time("since").ok().flatten();
        let expected = Timestamp::parse("2026-11-22T10:00:00+01:00");
        assert_eq!(time("since=2026-11-22T10:00:00+01:00"), expected);
        assert_eq!(time("since=2026-11-22T10:00:00%2B01:00"), expected);
        assert_eq!(time("since=2026-11-22T09:00:00"), expected);
        assert_eq!(time("since=2026-11-22+10:00:00+0100"), expected);
        assert_eq!(time("since=2026-11-22%2010:00:00,000+01"), expected);
        assert_eq!(time("since=2026-11-22+09:00"), expected);
        assert_eq!(time("since=1795338000"), expected);
        assert!(parsed("since=yesterday").time("since").is_err());
    }
}
