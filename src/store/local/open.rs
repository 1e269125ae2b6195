//! Opening a store: what is on disk is checked and brought back, then the threads are started.

pub(crate) mod leftovers;
pub(crate) mod recovery;
