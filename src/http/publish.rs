//! `POST /publish`.

use std::io::Write;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::body::Held;
use super::decode::{Refused, decode};
use super::problem::Problem;
use super::query::Parameters;
use super::{Answer, Service, faults, json, push_string};
use crate::event::Batch;
use crate::store::{EventStore, Outcome, Status};

impl<S: EventStore> Service<S> {
    pub(super) async fn publish(&self, request: Request<Incoming>) -> Result<Answer, Problem> {
        let wants_results =
            Parameters::parse(request.uri().query().unwrap_or("")).get("results") == Some("all");
        let held = self.body(request).await?;
        let decoded = match decode(&held.bytes, self.limits.batch_events_max) {
            Ok(decoded) => decoded,
            Err(Refused::TooMany) => {
                let message = format!("at most {} events go into one request", self.limits.batch_events_max);
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            Err(Refused::Invalid) => return Err(self.refuse(&held)),
        };
        let batch = decoded.batch;
        // Cheap: the body is shared. Its names are needed once the outcomes are there.
        let shown = (wants_results || decoded.is_single).then(|| batch.clone());
        let outcomes = self.store.append(batch).await?;
        let counts = Counts::of(&outcomes);
        self.metrics.stored(counts.stored, counts.duplicates - counts.conflicts, counts.conflicts);
        let mut body = Vec::with_capacity(96 + shown.as_ref().map_or(0, |batch| 160 * batch.len()));
        // A Vec takes all that is written.
        let _ = write!(
            body,
            r#"{{"received":{},"unique_processed":{},"duplicate_dropped":{},"conflicts":{}"#,
            outcomes.len(),
            counts.stored,
            counts.duplicates,
            counts.conflicts
        );
        if let Some(batch) = shown {
            push_results(&mut body, &batch, &outcomes);
        }
        body.push(b'}');
        drop(held);
        Ok(json(StatusCode::OK, body))
    }

    fn refuse(&self, held: &Held) -> Problem {
        let (faults, events) = faults::find(&held.bytes);
        self.store.count_rejected(events);
        self.metrics.rejected(events);
        Problem::invalid(faults)
    }
}

#[derive(Default)]
struct Counts {
    stored: u64,
    /// Conflicts among them.
    duplicates: u64,
    conflicts: u64,
}

impl Counts {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            match outcome.status {
                Status::Stored => counts.stored += 1,
                Status::Duplicate => counts.duplicates += 1,
                Status::Conflict => {
                    counts.duplicates += 1;
                    counts.conflicts += 1;
                }
            }
        }
        counts
    }
}

fn push_results(body: &mut Vec<u8>, batch: &Batch, outcomes: &[Outcome]) {
    body.extend_from_slice(b",\"results\":[");
    for (index, (event, outcome)) in batch.iter().zip(outcomes).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let status = match outcome.status {
            Status::Stored => "stored",
            Status::Duplicate => "duplicate",
            Status::Conflict => "conflict",
        };
        let _ = write!(body, r#"{{"index":{index},"topic":"#);
        push_string(body, &String::from_utf8_lossy(event.topic));
        body.extend_from_slice(b",\"event_id\":");
        push_string(body, &String::from_utf8_lossy(event.event_id));
        let _ = write!(body, r#","status":"{status}","offset":{},"first_seen":""#, outcome.offset);
        outcome.first_seen.write_to(body);
        body.extend_from_slice(b"\"}");
    }
    body.push(b']');
}
