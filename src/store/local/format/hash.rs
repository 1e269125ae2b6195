//! Hashes keyed by the store's secret, so that no sender can aim at a place in an index or at one
//! worker.

use std::fmt;

use siphasher::sip128::SipHasher13;
use smallvec::SmallVec;

use crate::limits::{EVENT_ID_BYTES_MAX, TOPIC_BYTES_MAX};

/// Sets the hash of a topic apart from those of events, whatever bytes they have.
const TOPIC_DOMAIN: u8 = 0x5c;

/// The store's secret: random, made with the store, kept in its MANIFEST.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// SipHash-1-3-128 of `topic \0 event_id`. Its big-endian bytes are the key in a sealed
    /// generation's claims.
    pub fn event(&self, topic: &[u8], event_id: &[u8]) -> u128 {
        // One call over a buffer on the stack: the hasher's own is slower with pieces of odd
        // lengths.
        let mut key = SmallVec::<[u8; TOPIC_BYTES_MAX + 1 + EVENT_ID_BYTES_MAX]>::new();
        key.extend_from_slice(topic);
        key.push(0);
        key.extend_from_slice(event_id);
        self.key(&key)
    }

    /// SipHash-1-3-128 of a whole key `topic \0 event_id`, as the live index has it; the same as
    /// [`Secret::event`].
    pub fn key(&self, key: &[u8]) -> u128 {
        SipHasher13::new_with_key(&self.0).hash(key).as_u128()
    }

    /// SipHash-1-3-128 of a topic, under a key of its own.
    pub fn topic(&self, topic: &[u8]) -> u128 {
        SipHasher13::new_with_key(&self.0.map(|byte| byte ^ TOPIC_DOMAIN)).hash(topic).as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret(*b"0123456789abcdef");

    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(SECRET.event(b"orders", b"e-1"), 269_568_955_304_983_025_477_870_987_256_206_074_788);
        assert_eq!(SECRET.topic(b"orders"), 50_173_907_708_600_270_990_927_543_630_214_733_961);
    }

    #[test]
    fn an_event_hashes_like_its_key_however_long_it_is() {
        for len in [0, 1, 255, 256, 2_000] {
            let id = vec![b'x'; len];
            assert_eq!(SECRET.event(b"t", &id), SECRET.key(&[b"t\0", &id[..]].concat()));
        }
    }

    #[test]
    fn a_topic_and_an_event_of_the_same_bytes_differ() {
        assert_ne!(SECRET.topic(b"a\0b"), SECRET.event(b"a", b"b"));
        assert_ne!(SECRET.event(b"a", b"b"), Secret([0; 16]).event(b"a", b"b"));
        assert_eq!(format!("{SECRET:?}"), "Secret");
    }
}
