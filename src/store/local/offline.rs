//! Work on a store that no process serves.

pub mod repair;
mod search;
pub mod verify;
