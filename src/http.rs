//! HTTP: routes, bodies, answers. Knows no storage, only [`EventStore`](crate::store::EventStore).
//!
//! ```text
//! request → guard → route → caller → body (limits) → decode → store → answer
//! ```
//! `exchange.rs` has that way, `routes.rs` what is where, `service.rs` what all requests share.

mod accept;
mod answer;
mod answer_room;
mod body;
mod chunk;
mod cloud_events;
mod connection;
mod content;
mod decode;
mod decompress;
mod exchange;
mod faults;
mod guard;
mod guests;
mod headers;
mod heavy;
mod identity;
mod lane;
mod lines;
mod list;
mod listing;
mod newcomers;
mod openapi;
mod options;
mod pace;
mod pages;
mod pieces;
mod problem;
mod publish;
mod query;
mod read;
mod receipt;
mod room;
mod routes;
mod service;
mod source;
mod state;
mod tails;
mod upload;

use hyper::HeaderMap;

pub use self::answer::{Answer, Body, IsStream};
pub use self::connection::Connection;
pub use self::guard::Access;
pub use self::listing::IsTail;
pub use self::service::{Limits, Service};

/// The value of a header that may stand once.
fn header<'a>(headers: &'a HeaderMap, name: &hyper::header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Appends a number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a JSON string.
fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and a Vec takes all that is written.
    let _ = serde_json::to_writer(out, text);
}
