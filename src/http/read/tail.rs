//! `GET /events` as a tail: a range as server-sent events, and then what is stored from now on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::Result;
use crate::http::read::export::push_line;
use crate::http::read::pages::Pages;
use crate::http::read::tail_hub::{End, Position, TailHub, TailPage};
use crate::http::service::Service;
use crate::http::wire::answer::Answer;
use crate::http::wire::problem::Problem;
use crate::http::wire::streaming::{Made, Maker, Portion, Responder};
use crate::limits::{HEARTBEAT_SECONDS, PIECE_BYTES, READ_EVENTS_MAX};
use crate::quota::{FairPermit, NoPermit, QuotaKey};
use crate::store::{EventStore, Page, Query};

/// Asks nginx not to hold a tail back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Silence after which a tail shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// What a tail begins with: milliseconds until a client that lost it comes back. No blank line
/// follows it, nor a sign of life: many parsers take a blank line for the end of an event, and give
/// their user an empty one.
const RETRY: &[u8] = b"retry: 1000\n";
/// A comment, which shows that the service is there.
const BEAT: &[u8] = b":\n";

/// Among the extensions of an answer that goes on for ever.
#[derive(Clone, Copy, Debug)]
pub struct IsTail;

impl<S: EventStore> Service<S> {
    /// Tells tails that there is more to read, as long as it is polled.
    pub async fn lead_tails(&self) {
        self.tail_hub.lead(|| self.store.pulse()).await;
    }

    /// Ends all tails, those to come too.
    pub fn end_tails(&self) {
        self.tail_hub.end();
        self.live.end();
    }

    /// A permit among the tails that may be open at once.
    ///
    /// # Errors
    /// 503: all are taken. 429: what is free is for others.
    pub(crate) fn tail_permit(&self, key: QuotaKey) -> Result<FairPermit, Problem> {
        self.tail_permits.take(key).map_err(|none| {
            let (status, message) = match none {
                NoPermit::Full => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "as many tails are open as there may be; come back later, or read in pages",
                ),
                NoPermit::Share => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "this client has so many tails open that what is left is for others; close some, or read in pages",
                ),
            };
            Problem::new(status, message).retry_later()
        })
    }

    /// The range, and what is stored from now on.
    pub(crate) async fn tail(&self, query: Query, responder: &Responder<'_>) -> Result<Answer, Problem> {
        let permit = self.tail_permit(responder.key)?;
        let end = self.tail_hub.subscribe();
        let query = Query { cursors: true, ..query };
        let pages = Pages::new(&self.store, query, responder.account());
        let (clock, hub) = (Arc::clone(&self.clock), Arc::clone(&self.tail_hub));
        let beaten = clock.monotonic();
        let mut tail = Tail { pages, hub, end, clock, beaten, first: None, _permit: permit };
        // What is wrong with the query is found here, where it can still be answered with a status.
        tail.first = Some(tail.read().await?);
        // Packed, what it gives would wait for more to pack.
        let responder = Responder { is_gzip: false, ..*responder };
        let mut answer = responder.send(Begun { tail, has_begun: false }, "text/event-stream", false).await?;
        answer.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
        answer.extensions_mut().insert(IsTail);
        Ok(answer)
    }
}

/// A tail, as server-sent events: each with its cursor as id.
struct Tail<S> {
    pages: Pages<S>,
    hub: Arc<TailHub>,
    end: watch::Receiver<End>,
    clock: Arc<dyn Clock>,
    /// When the reader heard something last.
    beaten: Instant,
    /// What was read before the answer began.
    first: Option<(Arc<TailPage>, Portion)>,
    /// Among the tails that may be open at once.
    _permit: FairPermit,
}

/// A tail, after what it begins with.
struct Begun<S> {
    tail: Tail<S>,
    has_begun: bool,
}

impl<S: EventStore> Maker for Begun<S> {
    async fn step(&mut self) -> Result<Made> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Ok(Made::Part(Portion { bytes: Bytes::from_static(RETRY), permit: None }));
        }
        self.tail.step().await
    }
}

impl<S: EventStore> Maker for Tail<S> {
    async fn step(&mut self) -> Result<Made> {
        if self.end.borrow().is_none() {
            return Ok(Made::End(Portion::default()));
        }
        let (read, portion) = match self.first.take() {
            Some(first) => first,
            None => self.read().await?,
        };
        if read.last.is_some() {
            self.beaten = self.clock.monotonic();
            return Ok(Made::Part(portion));
        }
        let silence = self.clock.monotonic().saturating_duration_since(self.beaten);
        let patience = HEARTBEAT.saturating_sub(silence);
        if !read.has_more {
            tokio::select! {
                more = self.wait_for_more() => return Ok(match more? {
                    true => Made::Part(Portion::default()),
                    false => Made::End(Portion::default()),
                }),
                () = tokio::time::sleep(patience) => {}
            }
        } else if !patience.is_zero() {
            // A long range of which nothing is wanted.
            return Ok(Made::Part(Portion::default()));
        }
        self.beaten = self.clock.monotonic();
        Ok(Made::Part(Portion { bytes: Bytes::from_static(BEAT), permit: None }))
    }
}

impl<S: EventStore> Tail<S> {
    /// The next page, as another tail has read it, or read for all tails at this position.
    async fn read(&mut self) -> Result<(Arc<TailPage>, Portion)> {
        let mut permit = self.pages.permit(0, PIECE_BYTES).await?;
        let position = Position::of(&self.pages.query, &self.end.borrow());
        let (store, query) = (&self.pages.store, &self.pages.query);
        let shared = self.hub.page(position, async || {
            let (limit, bytes_max) = (READ_EVENTS_MAX, Some(PIECE_BYTES));
            let query = Query { limit, bytes_max, ..query.clone() };
            Ok(store.read_as(query, |page| TailPage::new(page, messages(page))).await?.1)
        });
        let shared = shared.await?;
        if permit.resize(shared.messages.len()) {
            self.pages.go_on(shared.reached.clone(), shared.next_priority);
            let portion = Portion::new(shared.messages.clone(), permit);
            return Ok((shared, portion));
        }
        // The budget allows only a smaller page.
        drop(permit);
        let (page, portion, ()) = self.pages.next(READ_EVENTS_MAX, |page| (messages(page), ())).await?;
        Ok((Arc::new(TailPage::new(&page, Bytes::new())), portion))
    }

    /// Waits until there is something after the position reached; `false` if the service stops
    /// first.
    async fn wait_for_more(&mut self) -> Result<bool> {
        loop {
            if self.end.changed().await.is_err() || self.end.borrow_and_update().is_none() {
                return Ok(false);
            }
            let end = self.pages.store.end(self.pages.query.topic.as_deref()).await?;
            if self.pages.query.cursor.as_ref() != Some(&end) {
                return Ok(true);
            }
        }
    }
}

/// A page as server-sent events.
fn messages(page: &Page) -> Vec<u8> {
    let mut messages = Vec::new();
    for (event, cursor) in page.events.iter().zip(&page.cursors) {
        messages.extend_from_slice(b"id: ");
        messages.extend_from_slice(cursor.as_bytes());
        messages.extend_from_slice(b"\ndata: ");
        push_line(&mut messages, event);
        messages.push(b'\n');
    }
    messages
}
