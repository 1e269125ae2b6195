//! Connections, from outside: where they come to, which of them get a place, what their clients may
//! take, what ends one, how HTTP/1's messages are told apart, and that a log which nobody reads
//! stops nothing. Limits are seconds here, so that nothing is waited for that takes long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

#[path = "connections/balancers.rs"]
mod balancers;
#[path = "connections/framing.rs"]
mod framing;
#[path = "connections/log.rs"]
mod log;
#[path = "connections/peer.rs"]
mod peer;
#[path = "connections/places.rs"]
mod places;
#[path = "connections/progress.rs"]
mod progress;
#[path = "connections/quotas.rs"]
mod quotas;
#[path = "connections/served.rs"]
mod served;
#[path = "connections/sockets.rs"]
mod sockets;
mod support;
