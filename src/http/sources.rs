//! `/in/{source}`: webhooks of other services. The signature is the key, so no token is asked for;
//! what a client may take is bounded as everywhere else.
//!
//! | request | answer |
//! |---|---|
//! | to a source that there is not | 404, and its body is not read |
//! | without the signature's header | 401, and its body is not read |
//! | whose signature is malformed, wrong or stale | 401 |
//! | genuine, and no event | 422, or 200 where the source has a quarantine |
//! | genuine | 200, also for a duplicate or a conflict: its sender must not repeat it |
//!
//! `GET /sources` tells of each source what became of its deliveries.

mod handshake;
mod list;
mod refusal;

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use hyper::http::request::Parts;

use crate::clock::Timestamp;
use crate::event::Batch;
use crate::http::body::budget::WholeBody;
use crate::http::body::eviction::Sender;
use crate::http::publish::publish_answer::push_results;
use crate::http::service::{Call, Service};
use crate::http::sources::refusal::Refusal;
use crate::http::wire::answer::{Answer, fixed, json, with_type};
use crate::http::wire::problem::Problem;
use crate::http::wire::query;
use crate::limits::DELIVERY_BYTES_MAX;
use crate::quota::QuotaKey;
use crate::store::{EventStore, Status};
use crate::webhook::{Delivery, FixedAnswer, Refused, Source, Taken, is_packed};

impl<S: EventStore> Service<S> {
    /// Takes a delivery, or says and counts why not.
    pub(super) async fn deliver(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let (source, responder) = (self.source(call.head)?, call.responder);
        match self.take_delivery(&source, call).await {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(self.refuse_delivery(&source, refusal, responder).await),
        }
    }

    async fn take_delivery(&self, source: &Arc<Source>, call: Call<'_>) -> Result<Answer, Refusal> {
        let Call { head, body, responder, caller, .. } = call;
        if source.lacks_header(|name| head.headers.contains_key(name)) {
            return Err(Refusal::Unproven(Refused::Missing));
        }
        check_encoding(&head.headers)?;
        let most = DELIVERY_BYTES_MAX.min(self.limits.body_bytes_max);
        let held = self.body_at_most(body, most, (Sender::of(responder), caller)).await?;
        let WholeBody { bytes, permit } = held;
        let work = {
            let (source, headers, arrival) = (Arc::clone(source), head.headers.clone(), self.clock.now());
            let (query, bytes) = (head.uri.query().unwrap_or_default().to_owned(), bytes.clone());
            move || look(&source, &headers, &query, &bytes, arrival)
        };
        let (looked, permit) = self.decode_pool.run(bytes.len(), permit, &self.body_budget, work).await?;
        let (batch, is_quarantined) = match looked {
            Ok(Taken::Events(batch)) => (batch, false),
            Ok(Taken::Quarantined(batch, why)) => {
                self.log_quarantined(source, &why, responder);
                (batch, true)
            }
            Ok(Taken::Challenge(answer)) => {
                self.metrics.delivered(source.name(), "challenge");
                return Ok(plain(answer));
            }
            Err(refusal) => return Err(refusal),
        };
        let answer = self.store_delivery(source, batch, is_quarantined, responder.key).await;
        drop(permit);
        Ok(answer?)
    }

    /// The source that a path names.
    ///
    /// # Errors
    /// 404: there is none.
    fn source(&self, head: &Parts) -> Result<Arc<Source>, Problem> {
        let path = head.uri.path().strip_prefix("/in/").unwrap_or_default();
        let name = query::decode(path.strip_suffix('/').unwrap_or(path), false);
        name.and_then(|name| self.limits.sources.find(&name)).ok_or_else(|| {
            self.metrics.undelivered();
            let message =
                "there is no source of this name: `sekali source list` shows those that are configured";
            Problem::new(StatusCode::NOT_FOUND, message)
        })
    }

    /// Stores the events of a delivery, and answers as to a publish, or as its sender expects it.
    async fn store_delivery(
        &self,
        source: &Source,
        batch: Batch,
        is_quarantined: bool,
        key: QuotaKey,
    ) -> Result<Answer, Problem> {
        let batch = Arc::new(batch);
        let (outcomes, counts) = self.append(Arc::clone(&batch), key).await?;
        let outcome = match outcomes.iter().map(|outcome| outcome.status).max_by_key(|status| weight(*status))
        {
            _ if is_quarantined => "quarantined",
            Some(Status::Stored) => "stored",
            Some(Status::Conflict) => "conflict",
            Some(Status::Duplicate) | None => "duplicate",
        };
        self.metrics.delivered(source.name(), outcome);
        if let Some(FixedAnswer { content_type, body }) = source.answer() {
            return Ok(fixed(HeaderValue::from_static(content_type), body.as_bytes()));
        }
        let mut body = vec![b'{'];
        counts.write_to(&mut body);
        if let [_] = outcomes[..] {
            body.extend_from_slice(b",\"results\":");
            push_results(&mut body, &batch, &outcomes, None);
        }
        body.push(b'}');
        Ok(json(StatusCode::OK, body))
    }
}

/// Which outcome of several a delivery is counted as: what is new counts most.
fn weight(status: Status) -> u8 {
    match status {
        Status::Duplicate => 0,
        Status::Conflict => 1,
        Status::Stored => 2,
    }
}

/// Whether a delivery is genuine, and what it becomes.
fn look(
    source: &Source,
    headers: &HeaderMap,
    query: &str,
    body: &Bytes,
    arrival: Timestamp,
) -> Result<Taken, Refusal> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let delivery = Delivery { headers: &headers, query, body };
    source.check(delivery, arrival).map_err(Refusal::Unproven)?;
    source.take(delivery, arrival).map_err(Refusal::Unmapped)
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match is_packed(headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes)) {
        false => Ok(()),
        true => {
            let message = "send the body of a webhook uncompressed, as it is signed";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).close())
        }
    }
}

/// An answer that is text.
fn plain(text: String) -> Answer {
    with_type(StatusCode::OK, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}
