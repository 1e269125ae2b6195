//! The way of a request: it is checked, leads to a handler, and its answer is made ready to leave.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Version};

use super::{guard, openapi};
use crate::auth::{Caller, Permission};
use crate::http::body::upload::Upload;
use crate::http::publish::permitted::HasForbidden;
use crate::http::read::tail::IsTail;
use crate::http::routes::Route;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, IsStream, hold, is_short, until, without_body};
use crate::http::wire::connection::Connection;
use crate::http::wire::denial;
use crate::http::wire::forwarded;
use crate::http::wire::headers::Headers;
use crate::http::wire::negotiation::takes_gzip;
use crate::http::wire::problem::{self, Problem};
use crate::http::wire::request_id::RequestId;
use crate::http::wire::streaming::Responder;
use crate::metrics::RouteLabel;
use crate::peer::Peer;
use crate::quota::{NoPermit, QuotaKey};
use crate::store::EventStore;

impl<S: EventStore> Service<S> {
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
        // From here on the head stays where it is. To pass it on by value would copy it each time.
        let (head, body) = request.into_parts();
        let headers = Headers::of(&head.headers);
        let body = Upload::new(body, &headers);
        let request_id = self.request_ids.identify(&headers);
        let is_gzip = is_read(&head.method) && takes_gzip(&head.headers);
        let peer = forwarded::client(&self.limits.trusted_proxies, connection.peer(), &head.headers);
        let responder = Responder {
            budget: &self.answer_budget,
            connection,
            peer,
            key: peer.into(),
            is_gzip,
            request_id: &request_id,
        };
        // Until the answer begins: what goes on then is counted elsewhere.
        let permit = match head.version {
            Version::HTTP_2 => self.stream_permits.take(connection.peer().into()).map(Some),
            _ => Ok(None),
        };
        let access = &self.limits.access;
        let checked = permit.as_ref().map_err(|none| too_many_at_once(*none));
        let checked = checked.and_then(|_| access.check(&head, &headers, connection, is_led_to(&head)));
        let (page, route, answered) = match checked {
            Ok(page) => {
                let route = Route::find(head.uri.path(), &head.method)
                    .filter(|route| route.is_behind(connection.door()));
                let answered = self.respond(route, page.is_some(), &head, &headers, body, &responder).await;
                (page, route, answered)
            }
            Err(problem) => (None, None, Err(problem)),
        };
        let label = route.map_or(RouteLabel::NONE, Route::label);
        let refuse = |problem| self.refused(problem, &head.headers, &request_id);
        let answer = answered.unwrap_or_else(refuse);
        // Boxed: most answers are short, and wait for nothing.
        let held = match is_short(&answer) {
            true => Ok(answer),
            false => Box::pin(hold(answer, &responder.account(), is_gzip)).await,
        };
        let answer = held.unwrap_or_else(|e| refuse(e.into()));
        let mut answer = complete(answer, &head.method, label);
        access.share(page, answer.headers_mut());
        let took = self.clock.monotonic().saturating_duration_since(begin);
        self.metrics.answered(label, answer.status(), took);
        self.log(&request_id, peer, label, answer.status(), took);
        request_id.name(answer.headers_mut());
        if connection.is_reserved() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    /// Has the route's handler answer, if the caller may ask for that. `is_shared` says that the
    /// request comes from a page of an allowed origin.
    async fn respond(
        &self,
        route: Option<&Route>,
        is_shared: bool,
        head: &Parts,
        headers: &Headers<'_>,
        body: Upload,
        responder: &Responder<'_>,
    ) -> Result<Answer, Problem> {
        if responder.connection.is_reserved() && !route.is_some_and(|route| route.is_vital) {
            let message = "all connections that are served at once are taken; connect again later";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close());
        }
        let guarded = route.filter(|route| route.permission.is_some() && route.answers(&head.method));
        let caller = match guarded.filter(|_| !self.authenticator.is_open()) {
            None => Ok(Caller::anyone()),
            Some(route) => self.caller(route, head, headers, responder).await,
        };
        let key = caller.as_ref().ok().and_then(Caller::quota_key).unwrap_or(responder.key);
        self.take_of_rate(route, key)?;
        let Some(route) = route else {
            let message = "there is nothing here; /openapi.json says what is where";
            return Err(Problem::new(StatusCode::NOT_FOUND, message));
        };
        if !route.answers(&head.method) {
            let (takes_events, allow) = (route.permission == Some(Permission::Publish), route.allow());
            if head.method == Method::OPTIONS
                && let Some(answer) = guard::options(head, is_shared, takes_events, &allow)
            {
                return Ok(answer);
            }
            return Err(problem::not_allowed(&allow));
        }
        let caller = &caller?;
        let responder = &Responder { key, ..*responder };
        let call = Call { head, headers, body, responder, caller };
        let answered = match route.admit(caller) {
            Ok(()) => self.handle(route, call).await,
            Err(problem) => Err(problem),
        };
        let is_beyond_scope = match &answered {
            Ok(answer) => answer.extensions().get::<HasForbidden>().is_some(),
            Err(problem) => problem.status() == StatusCode::FORBIDDEN,
        };
        if is_beyond_scope {
            self.log_forbidden(caller, responder);
        }
        if let (Some(deed), Ok(_)) = (route.deed(), &answered) {
            self.log_deed(deed, head.uri.path(), caller, responder);
        }
        // What was stored meanwhile is told all the same.
        if route.is_read() && caller.has_ended() {
            return Err(denial::ended());
        }
        answered.map(|answer| until(answer, caller))
    }

    /// The answer to a request that is refused, or failed.
    fn refused(&self, problem: Problem, headers: &HeaderMap, request_id: &RequestId) -> Answer {
        if let Some(cause) = problem.cause() {
            self.log_cause(request_id, cause);
        }
        problem.into_answer(problem::is_wanted(headers), request_id.id())
    }

    /// Counts a request for whoever sends it. What tells how the service is does not count.
    ///
    /// # Errors
    /// 429: the sender has used up its rate.
    fn take_of_rate(&self, route: Option<&Route>, key: QuotaKey) -> Result<(), Problem> {
        let Some(rates) = self.rates.as_ref().filter(|_| !route.is_some_and(|route| route.is_vital)) else {
            return Ok(());
        };
        rates.take(key, self.clock.monotonic()).map_err(|wait| too_many(rates.per_second(), wait))
    }

    /// A line about a request: at level `warn` if the service failed, else at `debug`.
    fn log(&self, request_id: &RequestId, peer: Peer, route: RouteLabel, status: StatusCode, took: Duration) {
        let (id, trace, route) = (request_id.id(), request_id.trace(), route.name);
        let (status, seconds) = (status.as_u16(), took.as_secs_f64());
        if status < 500 {
            tracing::debug!(request_id = id, trace_id = trace, %peer, route, status, seconds, "answered");
        } else if let Some(left_out) = self.turnstile.pass((route, status), self.clock.monotonic()) {
            let request_id = id;
            tracing::warn!(
                request_id,
                trace_id = trace,
                %peer,
                route,
                status,
                seconds,
                left_out,
                "a request failed"
            );
        }
    }

    /// A line for the operator about a request that the store could not answer.
    fn log_cause(&self, request_id: &RequestId, cause: &str) {
        let (id, trace) = (request_id.id(), request_id.trace());
        if let Some(left_out) = self.turnstile.pass(("the store could not answer", 0), self.clock.monotonic())
        {
            tracing::error!(request_id = id, trace_id = trace, error = %cause, left_out, "the store could not answer");
        }
    }
}

