//! Whom a client command believes over TLS, and by what certificate it is known itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::cli::exit::{Exit, Failure};

/// The arguments that matter for `https://` alone.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct TrustFiles {
    /// Certificates in PEM of those who may have signed the service's [default: those that the
    /// system trusts] [env: SEKALI_CA_FILE]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate in PEM to show to the service, with those that lead to a root [env:
    /// SEKALI_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Private key of that certificate in PEM, not encrypted [env: SEKALI_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
}

/// What these files hold.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    roots: Arc<Vec<Certificate<'static>>>,
    own: Option<ClientCert>,
    config: Arc<ClientConfig>,
}

impl TrustFiles {
    /// Reads the files, and sees that they can be used.
    pub(crate) fn load(&self) -> Result<Trust, Failure> {
        self.read().map_err(|why| Failure::new(Exit::Configuration, why))
    }

    fn read(&self) -> Result<Trust, String> {
        let roots = match named(&self.ca_file, "SEKALI_CA_FILE") {
            Some(path) => sections(&path, &read(&path)?, "certificate")?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(roots.iter().cloned());
        if usable == 0 {
            return Err("no certificate can be trusted: --ca-file or SEKALI_CA_FILE names those who may have signed the \
                        service's"
                .to_owned());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(store);
        let cert = named(&self.client_cert, "SEKALI_CLIENT_CERT");
        let key = named(&self.client_key, "SEKALI_CLIENT_KEY");
        let (config, own) = match (cert, key) {
            (None, None) => (builder.with_no_client_auth(), None),
            (Some(cert), Some(key)) => {
                let names = format!("--client-cert {} and --client-key {}", cert.display(), key.display());
                let chain: Vec<CertificateDer<'static>> = sections(&cert, &read(&cert)?, "certificate")?;
                let shown: Vec<Certificate<'static>> = chain.iter().map(for_ureq).collect();
                let text = read(&key)?;
                let mut keys: Vec<PrivateKeyDer<'static>> = sections(&key, &text, "unencrypted private key")?;
                let config = builder.with_client_auth_cert(chain, keys.swap_remove(0));
                let config = config.map_err(|e| format!("{names} can't be used: {e}"))?;
                let own = PrivateKey::from_pem(&text).map_err(|e| format!("{names} can't be used: {e}"))?;
                (config, Some(ClientCert::new_with_certs(&shown, own)))
            }
            _ => return Err("--client-cert and --client-key go together: set both, or neither".to_owned()),
        };
        let roots = Arc::new(roots.iter().map(for_ureq).collect());
        Ok(Trust { roots, own, config: Arc::new(config) })
    }
}

impl Trust {
    pub(crate) fn for_ureq(&self) -> TlsConfig {
        TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::clone(&self.roots)))
            .client_cert(self.own.clone())
            .unversioned_rustls_crypto_provider(Arc::clone(self.config.crypto_provider()))
            .build()
    }

    pub(crate) fn for_rustls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

fn for_ureq(certificate: &CertificateDer<'static>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}

/// The file that an argument names, or else a variable; empty counts as absent.
fn named(argument: &Option<PathBuf>, variable: &str) -> Option<PathBuf> {
    let set = || std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    argument.clone().or_else(set)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// The sections of a file's text that hold `what`, at least one.
fn sections<T: PemObject>(path: &Path, text: &[u8], what: &str) -> Result<Vec<T>, String> {
    let name = path.display();
    match T::pem_slice_iter(text).collect::<Result<Vec<T>, _>>() {
        Ok(sections) if !sections.is_empty() => Ok(sections),
        Ok(_) => Err(format!("{name} holds no {what} in PEM")),
        Err(e) => Err(format!("{name} is no PEM: {e}")),
    }
}

/// Why TLS can't be spoken with a service, in a sentence that says what to do; `None` if the fault
/// is one of the network.
pub(crate) fn refusal(fault: &io::Error) -> Option<String> {
    let told = |text: &str| Some(text.to_owned());
    match fault.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(fault) => Some(distrust(fault)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            told("it does not speak TLS: ask with http://, or look whether this is its port")
        }
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired),
        ) => Some(format!("it refuses the certificate of --client-cert ({alert:?})")),
        fault => Some(format!("TLS fails: {fault}")),
    }
}

/// Why the certificate of a service is not believed.
fn distrust(fault: &CertificateError) -> String {
    use CertificateError as Fault;
    match fault {
        Fault::UnknownIssuer => {
            "nobody who is trusted has signed its certificate: --ca-file or SEKALI_CA_FILE names \
                                 who may have"
                .to_owned()
        }
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "its certificate has expired: renew it, or set the clock of this machine".to_owned()
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "its certificate is not valid yet: set the clock of this machine".to_owned()
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "its certificate is for another host: ask it by a name that the certificate has".to_owned()
        }
        fault => format!("its certificate can't be believed: {fault}"),
    }
}
