//! Opening a store: what is on disk is checked and brought back, then the threads are started.

pub(crate) mod data_dir;
pub(crate) mod leftovers;
mod recovery;
mod replay;
pub(crate) mod start;
