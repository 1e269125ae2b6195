//! A number of bytes, as people write it.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// Bytes: a plain number, or one with a unit. An `i` makes the unit binary: `16MiB` is 16 × 1024²,
/// `64kB` is 64,000; the `B` may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl From<Size> for usize {
    fn from(size: Size) -> Self {
        size.0.try_into().unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = |_| "use a number of bytes, or one with a unit such as 64kB or 16MiB".to_owned();
        text.parse().map(|ByteSize(bytes)| Self(bytes)).map_err(form)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or text with a unit such as \"16MiB\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                let negative = |_| E::invalid_value(Unexpected::Signed(bytes), &self);
                u64::try_from(bytes).map(Size).map_err(negative)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_or_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64kB", 64_000),
            ("64k", 64_000),
            ("64KiB", 64 << 10),
            ("64Ki", 64 << 10),
            ("16MiB", 16 << 20),
            ("16 mib", 16 << 20),
            ("1.5GiB", 3 << 29),
            ("1G", 1_000_000_000),
            ("2GB", 2_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(u64::from(text.parse::<Size>().unwrap()), bytes, "{text}");
        }
        for text in ["", "MiB", "-1", "1e9", "16XiB", "16MiBs", "1,5GiB", "0x10", "many"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }
}
