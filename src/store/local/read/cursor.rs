//! Cursors: positions of one store, as text.
//!
//! A cursor is an event number, or an offset in a topic, never an address in a file. It names the
//! first event not yet given: ascending pages go on from it, descending ones from the one before
//! it.

use crate::error::{Error, ErrorKind, Result};
use crate::store::local::shared::Shared;

/// What a cursor points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    All,
    /// Low half of the topic's hash.
    Topic(u64),
}

/// `a` or `t`, then in hexadecimal: half of the store's id, the position, and for a topic half of
/// its hash.
pub(crate) fn write_cursor(shared: &Shared, listing: Listing, position: u64) -> String {
    let store = store_half(shared);
    match listing {
        Listing::All => format!("a{store:016x}{position:016x}"),
        Listing::Topic(hash) => format!("t{store:016x}{position:016x}{hash:016x}"),
    }
}

pub(crate) fn read_cursor(shared: &Shared, listing: Listing, text: &str) -> Result<u64> {
    let position = text.get(17..33).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match position {
        Some(position) if write_cursor(shared, listing, position) == text => Ok(position),
        _ => {
            let message = "the cursor is not one of this listing of this store; start again without a cursor";
            Err(Error::new(ErrorKind::BadCursor, message))
        }
    }
}

pub(crate) fn store_half(shared: &Shared) -> u64 {
    u128::from_be_bytes(shared.store_id) as u64
}

/// Half of the store's id and the last topic given, in hexadecimal.
pub(crate) fn write_topic_cursor(shared: &Shared, name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = name.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let name: String = digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect();
    format!("{:016x}{name}", store_half(shared))
}

pub(crate) fn read_topic_cursor(shared: &Shared, text: &str) -> Result<String> {
    let digits = text.get(16..).unwrap_or_default();
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| !name.is_empty() && write_topic_cursor(shared, name) == text).ok_or_else(|| {
        let message = "the cursor is not one that /topics of this store gave; start again without a cursor";
        Error::new(ErrorKind::BadCursor, message)
    })
}
