//! What a body is: its dialect, from `Content-Type` and `ce-specversion`, and how it is compressed.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, HeaderValue};

use crate::http::wire::headers::Headers;
use crate::http::wire::problem::Problem;

/// How events stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// An event, an array of events, or an object with `events`.
    Json,
    /// An event a line; of any length.
    Lines,
    /// CloudEvents 1.0, structured mode.
    CloudEvent,
    /// CloudEvents 1.0, batched mode.
    CloudEventBatch,
    /// CloudEvents 1.0, binary mode: attributes in headers, data as the body.
    CloudEventBinary,
}

impl Dialect {
    pub(crate) fn is_cloud_events(self) -> bool {
        matches!(self, Self::CloudEvent | Self::CloudEventBatch | Self::CloudEventBinary)
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

/// The dialect of a request's body.
pub(crate) fn dialect(headers: &Headers<'_>) -> Result<Dialect, Problem> {
    // An empty one says nothing, as none does.
    let kind = headers.content_type.first.map(media_type).filter(|kind| !kind.is_empty());
    let is = |name: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(name.as_bytes()));
    // A CloudEvents format says by itself where the attributes are, whatever other headers there
    // are.
    let is_format = kind.is_some_and(|kind| {
        kind.get(..23).is_some_and(|start| start.eq_ignore_ascii_case(b"application/cloudevents"))
    });
    if !is_format && headers.specversion.count > 0 {
        return Ok(Dialect::CloudEventBinary);
    }
    if kind.is_none() || is("application/json") {
        return Ok(Dialect::Json);
    }
    if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
        return Ok(Dialect::Lines);
    }
    if is("application/cloudevents+json") {
        return Ok(Dialect::CloudEvent);
    }
    if is("application/cloudevents-batch+json") {
        return Ok(Dialect::CloudEventBatch);
    }
    let hint = if is("application/x-www-form-urlencoded") {
        " (curl sends this type with -d: add -H 'Content-Type: application/json', or use --json)"
    } else {
        ""
    };
    let message = format!(
        "the Content-Type must be application/json, application/x-ndjson, application/cloudevents+json or \
         application/cloudevents-batch+json, or there must be ce- headers{hint}"
    );
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).close())
}

/// A media type without its parameters.
pub(crate) fn media_type(value: &HeaderValue) -> &[u8] {
    media_type_of(value.as_bytes())
}

pub(crate) fn media_type_of(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// How a request's body is compressed, if it is.
pub(crate) fn encoding(headers: &Headers<'_>) -> Result<Option<Encoding>, Problem> {
    let header = headers.content_encoding;
    let Some(name) = header.first else { return Ok(None) };
    let is = |known: &str| {
        header.count == 1 && name.as_bytes().trim_ascii().eq_ignore_ascii_case(known.as_bytes())
    };
    // An empty one says nothing, as none does.
    if is("identity") || is("") {
        Ok(None)
    } else if is("gzip") || is("x-gzip") {
        Ok(Some(Encoding::Gzip))
    } else if is("zstd") {
        Ok(Some(Encoding::Zstd))
    } else {
        let message = "the Content-Encoding must be gzip or zstd, and only one of them";
        let accepted = HeaderValue::from_static("gzip, zstd");
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).with(ACCEPT_ENCODING, accepted).close())
    }
}

/// The byte order mark that a text may begin with: senders on Windows write it, and the original
/// ignores it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A text without its byte order mark.
pub(crate) fn without_mark(text: Bytes) -> Bytes {
    if text.starts_with(MARK) { text.slice(MARK.len()..) } else { text }
}

/// The same of borrowed bytes: of a line, which may have been the first of a file, and of data.
pub(crate) fn strip_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}