/// The refusal of a request for which there is no permit.
fn too_many_at_once(none: NoPermit) -> Problem {
    let message = match none {
        NoPermit::Full => "as many requests are under way as there may be; send this one again later",
        NoPermit::Share => {
            "this client has so many requests under way that what is left is for others; send this one again later"
        }
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later()
}

/// The refusal of a request beyond those that its client may send.
fn too_many(per_second: u32, wait: Duration) -> Problem {
    let message = format!(
        "this client sends more than {per_second} requests a second; send this one again later, and many events in one"
    );
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    Problem::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, seconds)
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// Whether a page of another origin may lead a browser to what is asked for: it changes nothing.
fn is_led_to(head: &Parts) -> bool {
    Route::find(head.uri.path(), &head.method).is_none_or(Route::is_read)
}

/// Gives an answer what the method asks for, and what all answers of its route have.
fn complete(mut answer: Answer, method: &Method, route: RouteLabel) -> Answer {
    if is_read(method) {
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    }
    if *method == Method::HEAD {
        answer = without_body(answer);
        answer.extensions_mut().remove::<IsTail>();
        answer.extensions_mut().remove::<IsStream>();
    }
    protect(route, answer.headers_mut());
    answer
}

/// Tells browsers of every answer that it is what its type says, that it is for pages of this
/// origin, and that it is not to be kept, unless it says how. The OpenAPI document may be kept as
/// well, as it is always the same.
fn protect(route: RouteLabel, headers: &mut HeaderMap) {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if route.name != openapi::PATH && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
