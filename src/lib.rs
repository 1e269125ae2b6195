//! sekali ("once"): an event inbox. Producers POST events as often as they like; every event, known
//! by `(topic, event_id)`, is stored exactly once, for ever.
//!
//! ```text
//! cli → server → http → store → local: router → worker → journal ⇢ checkpoint → index, seal
//! ```
//!
//! Read `store/local/worker.rs` first: it decides what becomes of an event. `codec.rs` has every
//! persisted byte. Deliberately absent: nothing under `store` knows HTTP; nothing above it knows
//! sled, and only `store/local/index.rs` names it. A file imports only from its own layer and lower
//! ones:
//!
//! | layer | files |
//! |---|---|
//! | 7 | `main.rs`, `cli/` |
//! | 6 | `server.rs` |
//! | 5 | `http/` |
//! | 4 | `store.rs` |
//! | 3 | `store/local/` |
//! | 1 | `authority.rs`, `event.rs`, `codec.rs`, `config.rs`, `clock.rs`, `disk.rs`, `metrics.rs`, `turnstile.rs` |
//! | 0 | `limits.rs`, `error.rs`, `sync.rs` |

pub mod authority;
pub mod clock;
pub mod codec;
pub mod config;
pub mod disk;
pub mod error;
pub mod event;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod server;
pub mod store;
pub mod sync;
pub mod turnstile;
