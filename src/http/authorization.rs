//! Who asks, and whether they may: every request is looked at here before any of its body is read.
//!
//! | request | answer |
//! |---|---|
//! | shows nothing, or what is no valid token, where one is needed | 401, after a pause if that is repeated |
//! | shows a token whose scopes do not fit | 403 |
//! | was let in, and its token ends meanwhile | 401, or the answer is cut short |

use std::fmt::Display;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;

use crate::auth::authenticator::Denied;
use crate::auth::tickets::NoTicket;
use crate::auth::token::{self, ID_CHARS, PREFIX};
use crate::auth::{AUDIT, Caller};
use crate::http::routes::Route;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::denial::unauthorized;
use crate::http::wire::headers::Headers;
use crate::http::wire::problem::Problem;
use crate::http::wire::query::Parameters;
use crate::http::wire::streaming::Responder;
use crate::limits::AUTH_TICKET_SECONDS;
use crate::peer::Peer;
use crate::store::EventStore;

impl<S: EventStore> Service<S> {
    /// Who asks for what is behind `route`.
    ///
    /// # Errors
    /// 401: a token is needed, and none that is valid was shown.
    pub(super) async fn caller(
        &self,
        route: &Route,
        head: &Parts,
        headers: &Headers<'_>,
        responder: &Responder<'_>,
    ) -> Result<Caller, Problem> {
        let shown = match headers.authorization.first {
            Some(value) if headers.authorization.count == 1 => Some(bearer(value)),
            Some(_) => Some(""),
            None => None,
        };
        let certificate = responder.connection.certificate();
        let certificate = certificate.filter(|certificate| certificate.expires > self.clock.now());
        let names = certificate.map_or(&[][..], |certificate| &certificate.names);
        let denied = match self.authenticator.authenticate(shown, names) {
            Ok(caller) => return Ok(caller),
            Err(denied) => denied,
        };
        // A ticket is for reading alone: it would otherwise buy the next one.
        if denied == Denied::Missing
            && route.is_read()
            && let Some(caller) = self.redeem(head.uri.query().unwrap_or_default())
        {
            return Ok(caller);
        }
        // Boxed, so that the futures of all other requests stay small.
        let pause = self.note_failure(denied, shown.unwrap_or_default(), responder);
        Box::pin(self.failures.wait(pause)).await;
        Err(unauthorized(denied))
    }

    /// The owner of the ticket that a query has.
    fn redeem(&self, query: &str) -> Option<Caller> {
        if !query.contains("ticket=") {
            return None;
        }
        let parameters = Parameters::parse(query).ok()?;
        self.tickets.redeem(parameters.get("ticket")?, self.clock.monotonic())
    }

    /// Counts and logs a failure; how long its answer has to wait.
    fn note_failure(&self, denied: Denied, shown: &str, responder: &Responder<'_>) -> Duration {
        let now = self.clock.monotonic();
        self.metrics.denied(denied.name());
        if let Some(left_out) = self.turnstile.pass((denied.name(), 401), now) {
            // The id is public, and there is one only in what has the form of a token.
            let token = token::parse(shown).map_or("", |_| &shown[PREFIX.len()..PREFIX.len() + ID_CHARS]);
            let (peer, request_id) = (responder.peer, responder.request_id.id());
            tracing::warn!(target: AUDIT, token, %peer, request_id, left_out, reason = denied.name(), "not let in: {denied}");
        }
        self.failures.count(responder.peer, now)
    }

    /// A line about a request that its caller's scopes do not allow.
    pub(super) fn log_forbidden(&self, caller: &Caller, responder: &Responder<'_>) {
        if let Some(left_out) = self.turnstile.pass(("forbidden", 403), self.clock.monotonic()) {
            let (token, peer, request_id) = (caller.id(), responder.peer, responder.request_id.id());
            tracing::warn!(target: AUDIT, token, %peer, request_id, left_out, "refused: the token's scopes do not allow it");
        }
    }

    /// A line about a request that changed what others depend on.
    pub(super) fn log_deed(
        &self,
        deed: &'static str,
        path: &str,
        caller: &Caller,
        responder: &Responder<'_>,
    ) {
        if let Some(left_out) = self.turnstile.pass((deed, 200), self.clock.monotonic()) {
            let (token, peer, request_id) = (caller.id(), responder.peer, responder.request_id.id());
            tracing::info!(target: AUDIT, token, %peer, request_id, path, left_out, "{deed}");
        }
    }

    /// Counts and logs a client whose certificate does not hold, and whose handshake has failed.
    pub fn note_refused_certificate(&self, peer: Peer, why: &dyn Display) {
        self.metrics.denied("certificate");
        if let Some(left_out) = self.turnstile.pass(("certificate", 401), self.clock.monotonic()) {
            tracing::warn!(target: AUDIT, %peer, left_out, reason = "certificate", "not let in: {why}");
        }
    }

    /// Answers with a ticket for whoever asks.
    pub(super) fn ticket(&self, call: &Call<'_>) -> Result<Answer, Problem> {
        let issued = self.tickets.issue(call.caller.clone(), call.responder.key, self.clock.monotonic());
        let ticket = issued.map_err(|why| match why {
            NoTicket::Share => Problem::new(StatusCode::TOO_MANY_REQUESTS, why.to_string()).retry_later(),
            NoTicket::Full => Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()).retry_later(),
            NoTicket::Failed(e) => e.into(),
        })?;
        let body = serde_json::json!({"ticket": ticket, "expires_in": AUTH_TICKET_SECONDS});
        Ok(json(StatusCode::OK, body.to_string().into_bytes()))
    }
}

/// What follows `Bearer` in a header; nothing, if it has another scheme.
fn bearer(value: &HeaderValue) -> &str {
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len()).unwrap_or_default();
    let token = if scheme.eq_ignore_ascii_case(b"bearer ") { token.trim_ascii() } else { b"" };
    std::str::from_utf8(token).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_taken_out_of_its_header() {
        for (header, expected) in [
            ("Bearer abc", "abc"),
            ("bearer  abc ", "abc"),
            ("BEARER abc", "abc"),
            ("Basic abc", ""),
            ("abc", ""),
            ("", ""),
        ] {
            assert_eq!(bearer(&HeaderValue::from_static(header)), expected, "{header:?}");
        }
    }
}
