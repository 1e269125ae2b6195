//! What runs after the answers: checkpoints, seals, and filters that become one.

pub(crate) mod checkpoint;
pub(crate) mod filter_merge;
pub(crate) mod hold_check;
mod index_set;
pub(crate) mod seal;
pub(crate) mod throttle;
