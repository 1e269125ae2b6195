//! A store and a service of this process, for tests that look at what no client sees.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sekali::clock::SystemClock;
use sekali::http::Limits;
use sekali::metrics::Metrics;
use sekali::store::EventStore;
use sekali::store::local::{Local, Options};
use tokio::net::TcpListener;

use super::golden::seams;

/// Opens a store with one worker, and creates it if it is not there.
pub fn open(data_dir: &Path) -> Local {
    let options = Options {
        data_dir: data_dir.to_path_buf(),
        must_exist: false,
        workers: 1,
        generation_events: 1_000,
        generation_bytes: 1 << 20,
        topics_max: 10,
    };
    Local::open(&options, seams()).unwrap()
}

/// Serves a store on a free port until the runtime ends.
pub async fn serve(store: Arc<impl EventStore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (limits, metrics) = (Limits::default(), Metrics::default());
    let forever = std::future::pending();
    tokio::spawn(sekali::server::run(store, limits, Arc::new(SystemClock), metrics, listener, forever));
    addr
}
