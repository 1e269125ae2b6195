//! Opening the databases of a store: their schema, their slots, and whether they belong together.

pub(crate) mod opening;
pub(crate) mod owners;
pub(crate) mod schema;
pub(crate) mod site;
