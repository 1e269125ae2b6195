//! The files that TLS needs, and what is made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::certificate::expires;
use super::{HTTP_1, HTTP_2};
use crate::clock::Timestamp;

/// Where the files are, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The service's certificate, and those that lead from it to a root.
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
    /// Certificates of those who vouch for clients. Without it, clients are not asked for theirs.
    pub client_ca: Option<PathBuf>,
    /// What these have revoked.
    pub client_crl: Option<PathBuf>,
}

/// Why files can't be used, in a sentence that names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(super) String);

/// What the files hold.
#[derive(Debug)]
pub(in crate::server) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// What verifies the certificates of clients, if they are asked for any.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// From when on clients no longer take the certificate.
    pub(super) expires: Timestamp,
}

impl TlsFiles {
    /// All files that there are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let always = [&self.cert, &self.key].into_iter();
        always.chain(&self.client_ca).chain(&self.client_crl).cloned().collect()
    }

    /// Reads them, and sees that they fit together.
    ///
    /// # Errors
    /// They don't, or one of them can't be read.
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain: Vec<CertificateDer<'static>> = sections("tls_cert", &self.cert, "certificate")?;
        let key = self.key()?;
        let expires = match chain.first().map(expires) {
            Some(Ok(at)) => at,
            Some(Err(e)) => return Err(self.unusable_certificate(e)),
            None => return Err(self.unusable_certificate("it is empty")),
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| self.unusable_certificate(e))?;
        let verifier = self.verifier(provider)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| self.unfit(e))?;
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        // What comes before the handshake is done may have been recorded and sent again.
        config.max_early_data_size = 0;
        if self.client_ca.is_some() {
            // A session that goes on would not ask again whether the client's certificate has
            // expired.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), verifier, expires })
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let keys: Vec<PrivateKeyDer<'static>> = sections("tls_key", &self.key, "unencrypted private key")?;
        keys.into_iter().next().ok_or_else(|| TlsError(format!("tls_key {} is empty", self.key.display())))
    }

    /// What verifies clients' certificates. A client without one is let through: it may have a
    /// token.
    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let Some(path) = &self.client_ca else { return Ok(None) };
        let unusable = |why: &dyn std::fmt::Display| {
            TlsError(format!("tls_client_ca {} can't be used: {why}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        for root in sections::<CertificateDer<'static>>("tls_client_ca", path, "certificate")? {
            roots.add(root).map_err(|e| unusable(&e))?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(path) = &self.client_crl {
            let lists = sections::<CertificateRevocationListDer<'static>>(
                "tls_client_crl",
                path,
                "list of revoked certificates (X509 CRL)",
            )?;
            builder = builder.with_crls(lists);
        }
        builder.allow_unauthenticated().build().map(Some).map_err(|e| unusable(&e))
    }

    fn unusable_certificate(&self, why: impl std::fmt::Display) -> TlsError {
        TlsError(format!("tls_cert {} can't be used: {why}", self.cert.display()))
    }

    fn unfit(&self, fault: Error) -> TlsError {
        let (cert, key) = (self.cert.display(), self.key.display());
        match fault {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError(format!("tls_key {key} is not the key of the certificate in tls_cert {cert}"))
            }
            fault => TlsError(format!("tls_cert {cert} and tls_key {key} can't be used: {fault}")),
        }
    }
}

/// The sections of a file that hold `what`, at least one.
fn sections<T: PemObject>(setting: &str, path: &Path, what: &str) -> Result<Vec<T>, TlsError> {
    let path_text = path.display();
    let text =
        std::fs::read(path).map_err(|e| TlsError(format!("cannot read {setting} {path_text}: {e}")))?;
    let sections: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
    match sections {
        Ok(sections) if !sections.is_empty() => Ok(sections),
        Ok(_) => Err(TlsError(format!("{setting} {path_text} holds no {what} in PEM"))),
        Err(e) => Err(TlsError(format!("{setting} {path_text} is no PEM: {e}"))),
    }
}
