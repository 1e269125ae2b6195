//! What the commands that talk to a running service share.
//!
//! ```text
//! target (which service), trust (whom to believe) → exchange (one request, through a proxy or not) → remote (tried again) → answers, refusal
//! ```

mod absolute;
pub(crate) mod answers;
mod credential;
pub(crate) mod exchange;
pub(crate) mod listing;
pub(crate) mod moment;
mod proxy;
pub(crate) mod refusal;
pub(crate) mod remote;
pub(crate) mod target;
pub(crate) mod trust;
