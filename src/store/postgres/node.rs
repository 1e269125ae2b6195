//! What a node knows of the databases, and what all its parts share. None of it is relied on alone.

pub(crate) mod consumer_cache;
pub(crate) mod coverage;
pub(crate) mod group;
pub(crate) mod groups;
pub(crate) mod pauses;
pub(crate) mod shared;
pub(crate) mod topic_names;
