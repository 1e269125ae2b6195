//! What is read of an open store: pages of events, and its figures.

mod collector;
mod cursor;
mod observe;
mod pages;
pub(crate) mod scans;
pub(crate) mod turns;

pub(crate) use self::cursor::{read_topic_cursor, write_topic_cursor};
pub(crate) use self::observe::{condition, observe};
pub(crate) use self::pages::{end, event, page};
