//! Accepts connections, serves them, and drains them on a stop.
//!
//! | file | what |
//! |---|---|
//! | `listener.rs` | where connections come from: TCP, Unix sockets |
//! | `bind.rs` | how listening begins |
//! | `socket_file.rs` | the file of a Unix socket |
//! | `acceptor.rs` | one listener, and the connections that come to it |
//! | `connection_limit.rs` | how many connections there may be, and when each is ended |
//! | `activity.rs` | what one connection is doing, and since when |
//! | `proxy_head.rs` | what a balancer says of a connection before its first byte |
//! | `serve.rs` | one connection, from its first byte on |
//! | `tls.rs` | the handshake that comes before, and the files that it needs |
//! | `transport.rs` | what carries its bytes |
//! | `connection_io.rs` | its bytes on their way to hyper, which keep its activity up to date |
//! | `framing.rs` | where HTTP/1's messages end, and which are refused before hyper reads them |
//! | `streams.rs` | HTTP/2's streams, each of which may stand still by itself |

mod acceptor;
mod activity;
mod bind;
mod connection_io;
mod connection_limit;
mod framing;
mod listener;
mod proxy_head;
mod serve;
mod socket_file;
mod streams;
mod tls;
mod transport;

use std::io;
use std::sync::Arc;

use futures_util::future::OptionFuture;
use tokio::sync::watch;

pub use self::bind::bind;
pub use self::connection_limit::reserved;
pub use self::listener::{Listener, Listeners};
pub use self::tls::{SPEAKS_TLS, Tls, TlsError, TlsFiles};

use self::acceptor::Acceptor;
use self::serve::Host;
use self::tls::TlsAcceptor;
use crate::clock::Clock;
use crate::http::{Door, Limits, Service};
use crate::metrics::Metrics;
use crate::store::EventStore;

/// Serves `store` on `listeners` until `shutdown`; then takes no more connections, finishes the
/// requests under way within a bounded time, and returns.
///
/// # Errors
/// Never today: a listener that fails is tried again.
pub async fn run<S: EventStore>(
    store: Arc<S>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listeners { main, operators, tls } = listeners.into();
    let acceptor = tls.as_ref().map(|tls| Arc::new(TlsAcceptor::new(tls.loaded())));
    let renewal = tls
        .zip(acceptor.clone())
        .map(|(tls, acceptor)| tokio::spawn(tls.keep(acceptor, metrics.clone(), Arc::clone(&clock))));
    let service = Service::new(store, limits.clone(), Arc::clone(&clock), metrics.clone());
    let host = Arc::new(Host { service, metrics, limits, http2: Arc::default() });
    let tails = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.service.lead_tails().await }
    });
    let live = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.service.keep_live().await }
    });
    let (stop, stopping) = watch::channel(());
    let door = if operators.is_some() { Door::Public } else { Door::All };
    let main = Acceptor::new(&host, &clock, main, door).with_tls(acceptor).run(stopping.clone());
    let operators =
        operators.map(|listener| Acceptor::new(&host, &clock, listener, Door::Operators).run(stopping));
    let stopped = async {
        shutdown.await;
        tails.abort();
        live.abort();
        if let Some(renewal) = renewal {
            renewal.abort();
        }
        host.service.end_tails();
        drop(stop);
    };
    tokio::join!(stopped, main, OptionFuture::from(operators));
    Ok(())
}
