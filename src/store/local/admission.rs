//! What waits to be decided, and what it must have before it is.

pub(crate) mod job;
pub(crate) mod preallocation;
pub(crate) mod queue;
pub(crate) mod route;
pub(crate) mod vitals;
