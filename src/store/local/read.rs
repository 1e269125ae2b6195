//! What is read of an open store: pages of events, and its figures.

pub(crate) mod batch;
mod collector;
mod cursor;
mod observe;
pub(crate) mod offsets;
mod pages;
pub(crate) mod step_thread;

pub(crate) use self::cursor::{Listing, read_cursor, read_topic_cursor, write_topic_cursor};
pub(crate) use self::observe::{condition, observe};
pub(crate) use self::pages::{end, event, page};
