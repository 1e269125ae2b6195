//! What lies in a data directory: every persisted byte, and how it is walked through.

pub(crate) mod block;
pub mod claim;
pub mod codec;
pub mod entries;
pub(crate) mod frame;
pub mod hash;
pub(crate) mod hold;
pub(crate) mod journal_end;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod reader;
pub(crate) mod stray;
pub(crate) mod walk;
