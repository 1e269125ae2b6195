//! Clients that have shown a certificate and are still connected: what has held in the handshake
//! may hold no longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::auth::AUDIT;
use crate::clock::{Clock, Timestamp};
use crate::server::activity::{Activity, Command};
use crate::sync::Mutex;
use crate::turnstile::Turnstile;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    connected: Mutex<HashMap<u64, Client>>,
    next: AtomicU64,
    turnstile: Turnstile,
}

#[derive(Clone, Debug)]
struct Client {
    /// Its own certificate, and those that lead from it to one who vouches for it.
    chain: Arc<[CertificateDer<'static>]>,
    expires: Timestamp,
    activity: Arc<Activity>,
}

/// A client that is connected, until this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Connected {
    clients: Arc<Clients>,
    number: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.clients.connected.lock().remove(&self.number);
    }
}

impl Clients {
    /// Watches a client that has shown `chain`, of which the first is its own.
    pub(super) fn connect(
        self: &Arc<Self>,
        chain: &[CertificateDer<'static>],
        expires: Timestamp,
        activity: &Arc<Activity>,
    ) -> Connected {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let client = Client { chain: chain.into(), expires, activity: Arc::clone(activity) };
        self.connected.lock().insert(number, client);
        Connected { clients: Arc::clone(self), number }
    }

    /// Ends the connections of clients whose certificates have expired.
    pub(super) fn end_expired(&self, clock: &dyn Clock) {
        let now = clock.now();
        for client in self.connected.lock().values().filter(|client| client.expires <= now) {
            self.end(client, "the certificate has expired", clock);
        }
    }

    /// Ends the connections of clients whose certificates do not hold by `verifier`: they were
    /// revoked, above all. It takes a while if there are many.
    pub(super) fn verify(&self, verifier: &dyn ClientCertVerifier, clock: &dyn Clock) {
        let all: Vec<Client> = self.connected.lock().values().cloned().collect();
        let now = Duration::from_micros(u64::try_from(clock.now().0).unwrap_or_default());
        for client in &all {
            let Some((own, others)) = client.chain.split_first() else { continue };
            if let Err(why) = verifier.verify_client_cert(own, others, UnixTime::since_unix_epoch(now)) {
                self.end(client, &why.to_string(), clock);
            }
        }
    }

    fn end(&self, client: &Client, why: &str, clock: &dyn Clock) {
        if client.activity.command() >= Command::End {
            return;
        }
        client.activity.tell(Command::End);
        if let Some(left_out) = self.turnstile.pass(("ended", 0), clock.monotonic()) {
            let peer = client.activity.peer();
            tracing::warn!(target: AUDIT, %peer, left_out, reason = "certificate", "a connection is ended: {why}");
        }
    }
}
