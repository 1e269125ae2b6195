//! HTTP: routes, bodies, answers. Knows no storage, only [`EventStore`].
//!
//! ```text
//! request → route → body (limits) → decode → store → answer
//! ```
//! `decode.rs` has the fast path of a body; only what it refuses is looked at again by `faults.rs`, which says what is
//! wrong with it.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_ENCODING, HeaderValue, VARY};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::sync::Semaphore;

use self::accept::quality;
use self::answer::{LEVEL, fixed, hold, is_short, json, takes_gzip, with_type, without_body};
use self::headers::Headers;
use self::identity::{Identity, Ids};
use self::newcomers::Newcomers;
use self::pieces::{Reader, packed};
use self::problem::Problem;
use self::room::Rooms;
use self::tails::Tails;
use self::upload::Upload;
use crate::clock::Clock;
use crate::limits;
use crate::metrics::{Metrics, Route, open_metrics};
use crate::store::{EventStore, Health};

mod accept;
mod answer;
mod body;
mod chunk;
mod cloud_events;
mod connection;
mod content;
mod decode;
mod decompress;
mod faults;
mod headers;
mod identity;
mod lane;
mod lines;
mod list;
mod listing;
mod newcomers;
mod options;
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
pub use self::listing::IsTail;

/// What is where, for programs.
static OPENAPI: LazyLock<String> =
    LazyLock::new(|| include_str!("http/openapi.json").replace("{version}", env!("CARGO_PKG_VERSION")));

/// The same, packed; nothing if that fails.
static PACKED_OPENAPI: LazyLock<Vec<u8>> =
    LazyLock::new(|| packed(OPENAPI.as_bytes(), LEVEL).unwrap_or_default());

/// What a user may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// Most events in one request.
    pub batch_events_max: usize,
    /// Bytes of bodies held at once.
    pub inflight_bytes_max: usize,
    /// Connections served at once.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            batch_events_max: limits::BATCH_EVENTS_MAX,
            inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
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
    /// Bytes of bodies that may still be taken.
    inflight: Semaphore,
    lanes: lane::Lanes,
    metrics: Metrics,
    /// Room for answers that wait for their readers.
    rooms: Arc<Rooms>,
    tails: Arc<Tails>,
    newcomers: Newcomers,
    ids: Ids,
}

impl<S: EventStore> Service<S> {
    /// A service over `store`.
    pub fn new(store: Arc<S>, limits: Limits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let started = clock.monotonic();
        let inflight = Semaphore::new(limits.inflight_bytes_max.min(Semaphore::MAX_PERMITS));
        let (lanes, rooms, tails, newcomers, ids) = Default::default();
        Self { store, limits, clock, started, inflight, lanes, metrics, rooms, tails, newcomers, ids }
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
        let (route, answered) = match check_host(&headers, head.version) {
            Ok(()) => self.route(&head, &headers, body, &reader).await,
            Err(problem) => (Route::None, Err(problem)),
        };
        let refuse = |problem: Problem| {
            if let Some(cause) = problem.cause() {
                let (id, trace) = (identity.id(), identity.trace());
                tracing::error!(request_id = id, trace_id = trace, error = %cause, "the store could not answer");
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
        let took = self.clock.monotonic().saturating_duration_since(begin);
        self.metrics.answered(route, answer.status(), took);
        log(&identity, route, answer.status(), took);
        identity.name(answer.headers_mut());
        Ok(answer)
    }

    async fn route(
        &self,
        head: &Parts,
        headers: &Headers<'_>,
        body: Upload,
        reader: &Reader<'_>,
    ) -> (Route, Result<Answer, Problem>) {
        let path = head.uri.path();
        let route = match path {
            "/publish" => Route::Publish,
            "/events" => Route::Events,
            "/stats" => Route::Stats,
            "/topics" => Route::Topics,
            "/healthz" => Route::Healthz,
            "/readyz" => Route::Readyz,
            "/metrics" => Route::Metrics,
            "/openapi.json" => Route::OpenApi,
            _ => match path.strip_prefix("/events/").and_then(|rest| rest.split_once('/')) {
                Some((_, id)) if !id.contains('/') => Route::Event,
                _ => Route::None,
            },
        };
        if let Err(problem) = check_method(route, &head.method) {
            return (route, Err(problem));
        }
        let answered = match route {
            Route::Publish => self.publish(head, headers, body, reader).await,
            // Boxed, as in what else is larger than a publish: every request has the size of the largest.
            Route::Events => Box::pin(self.events(head, reader)).await,
            Route::Event => self.event(path).await,
            Route::Stats => Box::pin(self.stats(reader)).await,
            Route::Topics => Box::pin(self.topics(head.uri.query().unwrap_or(""), reader)).await,
            Route::Healthz => Ok(json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())),
            Route::Readyz => self.ready(),
            Route::Metrics => Ok(self.figures(&head.headers)),
            Route::OpenApi => Ok(open_api(reader.is_gzip)),
            Route::None => Err(Problem::new(
                StatusCode::NOT_FOUND,
                "there is nothing here; /openapi.json says what is where",
            )),
        };
        (route, answered)
    }

    fn figures(&self, headers: &HeaderMap) -> Answer {
        self.store.observe();
        let uptime = self.clock.monotonic().saturating_duration_since(self.started);
        let held = self.limits.inflight_bytes_max.saturating_sub(self.inflight.available_permits());
        let text = self.metrics.render(uptime, held, self.rooms.held());
        let open = "application/openmetrics-text";
        let is_open = quality(headers, &ACCEPT, |kind| kind.eq_ignore_ascii_case(open));
        let (kind, text) = match is_open {
            Some(1..) => ("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics(&text)),
            _ => ("text/plain; version=0.0.4; charset=utf-8", text),
        };
        with_type(StatusCode::OK, HeaderValue::from_static(kind), text.into_bytes())
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

/// HTTP/1.1 asks for exactly one `Host`; hyper takes none and two.
fn check_host(headers: &Headers<'_>, version: Version) -> Result<(), Problem> {
    let hosts = headers.host.count;
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(
            Problem::new(StatusCode::BAD_REQUEST, "a request must have exactly one Host header").close()
        );
    }
    Ok(())
}

fn check_method(route: Route, method: &Method) -> Result<(), Problem> {
    let (is_allowed, allow) = match route {
        Route::None => return Ok(()),
        Route::Publish => (method == Method::POST, "POST"),
        _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
    };
    if is_allowed {
        return Ok(());
    }
    let message = format!("this path answers {allow} only");
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, HeaderValue::from_static(allow)))
}

/// A line about a request: at level `warn` if the service failed, else at `debug`.
fn log(identity: &Identity, route: Route, status: StatusCode, took: Duration) {
    let (id, trace, route) = (identity.id(), identity.trace(), route.name());
    let (status, seconds) = (status.as_u16(), took.as_secs_f64());
    if status >= 500 {
        tracing::warn!(request_id = id, trace_id = trace, route, status, seconds, "a request failed");
    } else {
        tracing::debug!(request_id = id, trace_id = trace, route, status, seconds, "answered");
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
