//! The description of the service, for programs.

use std::sync::LazyLock;

use hyper::header::{CONTENT_ENCODING, HeaderValue};

use crate::http::wire::answer::{Answer, fixed, packed};

/// Where it is.
pub(super) const PATH: &str = "/openapi.json";

/// The document.
pub(super) static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| include_str!("openapi.json").replace("{version}", env!("CARGO_PKG_VERSION")));

/// The same, packed; empty if that fails.
static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| packed(DOCUMENT.as_bytes()).unwrap_or_default());

/// The document as an answer.
pub(super) fn answer(is_gzip: bool) -> Answer {
    let kind = HeaderValue::from_static("application/json");
    if !is_gzip || PACKED.is_empty() {
        return fixed(kind, DOCUMENT.as_bytes());
    }
    let mut answer = fixed(kind, &PACKED);
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}
