//! From a request to a durable answer: a worker decides, and a group commit makes it durable.

mod changes;
pub(crate) mod group;
pub(crate) mod group_commit;
pub(crate) mod lookahead;
pub(crate) mod worker;
pub(crate) mod writer;
