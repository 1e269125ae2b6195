//! The body of a request, within its limits: size, time, and bytes held by all requests together.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use super::{Service, header};
use crate::limits::{ADMISSION_SECONDS, BODY_SECONDS};

/// A whole body, and its share of the bytes held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Reserved at a time for a body that does not say how long it is.
const STEP_BYTES: usize = 64 << 10;

impl<S> Service<S> {
    /// Takes the body of a request.
    pub(super) async fn body(&self, request: Request<Incoming>) -> Result<Held, Problem> {
        check_headers(request.headers())?;
        let body = request.into_body();
        let max = self.limits.body_bytes_max;
        let declared = body.size_hint().exact();
        if declared.is_some_and(|length| length > max as u64) {
            return Err(too_large(max));
        }
        let taking = self.take(body, declared.map(|length| length as usize));
        match tokio::time::timeout(Duration::from_secs(BODY_SECONDS), taking).await {
            Ok(taken) => taken,
            Err(_) => {
                let message = format!("the body did not arrive within {BODY_SECONDS} seconds");
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message).close())
            }
        }
    }

    async fn take(&self, mut body: Incoming, declared: Option<usize>) -> Result<Held, Problem> {
        let max = self.limits.body_bytes_max;
        let mut permits = Vec::new();
        let mut admitted = declared.unwrap_or(0);
        permits.extend(self.admit(admitted).await?);
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Problem::new(StatusCode::BAD_REQUEST, "the body broke off or is malformed; send it again")
                    .close()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let length = first.len() + rest.len() + data.len();
            if length > max {
                return Err(too_large(max));
            }
            if length > admitted {
                let step = (length - admitted).max(STEP_BYTES);
                permits.extend(self.admit(step).await?);
                admitted += step;
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.reserve(declared.unwrap_or(2 * length).max(length));
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Held { bytes, _permits: permits })
    }

    async fn admit(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if bytes == 0 {
            return Ok(None);
        }
        let permits = u32::try_from(bytes.min(self.limits.inflight_bytes_max)).unwrap_or(u32::MAX);
        let inflight = std::sync::Arc::clone(&self.inflight);
        if let Ok(permit) = std::sync::Arc::clone(&inflight).try_acquire_many_owned(permits) {
            return Ok(Some(permit));
        }
        let deadline = Duration::from_secs(ADMISSION_SECONDS);
        match tokio::time::timeout(deadline, inflight.acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => {
                let message =
                    "too many requests are under way; nothing of this one was stored, send it again later";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close())
            }
        }
    }
}

fn too_large(max: usize) -> Problem {
    let message = format!("the body has more than {max} bytes: send fewer events at once");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close()
}

fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(encoding) = header(headers, &CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        let message = "the body must not be compressed";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).close());
    }
    let Some(kind) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let hint = if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        " (curl sends this type with -d: add -H 'Content-Type: application/json', or use --json)"
    } else {
        ""
    };
    let message = format!("the Content-Type must be application/json{hint}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).close())
}
