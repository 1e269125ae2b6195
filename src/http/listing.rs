//! `GET /events` as a stream: all lines of a range, or a tail that goes on as events are stored.
//!
//! A piece is made when the one before it has left, from one page of the store: what a stream holds does not grow with
//! its length, and a reader that stops reading stops it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Service;
use super::answer::{Answer, Pieces, gzip, streamed};
use super::identity::Identity;
use super::problem::Problem;
use super::read::push_event;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::limits::{HEARTBEAT_SECONDS, STREAM_PAGE_BYTES, STREAM_PAGE_EVENTS};
use crate::store::{EventStore, Order, Page, Query, StoredEvent};
use crate::turnstile::Turnstile;

/// Asks nginx not to hold a tail back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How often it is looked whether tails have something to read.
const LOOK: Duration = Duration::from_millis(20);
/// Silence after which a tail shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// What a tail begins with: milliseconds until a client that lost it comes back.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// Of lines about streams that failed.
static CUT_SHORT: Turnstile = Turnstile::new();

/// Among the extensions of an answer that goes on for ever.
#[derive(Clone, Copy, Debug)]
pub struct IsTail;

/// Where the store ends, as tails were told last; `None` when they shall end.
pub(super) type End = Option<String>;

impl<S: EventStore> Service<S> {
    /// Tells tails that there is more to read, as long as it is polled; they don't look for themselves, so a thousand of
    /// them cost nothing while nothing is stored.
    pub async fn lead_tails(&self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if self.end.receiver_count() == 0 {
                continue;
            }
            // A store that can't tell is asked again.
            let Ok(end) = self.store.end(None).await else { continue };
            self.end.send_if_modified(|told| {
                let is_news = told.as_ref().is_some_and(|told| *told != end);
                if is_news {
                    *told = Some(end);
                }
                is_news
            });
        }
    }

    /// Ends all tails, those to come too.
    pub fn end_tails(&self) {
        self.end.send_replace(None);
    }

    /// All lines of a range that is fixed now, at most `limit`.
    pub(super) async fn lines(
        &self,
        query: Query,
        limit: usize,
        is_gzip: bool,
        identity: &Identity,
    ) -> Result<Answer, Problem> {
        let stop = match query.order {
            Order::Ascending => Some(self.store.end(query.topic.as_deref()).await?),
            Order::Descending => None,
        };
        let query = Query { stop, bytes_max: Some(STREAM_PAGE_BYTES), ..query };
        let mut pages = Pages::new(&self.store, query);
        pages.query.limit = STREAM_PAGE_EVENTS.min(limit);
        pages.look().await?;
        let pieces = pieces(Export { pages, left: limit }, identity);
        let kind = HeaderValue::from_static("application/x-ndjson");
        if !is_gzip {
            return Ok(streamed(kind, pieces));
        }
        let mut answer = streamed(kind, gzip(pieces));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Ok(answer)
    }

    /// The range, and what is stored from now on.
    pub(super) async fn tail(&self, query: Query, identity: &Identity) -> Result<Answer, Problem> {
        let query =
            Query { bytes_max: Some(STREAM_PAGE_BYTES), limit: STREAM_PAGE_EVENTS, cursors: true, ..query };
        let place = Arc::clone(&self.tails).try_acquire_owned().map_err(|_| {
            let message = "as many tails are open as there may be; come back later, or read in pages";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later()
        })?;
        let end = self.end.subscribe();
        let mut pages = Pages::new(&self.store, query);
        pages.look().await?;
        let clock = Arc::clone(&self.clock);
        let beaten = clock.monotonic();
        let tail = Tail { pages, end, clock, beaten, told: None, has_begun: false, _place: place };
        let mut answer = streamed(HeaderValue::from_static("text/event-stream"), pieces(tail, identity));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
        answer.extensions_mut().insert(IsTail);
        Ok(answer)
    }
}

