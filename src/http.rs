//! HTTP: routes, bodies, answers. Knows no storage, only [`EventStore`].
//!
//! ```text
//! request → guard → route → body (limits) → decode → store → answer
//! ```
//! `decode.rs` has the fast path of a body; only what it refuses is looked at again by `faults.rs`, which says what is
//! wrong with it.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, HeaderName, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use tokio::sync::Semaphore;

use self::accept::quality;
use self::answer::{LEVEL, fixed, hold, is_short, json, takes_gzip, with_type, without_body};
use self::answer_room::Rooms;
use self::headers::Headers;
use self::identity::{Identity, Ids};
use self::newcomers::Newcomers;
use self::pieces::{Reader, packed};
use self::problem::Problem;
use self::room::Room;
use self::tails::Tails;
use self::upload::Upload;
use crate::clock::Clock;
use crate::limits;
use crate::metrics::{Metrics, Route, open_metrics};
use crate::store::{EventStore, Health};
use crate::turnstile::Turnstile;

mod accept;
mod answer;
mod answer_room;
mod body;
mod chunk;
mod cloud_events;
mod connection;
mod content;
mod decode;
mod decompress;
mod faults;
mod guard;
mod guests;
mod headers;
mod heavy;
mod identity;
mod lane;
mod lines;
mod list;
mod listing;
mod newcomers;
mod options;
mod pace;
mod pages;
mod pieces;
mod problem;
mod publish;
mod query;
mod read;
mod receipt;
mod room;
mod source;
mod tails;
mod upload;

pub use self::answer::{Answer, Body, IsStream};
pub use self::connection::Connection;
pub use self::guard::Access;
pub use self::listing::IsTail;

/// What is where, for programs.
static OPENAPI: LazyLock<String> =
    LazyLock::new(|| include_str!("http/openapi.json").replace("{version}", env!("CARGO_PKG_VERSION")));

/// The same, packed; nothing if that fails.
static PACKED_OPENAPI: LazyLock<Vec<u8>> =
    LazyLock::new(|| packed(OPENAPI.as_bytes(), LEVEL).unwrap_or_default());

/// What a user may set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// Most events in one request.
    pub batch_events_max: usize,
    /// Bytes of bodies held at once.
    pub inflight_bytes_max: usize,
    /// Connections served at once.
    pub connections_max: usize,
    /// Seconds that a head may take.
    pub head_seconds: u64,
    /// Seconds that a connection is kept without a request.
    pub keep_alive_seconds: u64,
    /// Seconds in which a client must take some of what waits for it.
    pub stall_seconds: u64,
    /// Who may ask, beside the programs of this machine.
    pub access: Access,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            batch_events_max: limits::BATCH_EVENTS_MAX,
            inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            head_seconds: limits::HEAD_SECONDS,
            keep_alive_seconds: limits::KEEP_ALIVE_SECONDS,
            stall_seconds: limits::STALL_SECONDS,
            access: Access::default(),
        }
    }
}

/// Answers requests; one for all connections.
#[derive(Debug)]
pub struct Service<S> {
    store: Arc<S>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    started: Instant,
    /// Room for bodies.
    room: Arc<Room>,
    /// Places to decode large bodies.
    decoding: Arc<Semaphore>,
    lanes: lane::Lanes,
    metrics: Metrics,
    /// Room for answers that wait for their readers.
    rooms: Arc<Rooms>,
    tails: Arc<Tails>,
    /// Tails that may still begin.
    tail_places: Arc<Semaphore>,
    newcomers: Newcomers,
    ids: Ids,
    /// Of lines about requests that failed.
    turnstile: Turnstile,
}

impl<S: EventStore> Service<S> {
    /// A service over `store`.
    pub fn new(store: Arc<S>, limits: Limits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let started = clock.monotonic();
        let room = Arc::new(Room::new(limits.inflight_bytes_max));
        let decoding = heavy::places();
        let places = (limits.connections_max / limits::TAILS_SHARE).clamp(1, Semaphore::MAX_PERMITS);
        let tail_places = Arc::new(Semaphore::new(places));
        let (lanes, rooms, tails, newcomers, ids) = Default::default();
        let turnstile = Turnstile::new();
        Self {
            store,
            limits,
            clock,
            started,
            room,
            decoding,
            lanes,
            metrics,
            rooms,
            tails,
            tail_places,
            newcomers,
            ids,
            turnstile,
        }
    }

