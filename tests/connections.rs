//! Connections, from outside: where they come to, which of them get a place, what their clients may
//! take, what ends one, how HTTP/1's messages are told apart, and that a log which nobody reads
//! stops nothing. Limits are seconds here, so that nothing is waited for that takes long.

mod balancers;
mod framing;
mod log;
mod peer;
mod places;
mod progress;
mod quotas;
mod served;
mod sockets;
