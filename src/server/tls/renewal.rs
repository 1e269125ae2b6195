//! Keeps what TLS uses as new as its files.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;

use super::TlsAcceptor;
use super::files::{Loaded, TlsError, TlsFiles};
use crate::auth::AUDIT;
use crate::clock::Clock;
use crate::limits::CERTIFICATE_WARNED_DAYS;
use crate::metrics::{CERTIFICATE_EXPIRY, Metrics, TLS_RELOAD_FAILURES};
use crate::watch::{Reloads, Watched};

const DAY: Duration = Duration::from_secs(86_400);
/// How often it is looked whether a client's certificate has expired.
const LOOK: Duration = Duration::from_millis(250);

/// What TLS needs, as it was read from its files.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    watched: Watched,
    loaded: Arc<Loaded>,
}

impl Tls {
    /// Reads the files, and watches them from then on.
    ///
    /// # Errors
    /// They can't be used.
    pub fn load(files: TlsFiles, reloads: &Reloads) -> Result<Self, TlsError> {
        // Before they are read, so that no change is missed.
        let watched = Watched::new(files.paths(), reloads);
        let loaded = Arc::new(files.load()?);
        Ok(Self { files, watched, loaded })
    }

    pub(in crate::server) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded)
    }

    /// Gives `acceptor` what the files hold, whenever they have changed; never returns. Files that
    /// can't be used change nothing, but for what the operator is told.
    pub(in crate::server) async fn keep(
        mut self,
        acceptor: Arc<TlsAcceptor>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) {
        let (mut failures, mut looks) = (0, tokio::time::interval(LOOK));
        loop {
            self.tell_expiry(&metrics, &*clock);
            metrics.set_total(TLS_RELOAD_FAILURES, &[], failures);
            let mut day = pin!(tokio::time::sleep(DAY));
            let mut changed = pin!(self.watched.changed());
            let has_changed = loop {
                tokio::select! {
                    () = &mut changed => break true,
                    () = &mut day => break false,
                    _ = looks.tick() => acceptor.clients.end_expired(&*clock),
                }
            };
            if !has_changed {
                continue;
            }
            let files = self.files.clone();
            // A file system may hang.
            let Ok(loaded) = tokio::task::spawn_blocking(move || files.load()).await else { continue };
            match loaded {
                Ok(loaded) => {
                    self.loaded = Arc::new(loaded);
                    acceptor.replace(Arc::clone(&self.loaded));
                    verify(&acceptor, self.loaded.verifier.clone(), &clock).await;
                    let (expires, cert) = (self.loaded.expires, self.files.cert.display());
                    tracing::info!(target: AUDIT, %expires, %cert, "the files of TLS were read again and are in use");
                }
                Err(e) => {
                    failures += 1;
                    tracing::warn!(target: AUDIT, error = %e, "the files of TLS have changed and can't be used, so those before stay in use");
                }
            }
        }
    }

    fn tell_expiry(&self, metrics: &Metrics, clock: &dyn Clock) {
        let expires = self.loaded.expires;
        metrics.set(CERTIFICATE_EXPIRY, &[], (expires.0 / 1_000_000) as f64);
        let left = (expires.0 - clock.now().0) / 1_000_000;
        let (days_left, cert) = (left / DAY.as_secs() as i64, self.files.cert.display());
        if left <= 0 {
            tracing::warn!(%expires, %cert, "the certificate has expired: clients refuse it");
        } else if days_left < CERTIFICATE_WARNED_DAYS {
            tracing::warn!(%expires, %cert, days_left, "the certificate expires soon");
        }
    }
}

/// Ends the connections of clients whose certificates no longer hold.
async fn verify(
    acceptor: &TlsAcceptor,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    clock: &Arc<dyn Clock>,
) {
    let Some(verifier) = verifier else { return };
    let (clients, clock) = (Arc::clone(&acceptor.clients), Arc::clone(clock));
    // Signatures of many take a while.
    let verified = tokio::task::spawn_blocking(move || clients.verify(&*verifier, &*clock));
    // It fails only while the runtime ends.
    let _ = verified.await;
}
