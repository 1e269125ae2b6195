//! `GET /sources`: the sources that are configured, and what became of their deliveries. It has
//! nothing of what senders sent, and no secret.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::service::Service;
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::problem::Problem;
use crate::metrics::{REFUSED, SourceCounts, TAKEN};
use crate::store::EventStore;
use crate::webhook::Source;

impl<S: EventStore> Service<S> {
    /// All of them, in order of their names.
    pub(in crate::http) fn list_sources(&self) -> Result<Answer, Problem> {
        let all = self.limits.sources.all();
        let told = all.iter().map(|source| told(source, &self.metrics.source(source.name())));
        let body = json!({"sources": told.collect::<Vec<_>>(), "unknown": self.metrics.unknown_sources()});
        Ok(json(StatusCode::OK, body.to_string().into_bytes()))
    }
}

fn told(source: &Source, counts: &SourceCounts) -> Value {
    let each = |outcomes: &[&str]| -> Map<String, Value> {
        outcomes.iter().map(|outcome| ((*outcome).to_owned(), counts.of(outcome).into())).collect()
    };
    json!({
        "name": source.name(),
        "path": format!("/in/{}", source.name()),
        "preset": source.preset(),
        "scheme": source.scheme(),
        "topic": source.topic(),
        "quarantine": source.quarantine(),
        "taken": each(&TAKEN),
        "refused": each(&REFUSED),
        "last_refused": counts.last_refused().map(|(at, reason)| json!({"at": at, "reason": reason})),
    })
}
