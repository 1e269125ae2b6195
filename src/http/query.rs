//! Query parameters and path segments: percent-decoding, and what is wrong with a value.

use std::str::FromStr;

use super::problem::{Fault, Loc, Problem};
use crate::clock::Timestamp;

/// Decoded parameters, in the order they came. Of a repeated one, the last counts.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses what stands behind the `?`.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| {
            let msg = "Input should be percent-encoded UTF-8".to_owned();
            Problem::invalid(vec![Fault { loc: vec![Loc::Name("query")], msg, kind: "string_unicode" }])
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Where to go on; an empty one is none.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.get("cursor").filter(|cursor| !cursor.is_empty())
    }

    /// A number of at most `max`.
    pub(super) fn limit(&self, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        match usize::from_str(text) {
            Ok(limit) if limit <= max => Ok(limit),
            Ok(_) => {
                Err(bad("limit", "less_than_equal", format!("Input should be less than or equal to {max}")))
            }
            Err(_) => Err(bad("limit", "int_parsing", "Input should be an integer of 0 or more".into())),
        }
    }

    /// An RFC 3339 time. In a query, an unescaped `+` is a blank, so a blank before the offset is a `+`.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let mended = match text.rsplit_once(' ') {
            Some((time, offset)) if offset.len() == 5 && time.contains(['T', 't']) => {
                format!("{time}+{offset}")
            }
            _ => text.to_owned(),
        };
        let message = "Input should be an RFC 3339 time such as 2026-11-22T10:00:00Z";
        let parsed = Timestamp::parse(&mended).or_else(|| Timestamp::parse(&format!("{mended}Z")));
        parsed.map(Some).ok_or_else(|| bad(name, "datetime_parsing", message.into()))
    }
}

/// A refusal of a query parameter.
pub(super) fn bad(name: &'static str, kind: &'static str, msg: String) -> Problem {
    Problem::invalid(vec![Fault { loc: vec![Loc::Name("query"), Loc::Name(name)], msg, kind }])
}

/// Percent-decoding; what is no valid escape stays as it is. `None` if it is no UTF-8.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    String::from_utf8(unescape(text.as_bytes(), plus_is_blank)).ok()
}

/// Percent-decoding of bytes; what is no valid escape stays as it is.
pub(super) fn unescape(bytes: &[u8], plus_is_blank: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        match escape {
            Some(escaped) => {
                decoded.push(escaped);
                at += 3;
            }
            None => {
                decoded.push(if plus_is_blank && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    decoded
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
    fn a_plus_that_became_a_blank_in_an_offset_is_mended() {
        let parsed = |query: &str| Parameters::parse(query).unwrap();
        let time = |query: &str| parsed(query).time("since").ok().flatten();
        let expected = Timestamp::parse("2026-11-22T10:00:00+01:00");
        assert_eq!(time("since=2026-11-22T10:00:00+01:00"), expected);
        assert_eq!(time("since=2026-11-22T10:00:00%2B01:00"), expected);
        assert_eq!(time("since=2026-11-22T09:00:00"), expected);
        assert!(parsed("since=yesterday").time("since").is_err());
    }
}
