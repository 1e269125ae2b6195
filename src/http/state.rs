//! How the service is: `/`, `/readyz`, `/metrics`.

use std::collections::HashSet;

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::auth::{Caller, Permission};
use crate::http::page::files;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json, with_type};
use crate::http::wire::negotiation::quality;
use crate::http::wire::problem::Problem;
use crate::metrics::{open_metrics, shown};
use crate::store::{EventStore, Health};

/// Consumers that are looked at in one go.
const CONSUMERS_AT_ONCE: usize = 1_000;

impl<S: EventStore> Service<S> {
    /// The page for a browser. For a program, what this is, and where to go on: the status is 503
    /// while the service is not ready, for monitors that ask here.
    pub(super) fn root(&self, call: &Call<'_>) -> Result<Answer, Problem> {
        let asked = &call.head.headers;
        if is_browser(asked) {
            return files::first(asked, call.responder.is_gzip);
        }
        let (code, status) = match self.store.health() {
            Health::Ready | Health::ReadyInPart(_) => (StatusCode::OK, "ready"),
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
                "duplicates": "/duplicates",
                "consumers": "/consumers",
                "sources": "/sources",
                "stats": "/stats",
                "live": "/live",
                "health": "/health",
                "metrics": "/metrics",
                "openapi": "/openapi.json",
            },
        });
        Ok(json(code, body.to_string().into_bytes()))
    }

    pub(super) async fn figures(&self, call: Call<'_>) -> Result<Answer, Problem> {
        self.store.observe().await;
        let uptime = self.clock.monotonic().saturating_duration_since(self.started);
        let text = self.metrics.render(uptime, self.body_budget.held(), self.answer_budget.held());
        let text = match call.caller.readable() {
            Some(only) => shown(&text, "topic", |topic| only.matches(topic.as_bytes())),
            None => text,
        };
        let text = match call.caller.readable() {
            Some(_) => {
                let consumers = self.measurable(call.caller).await?;
                shown(&text, "consumer", |name| consumers.contains(name))
            }
            None => text,
        };
        let open = "application/openmetrics-text";
        let is_open = quality(&call.head.headers, &ACCEPT, |kind| kind.eq_ignore_ascii_case(open));
        let (kind, text) = match is_open {
            Some(1..) => ("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics(&text)),
            _ => ("text/plain; version=0.0.4; charset=utf-8", text),
        };
        Ok(with_type(StatusCode::OK, HeaderValue::from_static(kind), text.into_bytes()))
    }

    /// The consumers whose figures a caller may see.
    async fn measurable(&self, caller: &Caller) -> Result<HashSet<String>, Problem> {
        let (mut names, mut after) = (HashSet::new(), None);
        if !caller.may(Permission::Read) && !caller.may(Permission::Consume) {
            return Ok(names);
        }
        loop {
            let page = self.store.consumers(after.as_deref(), CONSUMERS_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(names) };
            after = Some(last.name.as_str().to_owned());
            let shown = page.iter().filter(|consumer| caller.may_measure(&consumer.topics));
            names.extend(shown.map(|consumer| consumer.name.as_str().to_owned()));
        }
    }

    pub(super) fn ready(&self) -> Result<Answer, Problem> {
        match self.store.health() {
            Health::Ready => Ok(json(StatusCode::OK, br#"{"status":"ready"}"#.to_vec())),
            // Who sends requests here must go on: those of other topics are served.
            Health::ReadyInPart(why) => {
                let body = serde_json::json!({"status": "ready", "except": why});
                Ok(json(StatusCode::OK, body.to_string().into_bytes()))
            }
            Health::NotReady(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_later()),
        }
    }
}

/// Whether a client would rather have HTML than JSON. Browsers name it; programs that take anything
/// do not.
fn is_browser(asked: &HeaderMap) -> bool {
    let quality = |wanted: &str| quality(asked, &ACCEPT, |kind| kind.eq_ignore_ascii_case(wanted));
    quality("text/html") > quality("application/json").or(Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_html_and_likes_json_less_is_a_browser() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", true),
            ("text/html", true),
            ("text/html, application/json;q=0.9", true),
            ("application/json, text/html", false),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0", false),
            ("*/*", false),
            ("", false),
        ] {
            let asked = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(is_browser(&asked), expected, "{accept}");
        }
        assert!(!is_browser(&HeaderMap::new()));
    }
}
