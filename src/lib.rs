//! sekali ("once"): an event inbox. Producers POST events as often as they like; every event, known
//! by `(topic, event_id)`, is stored exactly once, for ever.
//!
//! ```text
//! cli → server → http → store ┬→ local: route → worker → journal ⇢ checkpoint → index, seal
//!                             └→ postgres: groups → slot → one statement
//! ```
//!
//! Read `store/local/write/worker.rs` first: it decides what becomes of an event in a directory. In
//! a database `store/postgres/write/slot.rs` does. `store/local/format/codec.rs` lists every
//! persisted byte of a directory, and `store/postgres/migrations` has the tables of a database.
//! Deliberately absent: nothing under `store` knows HTTP; nothing above it knows sled, and only
//! `store/local/generation/index/sled_index.rs` names it. ARCHITECTURE.md has the table of rooms,
//! and says which may import from which.

pub mod auth;
pub mod authority;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod disk;
pub mod error;
pub mod event;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod quota;
pub mod server;
pub mod store;
pub mod sync;
pub mod toml_fault;
mod turns;
pub mod turnstile;
pub mod watch;
pub mod webhook;
