//! What a body is, and what is found in it by its path.
//!
//! | body | kept as |
//! |---|---|
//! | a JSON object or array, unless its type is that of a form | itself, byte for byte |
//! | another JSON value whose type is JSON's, or is not named | itself, byte for byte |
//! | a form, or other text in UTF-8 | an envelope with the text as `body` |
//! | anything else | an envelope with the bytes as `body_base64` |
//!
//! An envelope is `{"content_type":"…","body":"…"}`. It has `headers` where the source names some,
//! and then a JSON body stands in an envelope too, as a value.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::delivery::{Delivery, Pairs, only};

/// A body, looked at once.
pub(super) enum Content<'a> {
    /// The text of one JSON value.
    Json(&'a str),
    Form(&'a str, Pairs),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    /// What the body of a delivery is.
    pub(super) fn of(delivery: &Delivery<'a>) -> Self {
        let body: &'a [u8] = delivery.body;
        let Ok(text) = std::str::from_utf8(body) else { return Self::Bytes(body) };
        let kind = media_type(delivery);
        if kind == "application/x-www-form-urlencoded" {
            return Self::Form(text, Pairs::of(body));
        }
        // Some write a byte order mark before it, which is no part of JSON.
        let unmarked = text.strip_prefix('\u{feff}').unwrap_or(text);
        let trimmed = unmarked.trim_matches([' ', '\t', '\r', '\n']);
        let is_candidate = trimmed.starts_with(['{', '['])
            || kind.is_empty()
            || kind.ends_with("/json")
            || kind.ends_with("+json");
        match is_candidate && serde_json::from_str::<IgnoredAny>(trimmed).is_ok() {
            true => Self::Json(trimmed),
            false => Self::Text(text),
        }
    }

    /// Whether places in it have no names.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Bytes(_))
    }

    pub(super) fn is_form(&self) -> bool {
        matches!(self, Self::Form(..))
    }

    /// The text of the string, number or boolean at a path.
    pub(super) fn find(&self, path: &[String]) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(text) => scalar(at(text, path)?),
            Self::Form(_, fields) => {
                only(&fields.texts, &path.join(".")).map(|value| Cow::Owned(value.to_owned()))
            }
            Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// Names and values of a form as Twilio signs them: sorted, each pair once. None if a pair is
    /// no text: without it, anybody could add it to what was signed.
    pub(super) fn sorted_form(&self) -> Option<Vec<u8>> {
        let Self::Form(_, fields) = self else { return Some(Vec::new()) };
        let mut texts: Vec<_> = fields.are_all.then(|| fields.texts.iter().collect())?;
        texts.sort_unstable();
        texts.dedup();
        let bytes = |(name, value): &(String, String)| [name.as_bytes(), value.as_bytes()].concat();
        Some(texts.into_iter().flat_map(bytes).collect())
    }

    /// The members of an envelope that have the body, and a comma before them.
    pub(super) fn push_member(&self, envelope: &mut String) {
        match self {
            Self::Json(text) => envelope.extend([",\"body\":", text]),
            Self::Form(text, _) | Self::Text(text) => push_text(envelope, text),
            Self::Bytes(bytes) => push_bytes(envelope, bytes),
        }
    }
}

/// The member of an envelope that has a body exactly, whatever it is.
pub(super) fn push_exactly(body: &[u8], envelope: &mut String) {
    match std::str::from_utf8(body) {
        Ok(text) => push_text(envelope, text),
        Err(_) => push_bytes(envelope, body),
    }
}

fn push_text(envelope: &mut String, text: &str) {
    envelope.push_str(",\"body\":");
    envelope.push_str(&string(text));
}

fn push_bytes(envelope: &mut String, bytes: &[u8]) {
    envelope.push_str(",\"body_base64\":\"");
    STANDARD.encode_string(bytes, envelope);
    envelope.push('"');
}

