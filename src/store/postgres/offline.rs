//! Work on a store that no node serves: moving a store in, moving slots, and verifying.

pub mod filling;
pub mod regroup;
pub mod verify;
