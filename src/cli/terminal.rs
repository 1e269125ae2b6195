//! What people see and type: sentences, tables and progress on a terminal, and Ctrl-C.

pub(crate) mod interrupt;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod text;
