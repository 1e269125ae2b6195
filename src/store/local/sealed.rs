//! What never changes: the files of sealed generations, and the filters over them.

pub mod filter;
pub mod filter_set;
pub mod open_files;
pub mod sorted_file;
