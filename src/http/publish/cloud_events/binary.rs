//! Binary mode: attributes in `ce-` headers, data as the body.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

use super::data::{Kind, as_json};
use super::{Attributes, Mapper};
use crate::event::PAYLOAD_ABSENT;
use crate::http::wire::problem::Loc;
use crate::http::wire::query::unescape;
use crate::limits::EVENT_BYTES_MAX;

/// Where an attribute stands.
fn at(name: &'static str) -> Vec<Loc> {
    let header = match name {
        "specversion" => "ce-specversion",
        "id" => "ce-id",
        "source" => "ce-source",
        "type" => "ce-type",
        _ => "ce-time",
    };
    vec![Loc::Name("header"), Loc::Name(header)]
}

impl Mapper<'_> {
    /// One event.
    pub(crate) fn binary(&mut self, headers: &HeaderMap, body: &[u8]) {
        let attributes = Attributes {
            specversion: self.header(headers, "ce-specversion", "specversion"),
            id: self.header(headers, "ce-id", "id"),
            source: self.header(headers, "ce-source", "source"),
            kind: self.header(headers, "ce-type", "type"),
            time: self.header(headers, "ce-time", "time"),
        };
        let kind = headers.get(CONTENT_TYPE).map_or(Kind::Json, |value| Kind::of(value.as_bytes()));
        let data = self.payload(kind, body);
        self.take(0, &attributes, data.as_deref(), at, vec![Loc::Name("body")]);
        self.found.rejected = u64::from(!self.found.faults.is_empty());
    }

    /// The value of a header: out of its quotes, then percent-decoded, once.
    fn header(&mut self, headers: &HeaderMap, header: &str, name: &'static str) -> Option<Cow<'static, str>> {
        let mut values = headers.get_all(header).iter();
        let value = unescape(&unquote(values.next()?.as_bytes()), false);
        if values.next().is_some() {
            self.found.add(at(name), "duplicate_field", "The header is there more than once");
        }
        match String::from_utf8(value) {
            Ok(text) => Some(Cow::Owned(text)),
            Err(_) => {
                self.found.add(at(name), "string_unicode", "Input should be percent-encoded UTF-8");
                None
            }
        }
    }

    /// The data as JSON.
    fn payload<'a>(&mut self, kind: Kind, body: &'a [u8]) -> Option<Cow<'a, str>> {
        let root = vec![Loc::Name("body")];
        // As JSON it may take six times as much.
        if body.len() > EVENT_BYTES_MAX {
            self.found.add(root, "payload_too_large", "Data must have at most 1 MiB");
            return None;
        }
        if kind == Kind::Json && body.is_empty() {
            return Some(Cow::Borrowed(PAYLOAD_ABSENT));
        }
        match as_json(kind, body) {
            Ok(json) => return Some(json),
            Err(faults) => self.found.faults.extend(faults.into_iter().map(|fault| (0, fault))),
        }
        None
    }
}

/// A value without its double quotes, and without the backslashes in them.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(quoted) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        text.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_taken_out_of_quotes_and_decoded_once() {
        let decoded = |value: &str| String::from_utf8(unescape(&unquote(value.as_bytes()), false)).unwrap();
        assert_eq!(decoded("Euro%20%E2%82%AC%20%f0%9f%98%80"), "Euro € 😀");
        assert_eq!(decoded(r#""a \"b\" \\ c""#), r#"a "b" \ c"#);
        assert_eq!(decoded("%2525"), "%25");
        assert_eq!(decoded(r#"a"b""#), r#"a"b""#);
        assert_eq!(decoded(r#"""#), r#"""#);
    }
}
