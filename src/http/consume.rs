//! Consumers: what is kept of them, and where each has got to.
//!
//! Every handler first asks whether the caller may consume all topics of the consumer.

mod events;
mod list;

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::auth::{Caller, Permission};
use crate::clock::Timestamp;
use crate::consumer::{
    ConsumerKey, ConsumerName, ConsumerStats, DeliveryFault, DeliveryFaultKind, LeaseStats, Look, Position,
    Start,
};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::http::body::content::strip_mark;
use crate::http::body::eviction::Sender;
use crate::http::consume::list::ListOfConsumers;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, empty, json};
use crate::http::wire::denial::forbidden;
use crate::http::wire::problem::{Fault, Loc, Problem};
use crate::http::wire::query::Parameters;
use crate::http::wire::streaming::Responder;
use crate::limits::{
    CONSUMER_BODY_BYTES_MAX, CONSUMER_PATTERNS_MAX, PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX, POSITIONS_SHOWN_MAX,
};
use crate::store::EventStore;

/// What makes a consumer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    topics: Vec<String>,
    #[serde(default = "from_start")]
    start: String,
}

fn from_start() -> String {
    "start".to_owned()
}

/// Where a consumer is moved to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    to: String,
}

/// What is acknowledged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    receipt: String,
}

impl<S: EventStore> Service<S> {
    pub(super) async fn put_consumer(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let (name, caller, responder) = (name(&call)?, call.caller, call.responder);
        let plan: Plan = self.json_body(call).await?;
        let topics = patterns(&plan.topics)?;
        check_allowed(caller, &topics)?;
        // What another consumer of this name reads is for those to know who may use it.
        if let Some(others) = self.store.consumer_topics(&name).await? {
            check_allowed(caller, &others)?;
        }
        let consumer = ConsumerKey { name, topics: Arc::new(topics) };
        let is_new = self.store.put_consumer(&consumer, &Start::from(&*plan.start)).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        self.told(status, &consumer, responder).await
    }

