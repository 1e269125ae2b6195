//! How the service is: `/`, `/readyz`, `/metrics`.

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderValue};

use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json, with_type};
use crate::http::wire::negotiation::quality;
use crate::http::wire::problem::Problem;
use crate::metrics::{of_topics, open_metrics};
use crate::store::{EventStore, Health};

impl<S: EventStore> Service<S> {
    /// What this is, and where to go on. The status is 503 while the service is not ready, for
    /// monitors that ask here.
    pub(super) fn root(&self) -> Answer {
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

    pub(super) async fn figures(&self, call: Call<'_>) -> Result<Answer, Problem> {
        self.store.observe().await;
        let uptime = self.clock.monotonic().saturating_duration_since(self.started);
        let text = self.metrics.render(uptime, self.body_budget.held(), self.answer_budget.held());
        let text = match call.caller.readable() {
            Some(only) => of_topics(&text, |topic| only.matches(topic.as_bytes())),
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

    pub(super) fn ready(&self) -> Result<Answer, Problem> {
        match self.store.health() {
            Health::Ready => Ok(json(StatusCode::OK, br#"{"status":"ready"}"#.to_vec())),
            Health::NotReady(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_later()),
        }
    }
}
