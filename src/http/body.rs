//! The body of a request, within its limits: size, time, and bytes held by all requests together.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Service;
use super::content::Encoding;
use super::problem::Problem;
use super::source::Source;
use super::upload::Upload;
use crate::limits::{ADMISSION_SECONDS, BODY_SECONDS, DECODED_BYTES_MAX};

/// A whole body, and its share of the bytes held.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _share: Share<'a>,
}

/// Reserved at a time for a body that does not say how long it is.
const STEP_BYTES: usize = 64 << 10;

impl<S> Service<S> {
    /// Takes the body of a request.
    pub(super) async fn body(&self, body: Upload, encoding: Option<Encoding>) -> Result<Held<'_>, Problem> {
        let max = self.limits.body_bytes_max;
        let declared = body.declared();
        if declared.is_some_and(|length| length > max as u64) {
            return Err(too_large(max));
        }
        let deadline = Duration::from_secs(BODY_SECONDS);
        let taken = match encoding {
            None => {
                let mut taking = pin!(self.take(body, declared.map(|length| length as usize)));
                match soon(taking.as_mut()).await {
                    Some(taken) => Ok(taken),
                    None => Box::pin(tokio::time::timeout(deadline, taking)).await,
                }
            }
            Some(encoding) => {
                Box::pin(tokio::time::timeout(deadline, self.take_decoded(body, encoding))).await
            }
        };
        taken.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {BODY_SECONDS} seconds; send it again, faster or in smaller parts");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message).close())
        })
    }

    async fn take(&self, mut body: Upload, declared: Option<usize>) -> Result<Held<'_>, Problem> {
        let max = self.limits.body_bytes_max;
        let mut share = self.share();
        share.grow_to(declared.unwrap_or(0)).await?;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
            let length = first.len() + rest.len() + data.len();
            if length > max {
                return Err(too_large(max));
            }
            share.grow_to(length).await?;
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
        Ok(Held { bytes, _share: share })
    }

    /// Takes a compressed body; never holds it as it was sent.
    async fn take_decoded(&self, body: Upload, encoding: Encoding) -> Result<Held<'_>, Problem> {
        let max = DECODED_BYTES_MAX.min(self.limits.inflight_bytes_max);
        let mut source = Source::new(body, Some(encoding)).at_most(self.limits.body_bytes_max);
        let mut share = self.share();
        let mut bytes = BytesMut::new();
        while let Some(piece) = source.next().await? {
            if bytes.len() + piece.len() > max {
                let message = format!("the body decodes to more than {max} bytes: send fewer events at once");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close());
            }
            share.grow_to(bytes.len() + piece.len() + source.memory()).await?;
            bytes.extend_from_slice(&piece);
        }
        Ok(Held { bytes: bytes.freeze(), _share: share })
    }

    /// A share of the bytes that all requests may hold together; none yet.
    pub(super) fn share(&self) -> Share<'_> {
        Share { inflight: &self.inflight, permit: None, max: self.limits.inflight_bytes_max }
    }
}

/// A request's share of the bytes that all requests may hold together.
#[derive(Debug)]
pub(super) struct Share<'a> {
    inflight: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
    /// More than all there is could never be had.
    max: usize,
}

impl<'a> Share<'a> {
    fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, SemaphorePermit::num_permits)
    }

    /// Grows to at least `bytes`; waits for others to finish, for a short time.
    pub(super) async fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.bytes();
        let Some(missing) = bytes.min(self.max).checked_sub(held).filter(|missing| *missing > 0) else {
            return Ok(());
        };
        // The first step is the length that the request declares, if it does.
        let step = if held == 0 { missing } else { missing.max(STEP_BYTES).min(self.max - held) };
        let more = self.acquire(step).await?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }

    async fn acquire(&self, bytes: usize) -> Result<SemaphorePermit<'a>, Problem> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(permit) = self.inflight.try_acquire_many(permits) {
            return Ok(permit);
        }
        let deadline = Duration::from_secs(ADMISSION_SECONDS);
        match Box::pin(tokio::time::timeout(deadline, self.inflight.acquire_many(permits))).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let message = "too many requests are under way; send this one again later";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close())
            }
        }
    }

    /// Takes `bytes` of this share out of it.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let permit = match &mut self.permit {
            Some(permit) if permit.num_permits() > bytes => permit.split(bytes),
            _ => self.permit.take(),
        };
        Self { inflight: self.inflight, permit, max: self.max }
    }
}

/// The output of what is ready when it is asked a second time. A body mostly lies behind its head, and is there once the connection
/// has looked for it: it needs no timer.
async fn soon<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut is_first = true;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if is_first => {
            is_first = false;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The body can't be read to its end.
pub(super) fn broken() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body broke off or is malformed; send it again").close()
}

/// The body as it was sent is too large.
pub(super) fn too_large(max: usize) -> Problem {
    let message = format!("the body has more than {max} bytes: send fewer events at once");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close()
}
