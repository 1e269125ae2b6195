//! `POST /publish`.

mod chunk;
mod cloud_events;
mod decode;
pub(super) mod decode_pool;
mod faults;
mod lines;
mod options;
pub(super) mod permitted;
pub(super) mod publish_answer;
pub(super) mod recent_drops;
pub(super) mod topic_lanes;
pub(super) mod topic_quota;

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::event::Batch;
use crate::http::body::content::{self, Dialect};
use crate::http::body::eviction::Sender;
use crate::http::publish::decode::{Decoded, Refused};
use crate::http::publish::decode_pool::Decoding;
use crate::http::publish::options::Options;
use crate::http::publish::permitted::HasForbidden;
use crate::http::publish::publish_answer::{Counts, RESULT_BYTES, conflict, push_errors, push_results};
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, held, json};
use crate::http::wire::answer_budget::{Account, AnswerPermit, Kind};
use crate::http::wire::problem::{Fault, Loc, Problem};
use crate::http::wire::streaming::Responder;
use crate::limits::ADMISSION_SECONDS;
use crate::quota::QuotaKey;
use crate::store::{EventStore, Outcome, Status};

impl<S: EventStore> Service<S> {
    pub(super) async fn publish(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let Call { head, headers, body, responder, caller } = call;
        let dialect = content::dialect(headers)?;
        let encoding = content::encoding(headers)?;
        let options = Options::parse(head.uri.query().unwrap_or(""), dialect)?;
        let sender = Sender::of(responder);
        if dialect == Dialect::Lines {
            // Boxed, so that the futures of all other requests stay small.
            return Box::pin(self.publish_lines(body, encoding, &options, caller, sender)).await;
        }
        let held = self.body(body, encoding, (sender, caller)).await?;
        let arrival = if dialect.is_cloud_events() { self.clock.now() } else { Timestamp::default() };
        let events_max = self.limits.batch_events_max;
        let decoding = Decoding { dialect, options: &options, arrival, events_max };
        let (decoded, permit) =
            self.decode_pool.decode(decoding, &head.headers, held, &self.body_budget).await?;
        let decoded = decoded.map_err(|refused| match refused {
            Refused::TooMany => {
                let message =
                    format!("at most {events_max} events go into one request; send them in several");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            Refused::Faulty(faults, events) => self.refuse(faults, events),
        })?;
        let answer = self.store_and_answer(decoded, &options, caller, responder).await;
        drop(permit);
        answer
    }

    fn refuse(&self, faults: Vec<Fault>, events: u64) -> Problem {
        self.reject(events);
        Problem::invalid(faults)
    }

    /// Counts events that were refused as invalid.
    pub(super) fn reject(&self, events: u64) {
        self.store.count_rejected(events);
        self.metrics.rejected(events);
    }

    /// Stores a batch, and counts what became of it.
    pub(super) async fn append(
        &self,
        batch: Arc<Batch>,
        key: QuotaKey,
    ) -> Result<(Vec<Outcome>, Counts), Problem> {
        let _topics = self.topic_quota.admit(&*self.store, &batch, key, &*self.clock).await?;
        // Where bodies hold half of what they may, the rest is for other topics.
        let patience =
            || Duration::from_secs(if self.body_budget.is_half_free() { ADMISSION_SECONDS } else { 0 });
        let _permit = self.topic_lanes.admit(&batch, patience).await?;
        let noted = self.recent_drops.is_open().then(|| Arc::clone(&batch));
        let outcomes = self.store.append(batch).await?;
        let counts = Counts::of(&outcomes);
        if let Some(batch) = noted.filter(|_| counts.duplicates > 0) {
            self.recent_drops.note(&batch, &outcomes, self.clock.now());
        }
        self.metrics.stored(counts.stored, counts.duplicates - counts.conflicts, counts.conflicts);
        Ok((outcomes, counts))
    }

    async fn store_and_answer(
        &self,
        decoded: Decoded,
        options: &Options,
        caller: &Caller,
        responder: &Responder<'_>,
    ) -> Result<Answer, Problem> {
        if decoded.rejected > 0 {
            self.reject(decoded.rejected);
        }
        let invalid = decoded.rejected;
        let Decoded { batch, is_single, indexes, faults: mut errors, rejected } =
            permitted::only(caller, decoded, options.partial)?;
        let is_shown = options.all_results || options.partial || options.reject_conflicts || is_single;
        let batch = Arc::new(batch);
        // Its names are needed once the outcomes are there.
        let shown = is_shown.then(|| Arc::clone(&batch));
        // Before anything is stored: a refusal afterwards would not be one.
        let permit = match &shown {
            Some(batch) if batch.len() > 1 => {
                Some(Box::pin(permit_for_results(batch, &responder.account())).await?)
            }
            _ => None,
        };
        let (outcomes, counts) = self.append(batch, responder.key).await?;
        if options.reject_conflicts && counts.conflicts > 0 {
            if is_single {
                return Err(refuse_conflict(shown.as_deref(), &outcomes));
            }
            errors.extend(conflicts(&outcomes, indexes.as_deref()));
            errors.sort_by_key(|(index, _)| *index);
        }
        let is_partial = !errors.is_empty();
        let mut body = Vec::with_capacity(96 + shown.as_ref().map_or(0, |batch| 160 * batch.len()));
        body.push(b'{');
        counts.write_to(&mut body);
        if let Some(batch) = shown.filter(|_| options.all_results || is_single || is_partial) {
            body.extend_from_slice(b",\"results\":");
            push_results(&mut body, &batch, &outcomes, indexes.as_deref());
        }
        if is_partial {
            push_errors(&mut body, "index", rejected, &errors);
        }
        body.push(b'}');
        let status = if is_partial { StatusCode::MULTI_STATUS } else { StatusCode::OK };
        let mut answer = match permit {
            Some(permit) => held(status, body, permit),
            None => json(status, body),
        };
        if rejected > invalid {
            answer.extensions_mut().insert(HasForbidden);
        }
        Ok(answer)
    }
}

/// Room for the answer to a batch, event by event.
async fn permit_for_results(batch: &Batch, account: &Account) -> crate::error::Result<AnswerPermit> {
    let names: usize = batch.iter().map(|event| event.topic.len() + event.event_id.len()).sum();
    let bytes = names + RESULT_BYTES * batch.len();
    account.wait(Kind::Whole, bytes, bytes, Duration::from_secs(ADMISSION_SECONDS)).await
}

/// The conflicts in a list, as errors.
fn conflicts<'a>(
    outcomes: &'a [Outcome],
    indexes: Option<&'a [usize]>,
) -> impl Iterator<Item = (usize, Fault)> + 'a {
    outcomes.iter().enumerate().filter(|(_, outcome)| outcome.status == Status::Conflict).map(
        move |(at, _)| {
            let index = indexes.and_then(|indexes| indexes.get(at)).copied().unwrap_or(at);
            (index, conflict(vec![Loc::Name("body"), Loc::Index(index)]))
        },
    )
}

/// The answer to a single event that is a conflict: where the stored one is.
fn refuse_conflict(batch: Option<&Batch>, outcomes: &[Outcome]) -> Problem {
    let mut results = Vec::new();
    if let Some(batch) = batch {
        push_results(&mut results, batch, outcomes, None);
    }
    let message = "another payload is stored under this id; the first one stays";
    Problem::invalid(vec![conflict(vec![Loc::Name("body")])])
        .saying(StatusCode::CONFLICT, message)
        .with_member("results", results)
}
