//! What takes seconds: each module is a part of what is promised, and
//! `cargo test --test quick -- api::` runs one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

mod absence;
mod answers;
mod api;
mod bodies;
mod browser;
mod cache;
mod checker;
mod cli;
mod client_cli;
mod clients;
mod connections;
mod consumers;
mod data_dir;
mod deploy;
mod dialects;
mod docs;
mod examples;
mod golden;
mod hostile;
mod http2;
mod layers;
mod mem_disk;
mod metrics;
mod page;
mod sources;
mod streams;
mod support;
mod tls;
mod tokens;
