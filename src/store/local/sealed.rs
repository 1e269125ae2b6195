//! What never changes: the files of sealed generations, and the filters over them.

pub(crate) mod files;
pub mod filter;
pub mod filter_set;
pub(crate) mod frame_run;
pub(crate) mod maps;
pub mod open_files;
pub mod sorted_file;
