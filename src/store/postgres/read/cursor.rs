//! Cursors: positions of one store, as text.
//!
//! | listing | text |
//! |---|---|
//! | a topic | `t`, half of the store's id, an offset, half of the topic's hash, in hexadecimal |
//! | all topics | `s`, half of the store's id in hexadecimal, then a number for each slot in base64 |
//!
//! A number is that of the first event not yet given. The numbers of all slots are a bitmap of
//! those above 0, then these, each in groups of seven bits, so a cursor has about three bytes a
//! slot.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, ErrorKind, Result};

/// The number of the next event of each slot.
pub(crate) type Positions = Vec<i64>;

pub(crate) fn write_all(store: u64, positions: &[i64]) -> String {
    let mut bytes: Vec<u8> = positions
        .chunks(8)
        .map(|eight| (0..).zip(eight).fold(0, |bits, (bit, position)| bits | u8::from(*position > 0) << bit))
        .collect();
    for position in positions.iter().filter(|position| **position > 0) {
        let mut rest = position.unsigned_abs();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    format!("s{store:016x}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(crate) fn read_all(store: u64, slots: usize, text: &str) -> Result<Positions> {
    let positions = text.get(17..).and_then(|digits| URL_SAFE_NO_PAD.decode(digits).ok());
    let positions = positions.and_then(|bytes| unpack(slots, &bytes));
    positions.filter(|positions| write_all(store, positions) == text).ok_or_else(bad)
}

fn unpack(slots: usize, bytes: &[u8]) -> Option<Positions> {
    let (bitmap, mut rest) = bytes.split_at_checked(slots.div_ceil(8))?;
    let mut positions = vec![0; slots];
    for (slot, position) in positions.iter_mut().enumerate() {
        if bitmap[slot / 8] >> (slot % 8) & 1 == 0 {
            continue;
        }
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            *position |= i64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 63)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    rest.is_empty().then_some(positions)
}

pub(crate) fn write_topic(store: u64, hash: u64, offset: i64) -> String {
    format!("t{store:016x}{offset:016x}{hash:016x}")
}

pub(crate) fn read_topic(store: u64, hash: u64, text: &str) -> Result<i64> {
    let offset = text.get(17..33).and_then(|digits| i64::from_str_radix(digits, 16).ok());
    offset.filter(|offset| write_topic(store, hash, *offset) == text).ok_or_else(bad)
}

/// Half of the hash of the topic that a cursor is of; `None` if it is none.
pub(crate) fn topic_hash(text: &str) -> Option<u64> {
    text.get(33..).and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// Half of the store's id and the last topic given.
pub(crate) fn write_name(store: u64, name: &str) -> String {
    format!("{store:016x}{}", URL_SAFE_NO_PAD.encode(name))
}

pub(crate) fn read_name(store: u64, text: &str) -> Result<String> {
    let name = text.get(16..).and_then(|digits| URL_SAFE_NO_PAD.decode(digits).ok());
    let name = name.and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| !name.is_empty() && write_name(store, name) == text).ok_or_else(|| {
        let message = "the cursor is not one that /topics of this store gave; start again without a cursor";
        Error::new(ErrorKind::BadCursor, message)
    })
}

fn bad() -> Error {
    let message = "the cursor is not one of this listing of this store; start again without a cursor";
    Error::new(ErrorKind::BadCursor, message)
}

/// The answer to a cursor that is ahead of what is stored.
pub(crate) fn ahead() -> Error {
    let message = "the cursor is ahead of what is stored: the database is an older copy than the one that gave it; \
                   start again without a cursor, or with one of before the copy was made";
    Error::new(ErrorKind::ExpiredCursor, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_of_all_slots_are_read_back(
            positions in prop::collection::vec(prop_oneof![Just(0), 0..1_000i64, 0..=i64::MAX], 64),
            store: u64,
        ) {
            let text = write_all(store, &positions);
            prop_assert_eq!(read_all(store, 64, &text).unwrap(), positions);
            prop_assert!(read_all(store ^ 1, 64, &text).is_err(), "another store's");
            prop_assert!(read_all(store, 64, &text[..text.len() - 1]).is_err(), "cut");
        }

        #[test]
        fn no_text_is_more_than_refused(text in ".{0,40}", store: u64) {
            let wrong = format!("s{store:016x}{text}");
            let _ = (read_all(store, 64, &wrong), read_all(store, 64, &text));
            prop_assert!(read_topic(store, 7, &text).is_err() && read_name(store, &text).is_err());
        }
    }
}
