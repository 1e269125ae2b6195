//! Statements that change something, and whether the databases keep what they promise.

pub(crate) mod promise_check;
pub(crate) mod retry;
pub(crate) mod slot;
