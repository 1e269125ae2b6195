//! Work on a store that no process serves.

mod loss;
pub mod rebuild;
pub mod repair;
mod salvage;
mod search;
mod store;
pub mod verify;
