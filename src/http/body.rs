//! Bodies of requests: what they are, how they arrive, and what they may hold meanwhile.

pub(super) mod budget;
pub(super) mod content;
pub(super) mod decoded;
mod decompress;
pub(super) mod eviction;
pub(super) mod pace;
pub(super) mod upload;
mod whole;
