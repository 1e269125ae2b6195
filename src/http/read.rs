//! What is read: `GET /events`, `/events/{topic}/{event_id}`, `/stats`, `/topics`, `/duplicates`.

mod duplicates;
mod export;
mod list;
mod pages;
pub(super) mod tail;
pub(super) mod tail_hub;

use std::io::Write;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderName;

use crate::auth::{Caller, Permission};
use crate::error::{Error, ErrorKind};
use crate::event::pattern::TopicPattern;
use crate::http::read::list::{ListOfTopics, PageOfEvents};
use crate::http::read::pages::Pages;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::denial::forbidden;
use crate::http::wire::headers::header;
use crate::http::wire::json::{push_event, push_string};
use crate::http::wire::negotiation::{Form, form};
use crate::http::wire::problem::Problem;
use crate::http::wire::query::{Parameters, bad, decode};
use crate::http::wire::streaming::Responder;
use crate::limits::{ANSWER_BYTES_UNCOUNTED, PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX};
use crate::store::{EventStore, Order, Query, StoredEvent};
use crate::turns::Turn;

/// Where a reader of server-sent events goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl<S: EventStore> Service<S> {
    pub(super) async fn events(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let Call { head, responder, caller, .. } = call;
        let form = form(&head.headers).ok_or_else(|| {
            let message = "events come as application/json, application/x-ndjson or text/event-stream: \
                           name one of them in Accept, or leave it out";
            Problem::new(StatusCode::NOT_ACCEPTABLE, message)
        })?;
        let parameters = Parameters::parse(head.uri.query().unwrap_or(""))?;
        let order = match parameters.get("order") {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(bad("order", "literal_error", "Input should be 'asc' or 'desc'".into())),
        };
        let topic = parameters.get("topic").map(str::to_owned);
        if let Some(topic) = &topic {
            check_readable(caller, topic)?;
        }
        // What may be read of one topic was just asked.
        let only = caller.readable().filter(|_| topic.is_none());
        let query = Query {
            topic,
            only,
            source: parameters.get("source").map(str::to_owned),
            since: parameters.time("since")?,
            until: parameters.time("until")?,
            order,
            cursor: parameters.cursor().map(str::to_owned),
            ..Query::default()
        };
        if let Some(event_id) = parameters.get("event_id") {
            // There is one event at most; what is no limit is a slip all the same.
            parameters.limit(PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX)?;
            return self.only(form, &query, event_id, responder).await;
        }
        match form {
            Form::Page => {
                let limit = parameters.limit(PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX)?;
                self.page(query, limit, responder).await
            }
            Form::Lines => {
                let limit = parameters.limit(usize::MAX, usize::MAX)?;
                self.export(query, limit, responder).await
            }
            Form::Tail => {
                for name in ["order", "until", "limit"] {
                    if parameters.get(name).is_some() {
                        let message = "A tail goes on as events arrive: leave this out";
                        return Err(bad(name, "value_error", message.to_owned()));
                    }
                }
                let last = header(&head.headers, &LAST_EVENT_ID).filter(|id| !id.is_empty());
                let last = last.or_else(|| parameters.last_event_id());
                let cursor = last.map(str::to_owned).or(query.cursor);
                self.tail(Query { cursor, ..query }, responder).await
            }
        }
    }

    async fn page(&self, query: Query, limit: usize, responder: &Responder<'_>) -> Result<Answer, Problem> {
        let pages = Pages::new(&self.store, query, responder.account());
        Ok(responder.send(PageOfEvents::new(pages, limit), "application/json", true).await?)
    }

    /// A page of the one event that is known by these names, or of none. Unlike a path, a query can
    /// name `.` and `..`, which clients take out of a path.
    async fn only(
        &self,
        form: Form,
        query: &Query,
        event_id: &str,
        responder: &Responder<'_>,
    ) -> Result<Answer, Problem> {
        if form != Form::Page {
            let message = "One event comes as application/json only: leave this out, or mend Accept";
            return Err(bad("event_id", "value_error", message.to_owned()));
        }
        if query.cursor.is_some() {
            let message = "the cursor is of a listing, and one event has one page: leave it out";
            return Err(Error::new(ErrorKind::BadCursor, message).into());
        }
        let Some(topic) = query.topic.as_deref() else {
            let message = "An event is known by its topic and its id: add topic".to_owned();
            return Err(bad("event_id", "value_error", message));
        };
        let mut body = b"{\"topic\":".to_vec();
        push_string(&mut body, topic);
        let _turn = self.event_turn(responder).await;
        let found = self.found(topic, event_id, responder).await?;
        let is_wanted = |event: &StoredEvent| {
            query.source.as_deref().is_none_or(|source| source == &*event.source)
                && query.since.is_none_or(|since| event.received_at >= since)
                && query.until.is_none_or(|until| event.received_at < until)
        };
        match found.filter(is_wanted) {
            Some(event) => {
                body.reserve(event.payload.len() + ANSWER_BYTES_UNCOUNTED);
                body.extend_from_slice(b",\"count\":1,\"events\":[");
                push_event(&mut body, &event);
            }
            None => body.extend_from_slice(b",\"count\":0,\"events\":["),
        }
        body.extend_from_slice(b"],\"next_cursor\":null}");
        Ok(responder.hold(json(StatusCode::OK, body)).await?)
    }

    /// A turn to read an event, which is as long as a payload can be. It is kept until the budget
    /// of answers has the answer, so that few events are in memory which nothing bounds.
    async fn event_turn(&self, responder: &Responder<'_>) -> Turn {
        let account = responder.account();
        self.event_turns.wait(account.key().number(), account.number()).await
    }

    /// The event with this id. A long one is not read while the budget has no room for it.
    async fn found(
        &self,
        topic: &str,
        event_id: &str,
        responder: &Responder<'_>,
    ) -> Result<Option<StoredEvent>, Problem> {
        let account = responder.account();
        Ok(self.store.find(topic, event_id, move |bytes| account.check_room(bytes)).await?)
    }

    pub(super) async fn event(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let path = call.head.uri.path();
        let names = path.strip_suffix('/').unwrap_or(path).strip_prefix("/events/");
        let (topic, event_id) = names.and_then(|names| names.split_once('/')).unwrap_or_default();
        let _turn = self.event_turn(call.responder).await;
        let found = match (decode(topic, false), decode(event_id, false)) {
            (Some(topic), Some(event_id)) => {
                check_readable(call.caller, &topic)?;
                self.found(&topic, &event_id, call.responder).await?
            }
            // No event has such a name.
            _ => None,
        };
        match found {
            Some(event) => {
                let mut body = Vec::with_capacity(event.payload.len() + ANSWER_BYTES_UNCOUNTED);
                push_event(&mut body, &event);
                drop(event);
                Ok(call.responder.hold(json(StatusCode::OK, body)).await?)
            }
            None => Err(Problem::new(StatusCode::NOT_FOUND, "no event with this id is stored in this topic")),
        }
    }

    pub(super) async fn stats(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let totals = self.store.stats().await?.totals;
        let uptime = self.clock.monotonic().saturating_duration_since(self.started).as_secs_f64();
        let mut after = Vec::new();
        // A Vec takes all that is written.
        let _ = write!(after, r#","uptime_seconds":{uptime:.3},"uptime":{uptime:.3}"#);
        let only = call.caller.readable();
        let names = ListOfTopics::names(&self.store, call.responder.account(), totals, only, after);
        Ok(call.responder.send(names, "application/json", true).await?)
    }

    pub(super) async fn topics(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let Call { head, responder, caller, .. } = call;
        let parameters = Parameters::parse(head.uri.query().unwrap_or(""))?;
        let limit = parameters.limit(PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX)?;
        let cursor = parameters.cursor().map(str::to_owned);
        // So that the page has all that was answered before.
        self.store.stats().await?;
        let only = match parameters.get("topic") {
            Some(topic) => {
                check_readable(caller, topic)?;
                Some(Arc::new([TopicPattern::only(topic)].into_iter().collect()))
            }
            None => caller.readable(),
        };
        let topics = ListOfTopics::page(&self.store, responder.account(), cursor, limit, only);
        Ok(responder.send(topics, "application/json", true).await?)
    }
}

/// Lets a caller read a topic, whether it exists or not.
///
/// # Errors
/// 403: the caller's scopes do not allow it.
fn check_readable(caller: &Caller, topic: &str) -> Result<(), Problem> {
    if caller.may_read(topic.as_bytes()) { Ok(()) } else { Err(forbidden(Permission::Read)) }
}
