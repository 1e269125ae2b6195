//! Parts of a consumer's topics, so that several workers share them.
//!
//! A topic belongs to part `1 + FNV-1a(topic) mod n` of `n`, where FNV-1a has 64 bits and runs over
//! the bytes of the topic's name (<http://www.isthe.com/chongo/tech/comp/fnv/>). It has no key, so
//! that clients can compute it and every backend agrees; it never changes.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::limits::PARTITIONS_MAX;

/// Part `index` of `count`, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    index: u16,
    count: u16,
}

impl Partition {
    /// All topics.
    pub const ALL: Self = Self { index: 1, count: 1 };

    /// Which of the parts it is, from 1 on, and how many there are.
    pub fn numbers(self) -> (u16, u16) {
        (self.index, self.count)
    }

    /// Whether it is all topics.
    pub fn is_all(self) -> bool {
        self.count == 1
    }

    /// Whether a topic belongs to it.
    pub fn has(self, topic: &[u8]) -> bool {
        self.is_all() || hash(topic) % u64::from(self.count) == u64::from(self.index - 1)
    }

    /// Whether a topic can belong to both. A hash can leave one remainder with each of two counts
    /// if the remainders are the same for the greatest divisor that the counts share.
    pub fn overlaps(self, other: Self) -> bool {
        let shared = greatest_common_divisor(self.count, other.count);
        (self.index - 1) % shared == (other.index - 1) % shared
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, count)| Some(Self { index: index.parse().ok()?, count: count.parse().ok()? }));
        let is_one = |part: &Self| {
            (1..=PARTITIONS_MAX).contains(&usize::from(part.count)) && (1..=part.count).contains(&part.index)
        };
        numbers.filter(is_one).ok_or_else(|| {
            format!("a partition is written as 1/4, the first of four; there are at most {PARTITIONS_MAX}")
        })
    }
}

impl Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// FNV-1a with 64 bits.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition(text: &str) -> Partition {
        text.parse().unwrap()
    }

    #[test]
    fn the_hash_is_that_of_the_published_test_vectors() {
        for (text, expected) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(hash(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_partition_is_told() {
        for wrong in ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/100000", "1/4/2", "a/b"] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong:?}");
        }
        assert_eq!(partition("3/4").to_string(), "3/4");
    }

    #[test]
    fn parts_overlap_where_one_is_made_of_others() {
        for (a, b, expected) in [
            ("1/1", "2/3", true),
            ("1/2", "1/4", true),
            ("1/2", "3/4", true),
            ("1/2", "2/4", false),
            ("1/2", "2/2", false),
            ("1/2", "1/3", true),
            ("2/4", "4/6", true),
            ("2/4", "3/6", false),
        ] {
            assert_eq!(partition(a).overlaps(partition(b)), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn a_topic_is_in_one_part_of_any_number(topic in ".{0,40}", count in 1..=PARTITIONS_MAX) {
            let has = |index: &usize| partition(&format!("{index}/{count}")).has(topic.as_bytes());
            prop_assert_eq!((1..=count).filter(has).count(), 1);
        }

        #[test]
        fn parts_that_share_a_topic_overlap(topic in ".{1,9}", a in 1..=9usize, b in 1..=9usize) {
            let of = |count: usize| {
                let parts = (1..=count).map(|index| partition(&format!("{index}/{count}")));
                parts.into_iter().find(|part| part.has(topic.as_bytes())).unwrap()
            };
            prop_assert!(of(a).overlaps(of(b)));
        }
    }
}
