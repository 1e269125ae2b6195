//! TLS, from outside: which handshakes succeed, what does not hurt the service, that HTTP is the
//! same over it, that its files are read again, and that the commands speak it. Certificates are
//! made by the tests; programs are curl, openssl and sslyze.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/changes.rs"]
mod changes;
#[path = "tls/commands.rs"]
mod commands;
#[path = "tls/handshakes.rs"]
mod handshakes;
#[path = "tls/http.rs"]
mod http;
#[path = "tls/renewal.rs"]
mod renewal;
#[path = "tls/secured.rs"]
mod secured;
mod support;

use support::authority;
