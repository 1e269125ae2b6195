//! The suites behind a locked door: with `SEKALI_TEST_DOOR=locked` every service speaks TLS and asks for
//! tokens, and the tests are the same.
//!
//! A relay in the test's process stands where the service stood. It speaks TLS for the test and shows a
//! certificate that the tokens file lets do everything, as tests that write bytes of their own have no
//! token in them. `Client` shows an admin's token, which counts before the certificate. Commands speak TLS
//! themselves, and show the token.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::authority::{Authority, CLIENT_NAME};
use super::process::binary;

/// What all services of a test's process have in common.
struct Keys {
    authority: Authority,
    token: String,
    tokens_file: String,
    connector: TlsConnector,
    runtime: Runtime,
}

/// `None` if services are open.
///
/// # Panics
/// If the variable names another kind of door.
fn keys() -> Option<&'static Keys> {
    static KEYS: OnceLock<Option<Keys>> = OnceLock::new();
    let make = || match std::env::var("SEKALI_TEST_DOOR").as_deref() {
        Err(_) | Ok("") => None,
        Ok("locked") => Some(Keys::new()),
        Ok(other) => panic!("SEKALI_TEST_DOOR is {other:?}, and may be locked"),
    };
    KEYS.get_or_init(make).as_ref()
}

impl Keys {
    fn new() -> Self {
        let authority = Authority::new("the tests' authority");
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let own = authority.client(|_| {});
        let config = config
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.der()], own.key_der())
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let (token, tokens_file) = make_token();
        let connector = TlsConnector::from(Arc::new(config));
        Self { authority, token, tokens_file, connector, runtime: runtime.unwrap() }
    }
}

/// An admin's token, and the file that lets it and the relay's certificate do everything.
pub fn make_token() -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.toml");
    let mut command = Command::new(binary());
    command.args(["token", "create", "--name", "tests", "--allow", "admin", "--tokens-file"]).arg(&path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certificate =
        format!("\n[[certificate]]\nname = \"relay\"\nsan = [\"uri:{CLIENT_NAME}\"]\nallow = [\"admin\"]\n");
    let tokens_file = std::fs::read_to_string(&path).unwrap() + &certificate;
    (String::from_utf8(output.stdout).unwrap().trim().to_owned(), tokens_file)
}

/// The token that clients show; `None` if services are open.
pub fn token() -> Option<&'static str> {
    keys().map(|keys| keys.token.as_str())
}

/// A locked service: its files, and the relay to it.
#[derive(Debug)]
pub struct Door {
    dir: PathBuf,
    service: Option<SocketAddr>,
    relay: Option<AbortHandle>,
}

impl Door {
    /// Makes the files that lock the service of a store, beside that; `None` if services are open.
    pub fn lock(data_dir: &Path) -> Option<Self> {
        let keys = keys()?;
        let dir = data_dir.with_extension("door");
        std::fs::create_dir_all(&dir).unwrap();
        keys.authority.server().write(&dir.join("cert.pem"), &dir.join("key.pem"));
        std::fs::write(dir.join("ca.pem"), &keys.authority.pem).unwrap();
        std::fs::write(dir.join("tokens.toml"), &keys.tokens_file).unwrap();
        Some(Self { dir, service: None, relay: None })
    }

    /// How `sekali serve` is told.
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        [
            ("--tls-cert", "cert.pem"),
            ("--tls-key", "key.pem"),
            ("--tls-client-ca", "ca.pem"),
            ("--tokens-file", "tokens.toml"),
        ]
        .into_iter()
        .flat_map(|(flag, file)| [flag.into(), self.dir.join(file).into()])
    }

    /// The variables with which commands come in.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let url = self.service.map(|addr| ("SEKALI_URL", format!("https://{addr}").into()));
        let ca = ("SEKALI_CA_FILE", self.dir.join("ca.pem").into());
        url.into_iter().chain([ca]).chain(token().map(|token| ("SEKALI_TOKEN", token.into())))
    }

    /// Starts the relay to where the service listens; its address.
    pub fn open(&mut self, service: SocketAddr) -> SocketAddr {
        let keys = keys().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let relay = keys.runtime.spawn(relay(listener, service, keys.connector.clone()));
        (self.service, self.relay) = (Some(service), Some(relay.abort_handle()));
        addr
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

async fn relay(listener: std::net::TcpListener, service: SocketAddr, connector: TlsConnector) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(carry(near, service, connector.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Carries a connection, both ways, until both sides have ended or one has failed.
async fn carry(mut near: TcpStream, service: SocketAddr, connector: TlsConnector) -> std::io::Result<()> {
    let far = TcpStream::connect(service).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut far = connector.connect(ServerName::from(service.ip()), far).await?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ())
}
