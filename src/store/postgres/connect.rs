//! Connections to a database: how they are made, used and lost, and what its answers mean.

pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod fault;
pub(crate) mod identity;
pub(crate) mod options;
pub(crate) mod primary;