/// A JSON string.
pub(super) fn string(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// The media type of a delivery in lower case, without its parameters; empty if there is none.
fn media_type(delivery: &Delivery<'_>) -> String {
    let kind = delivery.header("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The JSON value at a path.
pub(super) fn at<'a>(text: &'a str, path: &[String]) -> Option<&'a str> {
    path.iter().try_fold(text, |text, step| {
        let mut json = serde_json::Deserializer::from_str(text);
        Step(step).deserialize(&mut json).ok()?
    })
}

/// The elements of a JSON array; `None` if it is none, or has more than `max`.
pub(super) fn elements(text: &str, max: usize) -> Option<Vec<&str>> {
    struct Elements(usize);
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de str>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element::<&RawValue>()? {
                if elements.len() == self.0 {
                    return Err(A::Error::custom("too many elements"));
                }
                elements.push(element.get());
            }
            Ok(elements)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_seq(Elements(max)).ok()
}

/// A value as text, if it is neither a container, nor `null`, nor empty.
fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    let text = match raw.as_bytes().first()? {
        b'{' | b'[' | b'n' => return None,
        b'"' => Cow::Owned(serde_json::from_str::<String>(raw).ok()?),
        _ => Cow::Borrowed(raw),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Goes from a value to its member of this name or its element of this number. A member that is
/// there twice could be read in two ways, and is none.
struct Step<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<&RawValue>()?.get()).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.parse::<usize>().ok();
        let (mut found, mut index) = (None, 0);
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if wanted == Some(index) {
                found = Some(element.get());
            }
            index += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn with<T>(kind: &str, body: &[u8], look: impl FnOnce(&Content<'_>) -> T) -> T {
        let (body, headers) = (Bytes::copy_from_slice(body), [("content-type", kind.as_bytes())]);
        look(&Content::of(&Delivery { headers: &headers, query: "", body: &body }))
    }

    fn found(body: &str, path: &str) -> Option<String> {
        let path: Vec<_> = path.split('.').map(str::to_owned).collect();
        with("application/json", body.as_bytes(), |content| content.find(&path).map(Cow::into_owned))
    }

    #[test]
    fn values_are_found_by_their_path_and_numbers_stay_as_they_are() {
        let body = r#"{"id":"e","n":12345678901234567890.50,"a":[{"b":true},"x"],"o":{},"z":null,"e":"","d":1,"d":2,"u":"\u00e9"}"#;
        for (path, expected) in [
            ("id", Some("e")),
            ("n", Some("12345678901234567890.50")),
            ("a.0.b", Some("true")),
            ("a.1", Some("x")),
            ("u", Some("é")),
            ("a.2", None),
            ("a.x", None),
            ("o", None),
            ("z", None),
            ("e", None),
            ("d", None),
            ("id.x", None),
            ("absent", None),
        ] {
            assert_eq!(found(body, path).as_deref(), expected, "{path}");
        }
        assert_eq!(found("no JSON", "id"), None);
    }

    #[test]
    fn fields_of_a_form_are_decoded_and_found() {
        with("application/x-www-form-urlencoded; charset=utf-8", b"a=1+2%26&b=%C3%A9&c&d=1&d=2", |form| {
            let find = |name: &str| form.find(&[name.to_owned()]).map(Cow::into_owned);
            assert_eq!(find("a").as_deref(), Some("1 2&"));
            assert_eq!(find("b").as_deref(), Some("é"));
            assert_eq!(find("d"), None, "there twice");
            assert_eq!(form.sorted_form().as_deref(), Some("a1 2&bécd1d2".as_bytes()));
        });
    }

    #[test]
    fn every_body_is_kept_exactly() {
        for (kind, body, expected) in [
            ("application/json", &b" {\"n\": 1.0}\n"[..], ",\"body\":{\"n\": 1.0}"),
            ("text/plain", b"{\"a\":1}", ",\"body\":{\"a\":1}"),
            ("text/plain", b"12", ",\"body\":\"12\""),
            ("application/json", b"12", ",\"body\":12"),
            ("application/json", b"{\"a\":", ",\"body\":\"{\\\"a\\\":\""),
            ("application/x-www-form-urlencoded", b"{\"a\":1}", ",\"body\":\"{\\\"a\\\":1}\""),
            ("text/xml", b"<a>\"\n</a>", ",\"body\":\"<a>\\\"\\n</a>\""),
            ("image/png", b"\x89PNG", ",\"body_base64\":\"iVBORw==\""),
            ("application/json", b"", ",\"body\":\"\""),
        ] {
            let mut member = String::new();
            with(kind, body, |content| content.push_member(&mut member));
            assert_eq!(member, expected, "{kind}");
            assert!(serde_json::from_str::<IgnoredAny>(&format!("{{{}}}", &member[1..])).is_ok());
        }
    }

    proptest! {
        #[test]
        fn any_body_is_looked_at_and_kept_without_a_panic(body: Vec<u8>, kind in "(application/json|application/x-www-form-urlencoded|.{0,9})") {
            with(&kind, &body, |content| {
                let _ = content.find(&["a".to_owned(), "0".to_owned()]);
                let mut envelope = String::from("{\"x\":1");
                content.push_member(&mut envelope);
                envelope.push('}');
                assert!(serde_json::from_str::<IgnoredAny>(&envelope).is_ok());
            });
        }
    }
}
