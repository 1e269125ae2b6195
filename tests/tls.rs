//! TLS, from outside: which handshakes succeed, what does not hurt the service, that HTTP is the
//! same over it, that its files are read again, and that the commands speak it. Certificates are
//! made by the tests; programs are curl, openssl and sslyze.

mod certificates;
mod changes;
mod commands;
mod handshakes;
mod http;
mod renewal;
mod secured;

use crate::support::authority;
