//! Any query of a listing, cursors among them: a page, or an error that is the caller's.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri};
use sekali::http::Service;
use sekali::store::local::Local;
use sekali_fuzz::{ask, golden, options, seams, service, wait};

static SERVICE: LazyLock<Arc<Service<Local>>> =
    LazyLock::new(|| service(Local::open(&options(), seams(&golden())).expect("the golden store opens")));

/// Plays one input.
pub(crate) fn play(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, last_event_id) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(uri) = format!("/{path}").parse::<Uri>() else { return };
    // All metrics take long, and are no news; the figures of each second never end.
    if ["/metrics", "/live"].contains(&uri.path().trim_end_matches('/')) {
        return;
    }
    let mut request = Request::get(uri).header("host", "localhost");
    if !last_event_id.is_empty() {
        request = request.header("last-event-id", last_event_id);
    }
    let Ok(request) = request.body(Full::new(Bytes::new())) else { return };
    let (status, answer) = wait(ask(&SERVICE, request));
    assert!(!status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&answer));
}
