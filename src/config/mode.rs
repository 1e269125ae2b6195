//! The mode of a file, as people write it.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::authority::as_text;

/// Permissions of a file, in octal: `0660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

impl Mode {
    /// Reading and writing for the owner alone.
    pub const OWNER: Self = Self(0o600);

    /// The permissions as bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(|| "use permissions in octal, such as 0600 or 0660".to_owned())
    }
}

impl Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

as_text!(Mode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, bits) in [("0600", 0o600), ("660", 0o660), ("0777", 0o777)] {
            assert_eq!(text.parse(), Ok(Mode(bits)), "{text}");
        }
        assert_eq!(Mode(0o60).to_string(), "0060");
        for bad in ["", "6", "0o600", "1777", "0800", "-600", "rw-", "00600"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
    }
}
