//! Webhooks of other services: proves that a delivery is genuine, and makes it an event.
//!
//! ```text
//! [sources.NAME] ─> Settings ─> Source            once, at a start or when the files change
//!
//! Delivery ─> Proof: missing, malformed, wrong or stale?    nothing is parsed before
//!          ─> Mapping: topic, id, time and payload, or a place in the quarantine
//! ```
//!
//! What differs between senders is data: a row of the table in `preset.rs`, or the same fields
//! written by a person. Nothing here knows HTTP or a store.

mod content;
mod credential;
mod delivery;
mod explanation;
mod key;
mod look;
mod mapping;
mod parts;
mod preset;
mod proof;
mod settings;
mod source;
mod sources;
mod template;

pub use self::delivery::{Delivery, is_packed};
pub use self::explanation::{Explanation, Step};
pub use self::mapping::Unmapped;
pub use self::preset::{FixedAnswer, Other, PRESETS, Preset};
pub use self::proof::Refused;
pub use self::settings::{Settings, SettingsError};
pub use self::source::{Source, Taken};
pub use self::sources::Sources;

#[cfg(test)]
mod tests;