    pub(super) async fn delete_consumer(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let consumer = self.allowed(&call).await?;
        self.store.delete_consumer(&consumer).await?;
        self.tell_move(consumer.name);
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn consumer(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let consumer = self.allowed(&call).await?;
        self.told(StatusCode::OK, &consumer, call.responder).await
    }

    pub(super) async fn consumers(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let parameters = Parameters::parse(call.head.uri.query().unwrap_or(""))?;
        let limit = parameters.limit(PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX)?;
        let after = parameters.cursor().map(str::to_owned);
        let account = call.responder.account();
        let list = ListOfConsumers::new(&self.store, &self.clock, account, call.caller, after, limit);
        Ok(call.responder.send(list, "application/json", true).await?)
    }

    pub(super) async fn acknowledge(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let consumer = self.allowed(&call).await?;
        let Acknowledgement { receipt } = self.json_body(call).await?;
        self.store.acknowledge(&consumer, &receipt).await?;
        Ok(json(StatusCode::OK, br#"{"acknowledged":true}"#.to_vec()))
    }

    pub(super) async fn seek(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let (consumer, responder) = (self.allowed(&call).await?, call.responder);
        let Move { to } = self.json_body(call).await?;
        self.store.seek_consumer(&consumer, &Start::from(&*to)).await?;
        self.tell_move(consumer.name.clone());
        self.told(StatusCode::OK, &consumer, responder).await
    }

    /// Has whoever waits for the consumer's events look again.
    fn tell_move(&self, name: ConsumerName) {
        // Nobody may be waiting.
        let _ = self.consumer_moves.send(name);
    }

    /// Answers with what is known of a consumer.
    async fn told(
        &self,
        status: StatusCode,
        consumer: &ConsumerKey,
        responder: &Responder<'_>,
    ) -> Result<Answer, Problem> {
        let account = responder.account();
        let (client, reader) = (account.key().number(), account.number());
        let look = Look { positions: POSITIONS_SHOWN_MAX, client, reader };
        Ok(json(status, told(&self.store.consumer(consumer, look).await?, self.clock.now())))
    }

    /// The consumer that a request is about, if its caller may consume all of its topics.
    async fn allowed(&self, call: &Call<'_>) -> Result<ConsumerKey, Problem> {
        let name = name(call)?;
        match self.store.consumer_topics(&name).await? {
            Some(topics) if call.caller.may_consume(&topics) => Ok(ConsumerKey { name, topics }),
            // As if it were absent: that it is there is nothing for this caller to know.
            Some(_) => {
                self.log_forbidden(call.caller, call.responder);
                Err(absent(&name))
            }
            None => Err(absent(&name)),
        }
    }

    /// The body of a request, which is a small object.
    async fn json_body<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Problem> {
        let Call { body, responder, caller, .. } = call;
        let most = CONSUMER_BODY_BYTES_MAX.min(self.limits.body_bytes_max);
        let body = self.body_at_most(body, most, (Sender::of(responder), caller)).await?;
        serde_json::from_slice(strip_mark(&body.bytes)).map_err(|e| {
            let msg = format!("Input should be a JSON object as /openapi.json describes it: {}", kind_of(&e));
            bad_body(None, msg)
        })
    }
}

/// What is wrong with a body, without what was sent.
fn kind_of(error: &serde_json::Error) -> String {
    let what =
        if error.is_data() { "a field is missing, unknown or of another type" } else { "it is no JSON" };
    format!("{what}, in line {} at column {}", error.line(), error.column())
}

fn bad_body(field: Option<&'static str>, msg: String) -> Problem {
    let mut loc = vec![Loc::Name("body")];
    loc.extend(field.map(Loc::Name));
    Problem::invalid(vec![Fault { loc, msg, kind: "value_error" }])
}

/// The name in the path.
fn name(call: &Call<'_>) -> Result<ConsumerName, Problem> {
    let name = call.head.uri.path().split('/').nth(2).unwrap_or_default();
    name.parse().map_err(|msg| {
        let loc = vec![Loc::Name("path"), Loc::Name("name")];
        Problem::invalid(vec![Fault { loc, msg, kind: "value_error" }])
    })
}

/// The filter that these texts are.
fn patterns(texts: &[String]) -> Result<TopicPatterns, Problem> {
    if texts.is_empty() || texts.len() > CONSUMER_PATTERNS_MAX {
        let msg = format!("Input should list 1 to {CONSUMER_PATTERNS_MAX} topics, as orders or orders.*");
        return Err(bad_body(Some("topics"), msg));
    }
    let patterns = texts.iter().map(|text| text.parse::<TopicPattern>());
    patterns.collect::<Result<_, _>>().map_err(|_| {
        let msg = "Input should be topics, or beginnings of topics with a * after them".to_owned();
        bad_body(Some("topics"), msg)
    })
}

fn absent(name: &ConsumerName) -> Problem {
    let message = format!("there is no consumer {name}: make it with PUT /consumers/{name}");
    Problem::new(StatusCode::NOT_FOUND, message)
}

fn check_allowed(caller: &Caller, topics: &TopicPatterns) -> Result<(), Problem> {
    if caller.may_consume(topics) { Ok(()) } else { Err(forbidden(Permission::Consume)) }
}

fn lease(lease: &LeaseStats) -> serde_json::Value {
    serde_json::json!({
        "holder": lease.holder,
        "partition": lease.partition.to_string(),
        "until": lease.until,
    })
}

fn fault(fault: &DeliveryFault) -> serde_json::Value {
    let reason = match fault.kind {
        DeliveryFaultKind::LeaseExpired => "lease_expired",
        DeliveryFaultKind::AckRefused => "ack_refused",
    };
    serde_json::json!({"at": fault.at, "reason": reason, "holder": fault.holder})
}

/// What clients are told of a consumer.
fn described(stats: &ConsumerStats, now: Timestamp) -> serde_json::Value {
    let age = |since: Timestamp| (now.0.saturating_sub(since.0)).max(0) as f64 / 1e6;
    serde_json::json!({
        "name": stats.name,
        "topics": stats.topics,
        "created_at": stats.created_at,
        "lag": stats.lag_events,
        "lag_seconds": stats.lags_since.map_or(0.0, age),
        "positions_total": stats.positions_total,
        "leases": stats.leases.iter().map(lease).collect::<Vec<_>>(),
        "last_error": stats.last_fault.as_ref().map(fault),
    })
}

/// The same as the body of an answer, with its positions.
fn told(stats: &ConsumerStats, now: Timestamp) -> Vec<u8> {
    let mut body = described(stats, now);
    let position = |at: &Position| serde_json::json!({"topic": at.topic, "next_offset": at.next_offset});
    body["positions"] = stats.positions.iter().map(position).collect();
    body.to_string().into_bytes()
}
