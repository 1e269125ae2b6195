//! Receipts: what stands for the events of one answer, as text that its reader gives back.
//!
//! ```text
//! base64url( version 1 · consumer 8 · lease 8 · for each topic: number, next offset · checksum 8 )
//! ```
//! Numbers of topics and offsets are LEB128; a topic's number is whatever the backend knows it by
//! as long as the lease lasts. The checksum is XXH3 of what is before it. It tells a slip from a
//! receipt; it keeps nobody from making one, who could as well move the consumer.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
/// Bytes before the topics, and after them.
const HEAD_BYTES: usize = 17;
const CHECKSUM_BYTES: usize = 8;

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the consumer, of this life of its name.
    pub consumer: u64,
    /// Number of the lease that the events were given under.
    pub lease: u64,
    /// Topics of the events by their numbers, each with the offset after its last event; in the
    /// order in which the topics were read.
    pub positions: Vec<(u32, u64)>,
}

impl Receipt {
    /// The receipt as text.
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.consumer.to_le_bytes());
        bytes.extend_from_slice(&self.lease.to_le_bytes());
        for (topic, next_offset) in &self.positions {
            push_number(&mut bytes, u64::from(*topic));
            push_number(&mut bytes, *next_offset);
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The receipt that a text is; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let (head, mut rest) = content.split_at_checked(HEAD_BYTES)?;
        let number = |from: usize| Some(u64::from_le_bytes(head.get(from..from + 8)?.try_into().ok()?));
        if head.first() != Some(&VERSION) {
            return None;
        }
        let mut positions = Vec::new();
        while !rest.is_empty() {
            let topic = u32::try_from(take_number(&mut rest)?).ok()?;
            positions.push((topic, take_number(&mut rest)?));
        }
        Some(Self { consumer: number(1)?, lease: number(9)?, positions })
    }
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_receipt_is_read_back_as_it_was(
            consumer: u64,
            lease: u64,
            positions in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..20),
        ) {
            let receipt = Receipt { consumer, lease, positions };
            prop_assert_eq!(Receipt::parse(&receipt.to_text()), Some(receipt));
        }

        #[test]
        fn any_other_text_is_none(text in ".{0,80}") {
            prop_assert_eq!(Receipt::parse(&text), None);
        }

        #[test]
        fn one_changed_letter_is_noticed(at in 0usize..30) {
            let receipt = Receipt { consumer: 1, lease: 2, positions: vec![(3, 4)] };
            let mut text = receipt.to_text().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(Receipt::parse(&String::from_utf8(text).unwrap()), None);
        }
    }
}
