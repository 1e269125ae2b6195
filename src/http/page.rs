//! The page for people: its files, which are part of the program, and the stream of figures that it
//! shows.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | the files of `page/`, and what browsers are told about them |
//! | `window.rs` | what happened in the last hour, in fixed memory |
//! | `hub.rs` | what all who watch share |
//! | `live.rs` | `GET /live`: that hour, and then the figures of each second |

pub(super) mod files;
pub(super) mod hub;
mod live;
mod window;