    /// Answers one request that came by `connection`.
    ///
    /// # Errors
    /// Never: every fault is an answer.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Result<Answer, Infallible> {
        let begin = self.clock.monotonic();
        // From here on the head stays where it is: to hand it on as a value would copy it time and again.
        let (head, body) = request.into_parts();
        let headers = Headers::of(&head.headers);
        let body = Upload::new(body, &headers);
        let identity = self.ids.identify(&headers);
        let is_head = head.method == Method::HEAD;
        let is_read = is_head || head.method == Method::GET;
        let is_gzip = is_read && takes_gzip(&head.headers);
        let reader = Reader { rooms: &self.rooms, connection, is_gzip, identity: &identity };
        let access = &self.limits.access;
        let (page, (route, answered)) = match access.check(&head, &headers, connection) {
            Ok(page) => (page, self.route(&head, &headers, page.is_some(), body, &reader).await),
            Err(problem) => (None, (Route::None, Err(problem))),
        };
        let refuse = |problem: Problem| {
            if let Some(cause) = problem.cause() {
                self.log_cause(&identity, cause);
            }
            problem.into_answer(problem::is_wanted(&head.headers), identity.id())
        };
        let answer = answered.unwrap_or_else(refuse);
        // Boxed: most answers are short, and wait for nothing.
        let held = match is_short(&answer) {
            true => Ok(answer),
            false => Box::pin(hold(answer, &reader.holder(), is_gzip)).await,
        };
        let mut answer = held.unwrap_or_else(|e| refuse(e.into()));
        if is_read {
            answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        }
        if is_head {
            answer = without_body(answer);
            answer.extensions_mut().remove::<IsTail>();
            answer.extensions_mut().remove::<IsStream>();
        }
        protect(route, answer.headers_mut());
        access.share(page, answer.headers_mut());
        let took = self.clock.monotonic().saturating_duration_since(begin);
        self.metrics.answered(route, answer.status(), took);
        self.log(&identity, route, answer.status(), took);
        identity.name(answer.headers_mut());
        if connection.is_reserved() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    /// `is_shared`: it comes from a page of an allowed origin.
    async fn route(
        &self,
        head: &Parts,
        headers: &Headers<'_>,
        is_shared: bool,
        body: Upload,
        reader: &Reader<'_>,
    ) -> (Route, Result<Answer, Problem>) {
        let path = head.uri.path();
        // Clients that were given an address with a slash at its end add no other one.
        let path = path.strip_suffix('/').unwrap_or(path);
        let route = match path {
            "" => Route::Root,
            "/publish" => Route::Publish,
            "/events" => Route::Events,
            "/stats" => Route::Stats,
            "/topics" => Route::Topics,
            "/healthz" => Route::Healthz,
            "/readyz" | "/health" => Route::Readyz,
            "/metrics" => Route::Metrics,
            "/openapi.json" => Route::OpenApi,
            _ => match path.strip_prefix("/events/").and_then(|rest| rest.split_once('/')) {
                Some((_, id)) if !id.contains('/') => Route::Event,
                _ => Route::None,
            },
        };
        if reader.connection.is_reserved() && !route.tells_state() {
            let message = "all connections that are served at once are taken; connect again later";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close();
            return (route, Err(problem));
        }
        if let Some(answered) = self.other_method(route, head, is_shared) {
            return (route, answered);
        }
        let answered = match route {
            Route::Root => Ok(self.root()),
            Route::Publish => self.publish(head, headers, body, reader).await,
            // Boxed, as in what else is larger than a publish: every request has the size of the largest.
            Route::Events => Box::pin(self.events(head, reader)).await,
            Route::Event => self.event(path).await,
            Route::Stats => Box::pin(self.stats(reader)).await,
            Route::Topics => Box::pin(self.topics(head.uri.query().unwrap_or(""), reader)).await,
            Route::Healthz => Ok(json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())),
            Route::Readyz => self.ready(),
            Route::Metrics => Ok(self.figures(&head.headers).await),
            Route::OpenApi => Ok(open_api(reader.is_gzip)),
            Route::None => Err(Problem::new(
                StatusCode::NOT_FOUND,
                "there is nothing here; /openapi.json says what is where",
            )),
        };
        (route, answered)
    }

    /// The answer to a method other than the one that the route is for.
    fn other_method(&self, route: Route, head: &Parts, is_shared: bool) -> Option<Result<Answer, Problem>> {
        let (is_allowed, allow) = match route {
            Route::None => return None,
            Route::Publish => (head.method == Method::POST, "POST"),
            _ => (head.method == Method::GET || head.method == Method::HEAD, "GET, HEAD"),
        };
        if is_allowed {
            return None;
        }
        if head.method == Method::OPTIONS
            && let Some(answer) = guard::options(head, is_shared, route == Route::Publish, allow)
        {
            return Some(Ok(answer));
        }
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path answers {allow} only"));
        Some(Err(problem.with(ALLOW, HeaderValue::from_static(allow))))
    }

    /// What this is, and where to go on; not ready, it is 503 for those who ask it for the service's health.
    fn root(&self) -> Answer {
        let (code, status) = match self.store.health() {
            Health::Ready => (StatusCode::OK, "ready"),
            Health::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        let body = serde_json::json!({
            "service": "sekali",
            "version": env!("CARGO_PKG_VERSION"),
            "status": status,
            "links": {
                "publish": "/publish",
                "events": "/events",
                "topics": "/topics",
                "stats": "/stats",
                "health": "/health",
                "metrics": "/metrics",
                "openapi": "/openapi.json",
            },
        });
        json(code, body.to_string().into_bytes())
    }

    async fn figures(&self, headers: &HeaderMap) -> Answer {
        self.store.observe().await;
        let uptime = self.clock.monotonic().saturating_duration_since(self.started);
        let text = self.metrics.render(uptime, self.room.held(), self.rooms.held());
        let open = "application/openmetrics-text";
        let is_open = quality(headers, &ACCEPT, |kind| kind.eq_ignore_ascii_case(open));
        let (kind, text) = match is_open {
            Some(1..) => ("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics(&text)),
            _ => ("text/plain; version=0.0.4; charset=utf-8", text),
        };
        with_type(StatusCode::OK, HeaderValue::from_static(kind), text.into_bytes())
    }

    /// A line about a request: at level `warn` if the service failed, else at `debug`.
    fn log(&self, identity: &Identity, route: Route, status: StatusCode, took: Duration) {
        let (id, trace, route) = (identity.id(), identity.trace(), route.name());
        let (status, seconds) = (status.as_u16(), took.as_secs_f64());
        if status < 500 {
            tracing::debug!(request_id = id, trace_id = trace, route, status, seconds, "answered");
        } else if let Some(left_out) = self.turnstile.pass((route, status), self.clock.monotonic()) {
            let request_id = id;
            tracing::warn!(
                request_id,
                trace_id = trace,
                route,
                status,
                seconds,
                left_out,
                "a request failed"
            );
        }
    }

    /// A line for the operator about a request that the store could not answer.
    fn log_cause(&self, identity: &Identity, cause: &str) {
        let (id, trace) = (identity.id(), identity.trace());
        if let Some(left_out) = self.turnstile.pass(("the store could not answer", 0), self.clock.monotonic())
        {
            tracing::error!(request_id = id, trace_id = trace, error = %cause, left_out, "the store could not answer");
        }
    }

    fn ready(&self) -> Result<Answer, Problem> {
        match self.store.health() {
            Health::Ready => Ok(json(StatusCode::OK, br#"{"status":"ready"}"#.to_vec())),
            Health::NotReady(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_later()),
        }
    }
}

/// The description of the service, made once.
fn open_api(is_gzip: bool) -> Answer {
    let kind = HeaderValue::from_static("application/json");
    if !is_gzip || PACKED_OPENAPI.is_empty() {
        return fixed(kind, OPENAPI.as_bytes());
    }
    let mut answer = fixed(kind, &PACKED_OPENAPI);
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}

/// What every answer says to browsers: it is what its type says, it is for this origin's pages, and it is kept nowhere. The
/// description of the service alone is always the same.
fn protect(route: Route, headers: &mut HeaderMap) {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if route != Route::OpenApi {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The value of a header that may stand once.
fn header<'a>(headers: &'a HeaderMap, name: &hyper::header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Appends a number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a JSON string.
fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and a Vec takes all that is written.
    let _ = serde_json::to_writer(out, text);
}
