//! What indexes keep: claims, where blocks and frames are, and what is covered.

use bincode::{Decode, Encode};

use super::codec::FixedRecord;

/// What is known of a stored event. Value in sled's `dedup` (after a version byte), and in a sealed
/// generation's `claims`, whose header has the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// Offset of the stored event in its topic.
    pub offset: u64,
    /// Digest of its payload.
    pub digest: [u8; 16],
    /// When it arrived.
    pub received_at: i64,
}

impl FixedRecord for Claim {
    const NAME: &'static str = "claim";
    const BYTES: usize = 32;
}

/// Where a block of events lies in its generation's journal. Value in `processed`, live (after a
/// version byte) and sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlockLocation {
    /// Where its header begins.
    pub at: u64,
    /// Bytes of header and body.
    pub length: u32,
    /// How many events.
    pub count: u32,
}

impl FixedRecord for BlockLocation {
    const NAME: &'static str = "block location";
    const BYTES: usize = 16;
}

/// Where a run of frames begins in its generation's journal. Value in a sealed generation's
/// `frames`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FrameLocation {
    /// Where the first frame begins.
    pub at: u64,
    /// Earliest arrival in the run.
    pub received_min: i64,
    /// Latest arrival in the run.
    pub received_max: i64,
}

impl FixedRecord for FrameLocation {
    const NAME: &'static str = "frame location";
    const BYTES: usize = 24;
}

/// Value in sled's `meta` under `covered`: what the Db holds. Written by the checkpoint, after what
/// it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Covered {
    /// [`INDEX_VERSION`](super::codec::INDEX_VERSION).
    pub version: u8,
    /// The generation's nonce.
    pub nonce: u64,
    /// Every frame of the generation up to this number is in it.
    pub through: u64,
    /// How many claims.
    pub claims: u64,
    /// Sum of their hashes' low 64 bits, wrapping.
    pub sum: u64,
}

impl FixedRecord for Covered {
    const NAME: &'static str = "covered range";
    const BYTES: usize = 33;
}