/// What makes the pieces of a body.
trait Maker: Send + 'static {
    /// The next piece; `None` at the end.
    fn piece(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// All pieces. If one fails, the answer ends without its proper end, so that its reader knows.
fn pieces(maker: impl Maker, identity: &Identity) -> Pieces {
    let named = (maker, identity.clone());
    Box::pin(stream::try_unfold(named, async |(mut maker, identity)| match maker.piece().await {
        Ok(piece) => Ok(piece.map(|piece| (piece, (maker, identity)))),
        Err(e) => {
            let (id, trace) = (identity.id(), identity.trace());
            if let Some(left_out) = CUT_SHORT.pass(("cut short", 0), SystemClock.monotonic()) {
                tracing::warn!(request_id = id, trace_id = trace, error = %e, left_out, "a stream of events is cut short");
            }
            Err(e)
        }
    }))
}

/// Pages in a row.
struct Pages<S> {
    store: Arc<S>,
    /// With the cursor of the next page.
    query: Query,
    /// The next page, if it was read already.
    seen: Option<Page>,
}

impl<S: EventStore> Pages<S> {
    fn new(store: &Arc<S>, query: Query) -> Self {
        Self { store: Arc::clone(store), query, seen: None }
    }

    /// Reads the first page before the answer begins: its faults can still be answered with a status.
    async fn look(&mut self) -> Result<()> {
        self.seen = Some(self.store.read(self.query.clone()).await?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Page> {
        let page = match self.seen.take() {
            Some(page) => page,
            None => self.store.read(self.query.clone()).await?,
        };
        self.query.cursor = Some(page.reached.clone());
        Ok(page)
    }
}

/// The lines of a range.
struct Export<S> {
    pages: Pages<S>,
    /// Events that may still be given.
    left: usize,
}

impl<S: EventStore> Maker for Export<S> {
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        while self.left > 0 {
            let page = self.pages.next().await?;
            self.left = if page.next_cursor.is_some() { self.left - page.events.len() } else { 0 };
            self.pages.query.limit = STREAM_PAGE_EVENTS.min(self.left);
            if !page.events.is_empty() {
                let mut lines = Vec::new();
                for event in &page.events {
                    push_line(&mut lines, event);
                }
                return Ok(Some(lines.into()));
            }
        }
        Ok(None)
    }
}

/// A tail, as server-sent events: each with its cursor as id.
struct Tail<S> {
    pages: Pages<S>,
    end: watch::Receiver<End>,
    clock: Arc<dyn Clock>,
    /// When the reader heard something last.
    beaten: Instant,
    /// The last id that was sent.
    told: Option<String>,
    has_begun: bool,
    /// Among the tails that may be open at once.
    _place: OwnedSemaphorePermit,
}

impl<S: EventStore> Maker for Tail<S> {
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Ok(Some(Bytes::from_static(RETRY)));
        }
        while self.end.borrow().is_some() {
            let page = self.pages.next().await?;
            if let Some(last) = page.cursors.last() {
                self.told = Some(last.clone());
                self.beaten = self.clock.monotonic();
                return Ok(Some(messages(&page).into()));
            }
            let silence = self.clock.monotonic().saturating_duration_since(self.beaten);
            let patience = HEARTBEAT.saturating_sub(silence);
            if page.next_cursor.is_none() {
                tokio::select! {
                    more = self.wait_for_more() => match more? {
                        true => continue,
                        false => return Ok(None),
                    },
                    () = tokio::time::sleep(patience) => {}
                }
            } else if !patience.is_zero() {
                // A long range of which nothing is wanted.
                continue;
            }
            return Ok(Some(self.beat()));
        }
        Ok(None)
    }
}

impl<S: EventStore> Tail<S> {
    /// Waits until there is something behind the place reached; `false` if the service stops first.
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

    /// A comment, which shows that the service is there; and how far it has looked, if that is news. An id without data
    /// is noted by the reader, and shown to nobody.
    fn beat(&mut self) -> Bytes {
        self.beaten = self.clock.monotonic();
        let reached = self.pages.query.cursor.clone().filter(|reached| self.told.as_ref() != Some(reached));
        match reached {
            Some(reached) => {
                let message = format!(":\nid: {reached}\n\n");
                self.told = Some(reached);
                message.into()
            }
            None => Bytes::from_static(b":\n\n"),
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

/// Appends an event and a line's end. A payload may have line ends between its tokens, where a blank means the same.
fn push_line(lines: &mut Vec<u8>, event: &StoredEvent) {
    let start = lines.len();
    push_event(lines, event);
    for byte in lines.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    lines.push(b'\n');
}
