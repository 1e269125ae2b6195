//! Slots of a store in databases, as ranges: `0-31`, or `0-4,6-31`.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use serde::Deserialize;

use crate::limits::DATABASE_SLOTS;

/// Some of the slots of a store; none where the text is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Slots(BTreeSet<usize>);

impl Slots {
    /// All slots of a store.
    pub fn all() -> Self {
        (0..DATABASE_SLOTS).collect()
    }

    /// Their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// Whether this slot is one of them.
    pub fn contains(&self, slot: usize) -> bool {
        self.0.contains(&slot)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<usize> for Slots {
    fn from_iter<I: IntoIterator<Item = usize>>(slots: I) -> Self {
        Self(slots.into_iter().collect())
    }
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|slot| *slot < DATABASE_SLOTS);
        let mut slots = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => slots.extend(first..=last),
                _ => {
                    let most = DATABASE_SLOTS - 1;
                    return Err(format!(
                        "write slots as \"0-31\" or \"0-4,6-31\", from 0 to {most}, each range upwards"
                    ));
                }
            }
        }
        Ok(Self(slots))
    }
}

impl TryFrom<String> for Slots {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<usize> = self.iter().collect();
        let mut separator = "";
        for range in slots.chunk_by(|one, next| one + 1 == *next) {
            f.write_str(separator)?;
            separator = ",";
            match range {
                [first, .., last] => write!(f, "{first}-{last}")?,
                [only] => write!(f, "{only}")?,
                [] => {}
            }
        }
        if slots.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_as_they_are_shown() {
        for text in ["0-63", "0-4,6-31", "7", "0,2,4-5,63"] {
            assert_eq!(text.parse::<Slots>().unwrap().to_string(), text);
        }
        assert_eq!(" 3 - 4, 1".parse::<Slots>().unwrap().to_string(), "1,3-4");
        assert!("".parse::<Slots>().unwrap().is_empty() && Slots::default().to_string() == "none");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["64", "0-64", "4-3", "x", "-", "1-2-3", "-1", "0..3"] {
            assert!(text.parse::<Slots>().is_err(), "{text}");
        }
    }
}
