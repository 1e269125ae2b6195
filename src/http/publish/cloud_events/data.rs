//! Data as JSON, by its media type: alike in structured and in binary mode.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::body::content::{media_type_of, strip_mark};
use crate::http::publish::decode::Text;
use crate::http::publish::faults::json_text;
use crate::http::wire::problem::Fault;

/// What data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Kept as it is.
    Json,
    /// Kept as a JSON string.
    Text,
    /// Kept as a JSON string in base64.
    Bytes,
}

/// Media types of text, beside `text/*`, `*/xml`, `*+xml` and `*+yaml`.
const TEXTS: [&[u8]; 13] = [
    b"application/csv",
    b"application/ecmascript",
    b"application/graphql",
    b"application/javascript",
    b"application/json-seq",
    b"application/jsonl",
    b"application/ndjson",
    b"application/sql",
    b"application/toml",
    b"application/x-ndjson",
    b"application/x-www-form-urlencoded",
    b"application/x-yaml",
    b"application/yaml",
];

impl Kind {
    /// That of a `Content-Type`, or of a `datacontenttype`.
    pub(crate) fn of(content_type: &[u8]) -> Self {
        let name = media_type_of(content_type).to_ascii_lowercase();
        let ends = |endings: &[&[u8]]| endings.iter().any(|ending| name.ends_with(ending));
        if name.is_empty() || ends(&[b"/json", b"+json"]) {
            Self::Json
        } else if name.starts_with(b"text/")
            || ends(&[b"/xml", b"+xml", b"+yaml"])
            || TEXTS.contains(&&name[..])
        {
            Self::Text
        } else {
            Self::Bytes
        }
    }
}

/// Why bytes are not what their media type says.
pub(crate) enum Odd {
    Json(Vec<Fault>),
    Text,
}

/// Bytes of this kind as JSON. A byte order mark is no part of a text.
pub(crate) fn as_json(kind: Kind, bytes: &[u8]) -> Result<Cow<'_, str>, Odd> {
    match kind {
        Kind::Json => {
            json_text(strip_mark(bytes)).map(|text| Cow::Borrowed(text.trim_ascii())).map_err(Odd::Json)
        }
        Kind::Text => {
            let text = std::str::from_utf8(strip_mark(bytes)).map_err(|_| Odd::Text)?;
            Ok(Cow::Owned(string(text)))
        }
        Kind::Bytes => Ok(Cow::Owned(base64_string(bytes))),
    }
}

/// A JSON string of text, with the escapes that are written here: encoders differ in what they
/// escape, and the same text in both modes is no conflict. What is no string, or no Unicode, stays
/// as it is.
pub(crate) fn same_text(raw: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Text<'_>>(raw) {
        Ok(Text(text)) if raw.contains('\\') => Cow::Owned(string(&text)),
        _ => Cow::Borrowed(raw),
    }
}

fn string(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// Bytes as a JSON string.
pub(crate) fn base64_string(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + 6);
    text.push('"');
    STANDARD.encode_string(bytes, &mut text);
    text.push('"');
    text
}
