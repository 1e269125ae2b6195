//! What a sender sends.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::percent_decode;

/// A delivery, as it came. It holds credentials, so it can't be printed.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// All headers, in the order they came; their names are in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// What follows the `?`.
    pub query: &'a str,
    /// The body, byte for byte.
    pub body: &'a Bytes,
}

impl<'a> Delivery<'a> {
    /// The value of a header that is there once and is text. One that is there twice could be read
    /// in two ways.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
        let value = values.next().filter(|_| values.next().is_none())?;
        std::str::from_utf8(value).ok().map(str::trim)
    }

    /// All that came under the name of a header, as HTTP puts values together; what is no text is
    /// marked. It is for keeping, and proves nothing.
    pub(super) fn whole_header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(known, _)| *known == name);
        let texts: Vec<_> =
            values.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned()).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    /// The value of a query parameter that is there once and is text.
    pub fn parameter(&self, name: &str) -> Option<String> {
        only(&Pairs::of(self.query.as_bytes()).texts, name).map(str::to_owned)
    }
}

/// Whether a body with these values of `Content-Encoding` is packed: what is signed is the body as
/// it was sent, and no sender is known that packs it.
pub fn is_packed<'v>(mut encodings: impl Iterator<Item = &'v [u8]>) -> bool {
    encodings.any(|value| !value.eq_ignore_ascii_case(b"identity"))
}

/// The pairs of a query or a form, decoded.
pub(super) struct Pairs {
    /// Those that are text.
    pub(super) texts: Vec<(String, String)>,
    /// Whether there are no others.
    pub(super) are_all: bool,
}

impl Pairs {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut pairs = Self { texts: Vec::new(), are_all: true };
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            match (decoded(&pair[..at]), decoded(pair.get(at + 1..).unwrap_or_default())) {
                (Some(name), Some(value)) => pairs.texts.push((name, value)),
                _ => pairs.are_all = false,
            }
        }
        pairs
    }
}

/// The one value that has this name.
pub(super) fn only<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let mut values = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    values.next().filter(|_| values.next().is_none())
}

fn decoded(text: &[u8]) -> Option<String> {
    let blanks: Cow<'_, [u8]> = match memchr::memchr(b'+', text) {
        None => Cow::Borrowed(text),
        Some(_) => text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect(),
    };
    String::from_utf8(percent_decode(&blanks).collect()).ok()
}
