//! What is read of an open store: pages of events, and its figures.

mod observe;
mod page;
mod pages;
pub(crate) mod scans;
pub(crate) mod turns;

pub(crate) use self::observe::observe;
pub(crate) use self::page::store_half;
pub(crate) use self::pages::{end, event, page};
