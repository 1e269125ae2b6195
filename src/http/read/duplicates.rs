//! `GET /duplicates`: the events that were dropped last, and who sent them.

use hyper::StatusCode;

use crate::http::publish::recent_drops::Dropped;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::json::{push_number, push_string};
use crate::http::wire::problem::Problem;
use crate::http::wire::query::Parameters;
use crate::limits::DROPS_KEPT;
use crate::store::{EventStore, Status};

impl<S: EventStore> Service<S> {
    /// Those of one topic, or of all that may be read.
    pub(in crate::http) fn duplicates(&self, call: &Call<'_>) -> Result<Answer, Problem> {
        let parameters = Parameters::parse(call.head.uri.query().unwrap_or(""))?;
        let topic = parameters.get("topic");
        if let Some(topic) = topic {
            super::check_readable(call.caller, topic)?;
        }
        let is_wanted = |dropped: &Dropped| {
            topic.is_none_or(|topic| *dropped.topic == *topic)
                && call.caller.may_read(dropped.topic.as_bytes())
        };
        let limit = parameters.limit(DROPS_KEPT, DROPS_KEPT)?;
        let mut newest = self.recent_drops.newest(is_wanted);
        newest.truncate(limit);
        let mut body = b"{\"count\":".to_vec();
        push_number(&mut body, newest.len() as u64);
        body.extend_from_slice(b",\"duplicates\":[");
        for (number, dropped) in newest.iter().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            push_dropped(&mut body, dropped);
        }
        body.extend_from_slice(b"]}");
        Ok(json(StatusCode::OK, body))
    }
}

fn push_dropped(body: &mut Vec<u8>, dropped: &Dropped) {
    body.extend_from_slice(b"{\"topic\":");
    push_string(body, &dropped.topic);
    body.extend_from_slice(b",\"event_id\":");
    push_string(body, &dropped.event_id);
    body.extend_from_slice(b",\"source\":");
    push_string(body, &dropped.source);
    body.extend_from_slice(match dropped.outcome.status {
        Status::Conflict => b",\"status\":\"conflict\",\"offset\":",
        Status::Stored | Status::Duplicate => b",\"status\":\"duplicate\",\"offset\":",
    });
    push_number(body, dropped.outcome.offset);
    body.extend_from_slice(b",\"first_seen\":\"");
    dropped.outcome.first_seen.write_to(body);
    body.extend_from_slice(b"\",\"received_at\":\"");
    dropped.at.write_to(body);
    body.extend_from_slice(b"\"}");
}
