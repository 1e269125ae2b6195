//! Reading: cursors, and pages of events and of topics.

pub(crate) mod cursor;
pub(crate) mod listing;
pub(crate) mod merge;
pub(crate) mod pages;
pub(crate) mod topic_list;
