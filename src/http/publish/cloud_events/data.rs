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
    /// Kept as a JSON string, if it is UTF-8; else as bytes are.
    Text,
    /// The same, but what has control characters is bytes too: nobody has to know all types.
    Unknown,
    /// Kept as a JSON string in base64, whatever bytes they are.
    Bytes,
}

impl Kind {
    /// That of a `Content-Type`, or of a `datacontenttype`.
    pub(crate) fn of(content_type: &[u8]) -> Self {
        let name = media_type_of(content_type).to_ascii_lowercase();
        let is = |begin: &[u8]| name.starts_with(begin);
        let ends = |ending: &[u8]| name.ends_with(ending);
        let is_media = is(b"image/") || is(b"audio/") || is(b"video/") || is(b"font/");
        if name.is_empty() || ends(b"/json") || ends(b"+json") {
            Self::Json
        } else if is(b"text/") {
            Self::Text
        } else if name == b"application/octet-stream" || (is_media && !ends(b"+xml")) {
            Self::Bytes
        } else {
            Self::Unknown
        }
    }
}

/// Bytes of this kind as JSON. A byte order mark is no part of a text.
///
/// # Errors
/// What is to be JSON is none.
pub(crate) fn as_json(kind: Kind, bytes: &[u8]) -> Result<Cow<'_, str>, Vec<Fault>> {
    let is_control = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    let text = match kind {
        Kind::Json => return json_text(strip_mark(bytes)).map(|text| Cow::Borrowed(text.trim_ascii())),
        Kind::Bytes => None,
        Kind::Text => std::str::from_utf8(strip_mark(bytes)).ok(),
        Kind::Unknown => {
            std::str::from_utf8(strip_mark(bytes)).ok().filter(|text| !text.contains(is_control))
        }
    };
    Ok(Cow::Owned(text.map_or_else(|| base64_string(bytes), string)))
}

/// A JSON string of text as its bytes are kept: encoders differ in what they escape, and in whether
/// they keep a byte order mark, and the same text in both modes is no conflict. What is no string, or
/// no Unicode, stays as it is.
pub(crate) fn same_text(kind: Kind, raw: &str) -> Cow<'_, str> {
    let Ok(Text(text)) = serde_json::from_str::<Text<'_>>(raw) else { return Cow::Borrowed(raw) };
    as_json(kind, text.as_bytes()).map_or(Cow::Borrowed(raw), |json| Cow::Owned(json.into_owned()))
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
