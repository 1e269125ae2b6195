//! How signatures stand in a header: one grammar for all senders.
//!
//! | header | separator | prefix |
//! |---|---|---|
//! | `t=1700000000,v1=5257…,v1=6ffb…` (Stripe) | `,` | `v1=` |
//! | `ts=1700000000;h1=eb4d…` (Paddle) | `;` | `h1=` |
//! | `v1,g0hM… v1a,hnO3…` (Standard Webhooks) | blank | `v1,` |
//! | `sha256=757107…` (GitHub) | none | `sha256=` |
//! | `Bearer …` | none | `Bearer ` |
//! | `uXuc…` (Shopify) | none | none |
//!
//! A header is split at its separator; the parts that begin with the prefix are signatures.

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};

use crate::limits::SIGNATURES_MAX;

/// Standard base64, padded or not: libraries of senders take both.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Text,
    /// Hexadecimal digits, in either case.
    Hex,
    /// Standard base64, padded or not.
    Base64,
}

impl Encoding {
    /// The word for it in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }

    /// The bytes that are written so.
    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex => unhex(text),
            Self::Base64 => BASE64.decode(text).ok(),
        }
    }
}

/// The bytes of hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// The parts of a header.
pub(super) fn split(header: &str, separator: Option<char>) -> impl Iterator<Item = &str> {
    let split = move |at: char| separator == Some(at);
    header.split(split).map(str::trim).filter(|part| !part.is_empty())
}

/// What follows the prefix of a part, in either case; `None` if it has another one.
fn after<'h>(part: &'h str, prefix: &str) -> Option<&'h str> {
    let (start, rest) = part.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| rest.trim())
}

/// The value of the one part `name=…`.
pub(super) fn named<'h>(header: &'h str, separator: Option<char>, name: &str) -> Option<&'h str> {
    let mut values = split(header, separator).filter_map(|part| {
        let (known, value) = part.split_once('=')?;
        (known == name).then(|| value.trim())
    });
    values.next().filter(|_| values.next().is_none())
}

/// The signatures that have this prefix. `None` if there are more than anybody needs, each of which
/// would have to be compared; a part that is no signature is left out.
pub(super) fn signatures(
    header: &str,
    separator: Option<char>,
    prefix: &str,
    encoding: Encoding,
) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<_> =
        split(header, separator).filter_map(|part| after(part, prefix)).take(SIGNATURES_MAX + 1).collect();
    let decoded = |texts: Vec<&str>| texts.into_iter().filter_map(|text| encoding.decode(text)).collect();
    (texts.len() <= SIGNATURES_MAX).then(|| decoded(texts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(header: &str, separator: &str, prefix: &str, encoding: Encoding) -> Vec<Vec<u8>> {
        signatures(header, separator.chars().next(), prefix, encoding).unwrap()
    }

    #[test]
    fn signatures_are_found_in_every_senders_header() {
        use Encoding::{Base64, Hex, Text};
        let (a, b) = (vec![0xab], vec![0xcd, 0x0f]);
        for (header, separator, prefix, encoding, expected) in [
            ("t=1,v1=ab,v0=00,v1=CD0f", ",", "v1=", Hex, vec![a.clone(), b.clone()]),
            ("ts=1; h1=ab", ";", "h1=", Hex, vec![a.clone()]),
            ("v1,qw== v1a,zQ8= v1,zQ8=", " ", "v1,", Base64, vec![a.clone(), b.clone()]),
            ("v1,qw== v1a,zQ8=", " ", "v1a,", Base64, vec![b.clone()]),
            ("sha256=ab", "", "sha256=", Hex, vec![a.clone()]),
            ("sha1=ab", "", "sha256=", Hex, vec![]),
            ("bearer  \u{ab}", "", "Bearer ", Text, vec!["\u{ab}".as_bytes().to_vec()]),
            ("qw==", "", "", Base64, vec![a]),
            ("a", "", "", Hex, vec![]),
            ("", "", "", Text, vec![]),
            ("v1", ",", "v1=", Hex, vec![]),
        ] {
            assert_eq!(found(header, separator, prefix, encoding), expected, "{header}");
        }
        assert_eq!(named("t=1,v1=ab", Some(','), "t"), Some("1"));
        assert_eq!(named("t=1,t=2", Some(','), "t"), None, "there twice");
        assert_eq!(signatures(&"v1=ab,".repeat(SIGNATURES_MAX + 1), Some(','), "v1=", Hex), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(header in "\\PC{0,64}|([vt]1?[=,] ?[0-9a-fé=]{0,6}[,; ]?){0,20}", separator in "[,; é]?", prefix in "(v1=|v1,|é|)") {
            for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
                let _ = signatures(&header, separator.chars().next(), &prefix, encoding);
            }
            let _ = named(&header, separator.chars().next(), "t");
        }
    }
}
