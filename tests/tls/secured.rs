//! A service with TLS, and clients whose every byte is the test's.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::authority::{Authority, Pair};
use crate::support::client::receive;
use crate::support::process::{Server, Start};
use crate::support::until;

/// Seconds until something that is due must have happened.
pub const SOON: u64 = 40;

/// A service with TLS, its files, and who has signed its certificate.
pub struct Secured {
    pub dir: tempfile::TempDir,
    pub authority: Authority,
    pub server: Server,
    pub addr: SocketAddr,
}

impl Secured {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// One with more variables in its environment; in their values `{}` stands for its folder.
    pub fn with(variables: &[(&str, &str)]) -> Self {
        Self::prepared(variables, |_, _| {})
    }

    /// One for which `prepare` has made more files.
    pub fn prepared(variables: &[(&str, &str)], prepare: impl FnOnce(&Authority, &std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("the test's authority");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("ca.pem"), &authority.pem).unwrap();
        authority.server().write(&at("cert.pem"), &at("key.pem"));
        prepare(&authority, dir.path());
        let mut start = Start::tiny_generations(&at("data"));
        start.env.push(("SEKALI_TLS_CERT".into(), at("cert.pem").into()));
        start.env.push(("SEKALI_TLS_KEY".into(), at("key.pem").into()));
        for (name, value) in variables {
            let value = value.replace("{}", &dir.path().display().to_string());
            start.env.push((name.into(), value.into()));
        }
        let (server, addr) = start.spawn_listening().unwrap();
        let service = Self { dir, authority, server, addr };
        assert!(until(SOON, || (service.get("/readyz") == 200).then_some(())).is_some(), "it is not ready");
        service
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// A client that trusts the authority.
    pub fn client(&self) -> Client {
        Client::new(self.addr, &self.authority, None, &[])
    }

    /// The status of a GET by a connection of its own.
    pub fn get(&self, path: &str) -> u16 {
        self.client().get(path).unwrap().0
    }

    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.client().get("/metrics").unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("there is no {name}")).parse().unwrap()
    }

    /// Waits for a line of the log.
    pub fn logs(&self, text: &str) {
        let found = until(SOON, || self.server.log().contains(text).then_some(()));
        assert!(found.is_some(), "{text} is not in the log:\n{}", self.server.log());
    }

    /// Waits for a line of the audit.
    pub fn audits(&self, text: &str) {
        let is_it = |line: &str| line.contains(text) && line.contains("\"target\":\"sekali::audit\"");
        let found = until(SOON, || self.server.log().lines().any(is_it).then_some(()));
        assert!(found.is_some(), "{text} is not audited:\n{}", self.server.log());
    }

    /// Runs `sekali` with arguments and variables.
    pub fn sekali(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.args(arguments).env_remove("SEKALI_URL").envs(variables.iter().copied());
        command.stdin(std::process::Stdio::null()).output().unwrap()
    }
}

/// A program that is there; without it the test says so and ends.
pub fn program(name: &str) -> Option<Command> {
    let is_there = Command::new(name).arg(if name == "openssl" { "version" } else { "--version" }).output();
    if is_there.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(name));
    }
    assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{name} is not installed: make programs");
    eprintln!("NOT RUN: {name} is not installed: make programs");
    None
}

/// One connection of TLS.
pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    addr: SocketAddr,
}

impl Client {
    /// One that trusts `authority`, shows `pair` if it is asked for a certificate, and speaks the
    /// protocols of `alpn`. The handshake is done when something is sent.
    pub fn new(addr: SocketAddr, authority: &Authority, pair: Option<&Pair>, alpn: &[&str]) -> Self {
        Self::after(b"", addr, authority, pair, alpn)
    }

    /// The same, which sends some bytes before TLS begins.
    pub fn after(
        before: &[u8],
        addr: SocketAddr,
        authority: &Authority,
        pair: Option<&Pair>,
        alpn: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots);
        let mut config = match pair {
            Some(pair) => config.with_client_auth_cert(vec![pair.der()], pair.key_der()).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::from(addr.ip());
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(addr).unwrap();
        tcp.set_nodelay(true).unwrap();
        (&tcp).write_all(before).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(SOON))).unwrap();
        Self { stream: BufReader::new(StreamOwned::new(tls, tcp)), addr }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    /// Status and body of a GET.
    pub fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr))?;
        self.receive()
    }

    /// Status and body of a POST to `/publish`.
    pub fn publish(&mut self, body: &str) -> std::io::Result<(u16, String)> {
        let (addr, length) = (self.addr, body.len());
        let head = format!("POST /publish HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n");
        self.send(head + "Content-Type: application/json\r\n\r\n" + body)?;
        self.receive()
    }

    pub fn receive(&mut self) -> std::io::Result<(u16, String)> {
        let (response, _) = receive(&mut self.stream)?;
        Ok((response.status, String::from_utf8(response.body).unwrap()))
    }

    /// All that comes until the end, which must be announced.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }

    pub fn exactly<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map(|()| bytes)
    }

    /// The certificate that the service has shown.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.stream.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// The protocol that was agreed upon.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.stream.get_ref().conn.alpn_protocol()
    }

    /// What the connection runs over.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream.get_ref().sock
    }
}
