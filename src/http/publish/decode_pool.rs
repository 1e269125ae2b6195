//! Large bodies are decoded beside the runtime's threads, a few at a time: a thread that parses
//! megabytes answers nobody.
//!
//! Compressed bodies and streams of lines are decoded piece by piece, and others have their turn
//! after each piece.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use super::{cloud_events, faults};
use crate::clock::Timestamp;
use crate::http::body::budget::{BodyBudget, BodyPermit, WholeBody, busy};
use crate::http::body::content::{self, Dialect};
use crate::http::publish::decode::{Decoded, Refused, decode};
use crate::http::publish::options::Options;
use crate::http::wire::problem::Problem;
use crate::limits::DECODED_INLINE_BYTES_MAX;

/// Permits to decode large bodies: as many as leave the runtime half of the processors.
#[derive(Debug)]
pub(crate) struct DecodePool(Arc<Semaphore>);

impl Default for DecodePool {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }
}

/// How a body is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoding<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) options: &'a Options,
    /// When it arrived, for CloudEvents that do not say.
    pub(crate) arrival: Timestamp,
    pub(crate) events_max: usize,
}

impl Decoding<'_> {
    fn decode(self, headers: &HeaderMap, body: &Bytes) -> Result<Decoded, Refused> {
        let Self { dialect, options, arrival, events_max } = self;
        if dialect == Dialect::CloudEventBinary {
            // Data of any kind.
            return cloud_events::decode(dialect, headers, body, options, arrival, events_max);
        }
        let body = content::without_mark(body.clone());
        match dialect {
            Dialect::Json => {
                decode(&body, events_max).map_or_else(|| faults::look(&body, events_max, options.partial), Ok)
            }
            _ => cloud_events::decode(dialect, headers, &body, options, arrival, events_max),
        }
    }
}

impl DecodePool {
    /// Does work on a body of so many bytes, beside the runtime's threads if it is large. The
    /// body's permit comes back with what the work gives.
    pub(crate) async fn run<'a, T: Send + 'static>(
        &self,
        bytes: usize,
        permit: BodyPermit<'a>,
        budget: &Arc<BodyBudget>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, BodyPermit<'a>), Problem> {
        if bytes <= DECODED_INLINE_BYTES_MAX {
            return Ok((work(), permit));
        }
        let pool_permit = Arc::clone(&self.0).acquire_owned().await.map_err(|_| busy())?;
        // All of it outlives a request that is given up, as the work does.
        let permit = permit.into_owned(budget);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(pool_permit);
            (done, permit)
        });
        done.await
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be decoded"))
    }

    /// Decodes a whole body; its permit comes back with what was found.
    pub(crate) async fn decode<'a>(
        &self,
        decoding: Decoding<'_>,
        headers: &HeaderMap,
        body: WholeBody<'a>,
        budget: &Arc<BodyBudget>,
    ) -> Result<(Result<Decoded, Refused>, BodyPermit<'a>), Problem> {
        let WholeBody { bytes, permit } = body;
        if bytes.len() <= DECODED_INLINE_BYTES_MAX {
            return Ok((decoding.decode(headers, &bytes), permit));
        }
        let Decoding { dialect, arrival, events_max, .. } = decoding;
        let (options, headers) = (decoding.options.clone(), headers.clone());
        Box::pin(self.run(bytes.len(), permit, budget, move || {
            let decoding = Decoding { dialect, options: &options, arrival, events_max };
            decoding.decode(&headers, &bytes)
        }))
        .await
    }
}
