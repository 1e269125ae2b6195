//! Large bodies are decoded beside the runtime's threads, a few at a time: a thread that parses
//! megabytes answers nobody.
//!
//! Compressed bodies and streams of lines are decoded piece by piece, and others have their turn
//! after each piece.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use super::body::Held;
use super::content::{self, Dialect};
use super::decode::{Decoded, Refused, decode};
use super::options::Options;
use super::problem::Problem;
use super::room::{Share, busy};
use super::service::Service;
use super::{cloud_events, faults};
use crate::clock::Timestamp;
use crate::limits::DECODED_INLINE_BYTES_MAX;

/// Places to be decoded: as many as leave the runtime half of the processors.
pub(super) fn places() -> Arc<Semaphore> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((processors / 2).max(1)))
}

/// What is asked of a body.
#[derive(Clone, Copy)]
struct Ask<'a> {
    dialect: Dialect,
    options: &'a Options,
    arrival: Timestamp,
    events_max: usize,
}

impl Ask<'_> {
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

impl<S> Service<S> {
    /// Decodes a whole body; its share of the room comes back with what was found.
    pub(super) async fn decode<'a>(
        &self,
        head: &Parts,
        dialect: Dialect,
        options: &Options,
        held: Held<'a>,
    ) -> Result<(Result<Decoded, Refused>, Share<'a>), Problem> {
        let Held { bytes, share } = held;
        let arrival = if dialect.is_cloud_events() { self.clock.now() } else { Timestamp::default() };
        let ask = Ask { dialect, options, arrival, events_max: self.limits.batch_events_max };
        if bytes.len() <= DECODED_INLINE_BYTES_MAX {
            return Ok((ask.decode(&head.headers, &bytes), share));
        }
        Box::pin(async move {
            let place = Arc::clone(&self.decoding).acquire_owned().await.map_err(|_| busy())?;
            // All of it outlives a request that is given up, as the work does.
            let (share, options, events_max) =
                (share.into_owned(&self.room), options.clone(), ask.events_max);
            let headers = head.headers.clone();
            let decoding = tokio::task::spawn_blocking(move || {
                let decoded =
                    Ask { dialect, options: &options, arrival, events_max }.decode(&headers, &bytes);
                drop(place);
                (decoded, share)
            });
            decoding
                .await
                .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be decoded"))
        })
        .await
    }
}
