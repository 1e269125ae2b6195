//! Any bytes in any pieces at a listener: as they are, behind TLS, and in the place of its handshake. The
//! connection ends once all is sent, and others are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sekali::clock::SystemClock;
use sekali::http::Limits;
use sekali::metrics::Metrics;
use sekali::server::{Listeners, Tls, TlsFiles};
use sekali::watch::Reloads;
use sekali_fuzz::{Authority, Sink};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsConnector;

/// A connection that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Two services that keep nothing, one of which speaks TLS.
struct Services {
    runtime: Runtime,
    plain: SocketAddr,
    tls: SocketAddr,
    connector: TlsConnector,
}

thread_local! {
    static SERVICES: Services = Services::start();
}

impl Services {
    fn start() -> Self {
        let authority = Authority::new("the fuzzer's authority");
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (plain, tls) = runtime.block_on(async {
            // A write to a connection that is closed would end this process, whose `main` is not Rust's.
            let _ = signal(SignalKind::pipe()).expect("signals");
            (listen(None).await, listen(Some(&authority)).await)
        });
        Self { runtime, plain, tls, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Sends bytes in one of three ways, and then asks how the service is.
    async fn meet(&self, way: u8, cuts: u8, bytes: &[u8]) {
        let addr = if way % 3 == 0 { self.plain } else { self.tls };
        let stream = connect(addr).await;
        match way % 3 {
            1 => exchange(self.encrypted(stream).await, cuts, bytes).await,
            _ => exchange(stream, cuts, bytes).await,
        };
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let stream = connect(addr).await;
        let answer = match way % 3 {
            0 => exchange(stream, 0, request).await,
            _ => exchange(self.encrypted(stream).await, 0, request).await,
        };
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
    }

    async fn encrypted(&self, stream: TcpStream) -> impl AsyncRead + AsyncWrite {
        let name = ServerName::from(self.tls.ip());
        self.connector.connect(name, stream).await.expect("a handshake")
    }
}

/// Serves on a free port, until the process ends.
async fn listen(authority: Option<&Authority>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let tls = authority.map(|authority| {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        authority.server().write(&cert, &key);
        let files = TlsFiles { cert, key, client_ca: None, client_crl: None };
        Tls::load(files, &Reloads::new().expect("signals")).expect("files of use")
    });
    let (store, clock) = (Arc::new(Sink(|_| ())), Arc::new(SystemClock));
    let listeners = Listeners { tls, ..listener.into() };
    let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
    let forever = std::future::pending();
    tokio::spawn(sekali::server::run(store, limits, clock, Metrics::default(), listeners, forever));
    addr
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// Sends bytes, cut as a seed says, and all that comes until the service ends the connection.
async fn exchange(stream: impl AsyncRead + AsyncWrite, cuts: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut from, mut into) = tokio::io::split(stream);
    let sending = async {
        let (mut random, mut rest) = (fastrand::Rng::with_seed(cuts.into()), bytes);
        while !rest.is_empty() {
            let longest = if cuts == 0 { rest.len() } else { random.usize(1..=usize::from(cuts)) };
            let (piece, more) = rest.split_at(longest.min(rest.len()));
            // The service may have ended it meanwhile.
            if into.write_all(piece).await.is_err() || into.flush().await.is_err() {
                break;
            }
            // It reads this piece before the next one comes.
            tokio::task::yield_now().await;
            rest = more;
        }
        let _ = into.shutdown().await;
    };
    let mut answer = Vec::new();
    let _ = tokio::join!(sending, from.read_to_end(&mut answer));
    answer
}

/// Plays one input.
pub(crate) fn play(data: &[u8]) {
    let [way, cuts, bytes @ ..] = data else { return };
    SERVICES.with(|services| {
        let meeting = services.meet(*way, *cuts, bytes);
        services.runtime.block_on(async { tokio::time::timeout(DEADLINE, meeting).await.expect("it hangs") });
    });
}
