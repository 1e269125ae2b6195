//! The body of a request as it comes in.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Error;
use hyper::body::{Body, Frame, Incoming};
use tokio::runtime::Handle;

use crate::http::wire::headers::Headers;
use crate::limits::{LINGER_BYTES_MAX, LINGER_SECONDS};

/// A body. If it is dropped before its end, the rest is read and dropped for a short time after the
/// answer: a sender that saw the connection or the stream reset while it sends would not get to
/// read why.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` once it is over, or broken.
    body: Option<Incoming>,
    /// The sender asked first: one that is refused sends nothing, and must not be told to go on.
    is_held_back: bool,
}

impl Upload {
    /// The body of a request with these headers.
    pub(crate) fn new(body: Incoming, headers: &Headers<'_>) -> Self {
        Self { body: Some(body), is_held_back: headers.expect.count > 0 }
    }

    /// How long it is, if the sender said so.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.body.as_ref().and_then(|body| body.size_hint().exact())
    }

    /// What comes next; `None` at the end. May be dropped and called again.
    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        self.is_held_back = false;
        let body = self.body.as_mut()?;
        let frame = body.frame().await;
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            self.body = None;
        }
        frame
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() || self.is_held_back {
            return;
        }
        // There is none when a stop drops what is left.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(Duration::from_secs(LINGER_SECONDS), linger(body)));
        }
    }
}

async fn linger(mut body: Incoming) {
    let mut left = LINGER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
