//! What the fuzz targets share: a service without a network, and stores on a disk in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a surprise is a finding")]

#[path = "../tests/support"]
mod support {
    #[allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "the tests use all of it")]
    pub mod authority;
    #[allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "the tests use all of it")]
    pub mod mem_disk;
    pub mod sink;
}

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use sekali::clock::SystemClock;
use sekali::disk::{Disk, Open};
use sekali::http::{Connection, Limits, Service};
use sekali::metrics::Metrics;
use sekali::store::local::index::MemoryIndexes;
use sekali::store::local::{Options, Seams};
use sekali::store::{EventStore, Query};
pub use support::authority::Authority;
pub use support::mem_disk::MemDisk;
pub use support::sink::Sink;

/// A request that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where stores lie on a [`MemDisk`].
pub const DATA: &str = "/data";
/// A store that was stopped, made by an earlier version: `tests/golden/format-3-stopped`.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/format-3-stopped");

/// Waits for it, not longer than the deadline.
pub fn wait<T>(task: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await.expect("it hangs") })
    })
}

/// A service that answers from `store`.
pub fn service<S: EventStore>(store: S) -> Arc<Service<S>> {
    let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
    Arc::new(Service::new(Arc::new(store), limits, Arc::new(SystemClock), Metrics::default()))
}

/// Sends one request to a service and reads all of its answer.
pub async fn ask<S: EventStore>(
    service: &Arc<Service<S>>,
    request: Request<Full<Bytes>>,
) -> (StatusCode, Bytes) {
    let service = Arc::clone(service);
    let connection = Arc::new(Connection::within_process());
    let (near, far) = tokio::io::duplex(64 << 10);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
        async move { service.answer(request, &connection).await }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), answer);
    let asking = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        let answer = async {
            let answer = sender.send_request(request).await.unwrap();
            let (head, body) = answer.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            drop(sender);
            (head.status, body)
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    tokio::join!(asking, serving).0
}

/// The golden store, as it was stopped.
pub fn golden() -> MemDisk {
    static GOLDEN_DISK: LazyLock<MemDisk> = LazyLock::new(|| {
        let disk = MemDisk::new();
        copy(Path::new(GOLDEN), Path::new(DATA), &disk);
        disk
    });
    GOLDEN_DISK.copy()
}

/// The golden store, started and killed: nothing says any more where its journal ends.
pub fn killed() -> MemDisk {
    static KILLED_DISK: LazyLock<MemDisk> = LazyLock::new(|| {
        let disk = golden();
        let store =
            sekali::store::local::Local::open(&options(), seams(&disk)).expect("the golden store opens");
        let killed = disk.kill();
        let _ = store.close();
        killed
    });
    KILLED_DISK.copy()
}

fn copy(from: &Path, to: &Path, disk: &MemDisk) {
    disk.create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            // What sled left is not on this disk.
            true if entry.file_name() == "index" => {}
            true => copy(&entry.path(), &to, disk),
            false => {
                let content = std::fs::read(entry.path()).unwrap();
                disk.open(&to, Open::New).unwrap().write_all_at(&content, 0).unwrap();
            }
        }
    }
}

pub fn options() -> Options {
    Options {
        data_dir: PathBuf::from(DATA),
        must_exist: true,
        workers: 1,
        generation_events: 100,
        generation_bytes: 64 << 10,
        topics_max: 100,
    }
}

pub fn seams(disk: &MemDisk) -> Seams {
    Seams {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(MemoryIndexes::default()),
        metrics: Metrics::default(),
    }
}

/// Proves, opens, reads and repairs a store that may be damaged in any way: each may refuse, none
/// may panic or hang.
pub fn go_through(disk: &MemDisk) {
    use sekali::store::local::{Local, repair, verify};
    let _ = verify::verify(&options(), &seams(disk), &|_, _| ());
    if let Ok(store) = Local::open(&options(), seams(disk)) {
        let mut query = Query { limit: 1_000, ..Query::default() };
        while let Ok(page) = wait(store.read(query.clone())) {
            let Some(next) = page.next_cursor else { break };
            query.cursor = Some(next);
        }
        let _ = wait(store.find("topic-1", "id-1", |_| Ok(())));
        let _ = store.close();
    }
    let _ = repair::repair(&options(), &seams(disk), true, &|_, _| ());
    if let Ok(store) = Local::open(&options(), seams(disk)) {
        let _ = wait(store.stats());
    }
}
