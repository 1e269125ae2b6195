//! `GET /consumers/{name}/events`: the next events, or a wait for them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::auth::Caller;
use crate::consumer::partition::Partition;
use crate::consumer::{ConsumerName, Holder, LeaseStats, Take};
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, held, json};
use crate::http::wire::answer_budget::Kind;
use crate::http::wire::denial;
use crate::http::wire::json::push_event;
use crate::http::wire::problem::Problem;
use crate::http::wire::query::{Parameters, bad};
use crate::http::wire::streaming::Responder;
use crate::limits::{
    ADMISSION_SECONDS, CONSUMER_BYTES, CONSUMER_EVENTS_MAX, CONSUMER_LOOK_SECONDS, CONSUMER_WAIT_SECONDS_MAX,
    LEASE_SECONDS_DEFAULT, LEASE_SECONDS_MAX, PAGE_EVENTS_DEFAULT, PIECE_BYTES,
};
use crate::store::{EventStore, Given, StoredEvent, Taken};

const CONSUMER_LOOK: Duration = Duration::from_secs(CONSUMER_LOOK_SECONDS);

/// Ends the lease of somebody without a name who gets nothing, also where the request is dropped:
/// its client has gone, or the service stops. A lease with a name is not renewed from then on.
struct Waiting<S: EventStore> {
    store: Arc<S>,
    consumer: ConsumerName,
    lease_id: Option<u64>,
}

impl<S: EventStore> Waiting<S> {
    /// Ends the lease before the answer is sent: whoever asks again at once gets another.
    async fn end(mut self) {
        if let Some(lease_id) = self.lease_id.take() {
            self.store.release(&self.consumer, lease_id).await;
        }
    }
}

impl<S: EventStore> Drop for Waiting<S> {
    fn drop(&mut self) {
        // A runtime that ends takes no tasks, and its leases end by themselves.
        if let (Some(lease_id), Ok(runtime)) = (self.lease_id.take(), Handle::try_current()) {
            let (store, consumer) = (Arc::clone(&self.store), self.consumer.clone());
            runtime.spawn(async move { store.release(&consumer, lease_id).await });
        }
    }
}

impl<S: EventStore> Service<S> {
    pub(in crate::http) async fn consume(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let consumer = self.allowed(&call).await?;
        if call.head.method == Method::HEAD {
            // Its sender would not see the events that it takes.
            return self.consumer(call).await;
        }
        let parameters = Parameters::parse(call.head.uri.query().unwrap_or(""))?;
        if parameters.get("topic").is_some() {
            let msg = "a consumer reads the topics that it was made for: name them as topics in PUT /consumers/{name}";
            return Err(bad("topic", "extra_forbidden", msg.to_owned()));
        }
        let wait = seconds(&parameters, "wait", 0, 0, CONSUMER_WAIT_SECONDS_MAX)?;
        let account = call.responder.account();
        let take = Take {
            consumer,
            partition: partition(&parameters)?,
            holder: holder(&parameters, &call)?,
            lease_id: None,
            lease: seconds(&parameters, "lease", LEASE_SECONDS_DEFAULT, 1, LEASE_SECONDS_MAX)?,
            limit: parameters.limit(PAGE_EVENTS_DEFAULT, CONSUMER_EVENTS_MAX)?,
            bytes_max: CONSUMER_BYTES,
            client: account.key().number(),
            reader: account.number(),
        };
        // A body that came with it would be kept as long as it waits.
        drop(call.body);
        self.take_or_wait(take, wait, (call.responder, call.caller)).await
    }

    /// Gives events as soon as there are some; none, if there are none in time.
    async fn take_or_wait(
        &self,
        mut take: Take,
        wait: Duration,
        (responder, caller): (&Responder<'_>, &Caller),
    ) -> Result<Answer, Problem> {
        let mut over = pin!(tokio::time::sleep(wait));
        // Whoever waits is woken as tails are, and counts as one.
        let _permit = if wait.is_zero() { None } else { Some(self.tail_permit(responder.key)?) };
        let mut is_over = wait.is_zero();
        let mut moves = self.consumer_moves.subscribe();
        let mut end = self.tail_hub.subscribe();
        let mut waiting =
            Waiting { store: Arc::clone(&self.store), consumer: take.consumer.name.clone(), lease_id: None };
        loop {
            end.borrow_and_update();
            let patience = Duration::from_secs(ADMISSION_SECONDS);
            let permit = responder.account().wait(Kind::Whole, PIECE_BYTES, CONSUMER_BYTES, patience).await?;
            take.bytes_max = permit.bytes();
            let given = match self.store.take(&take, list).await? {
                Taken::Held(lease) => return Err(refuse(&lease)),
                Taken::Given(given) => given,
            };
            if given.receipt.is_some() {
                waiting.lease_id = None;
                return Ok(held(StatusCode::OK, body(given), permit));
            }
            drop(permit);
            take.lease_id = Some(given.lease_id);
            waiting.lease_id = (!take.holder.is_named).then_some(given.lease_id);
            if given.is_looking {
                tokio::task::yield_now().await;
                continue;
            }
            let looks_again = !is_over
                && end.borrow().is_some()
                && tokio::select! {
                    biased;
                    // What would be given now might be read by nobody.
                    () = responder.connection.closed() => false,
                    () = caller.ended() => return Err(denial::ended()),
                    () = &mut over => {
                        is_over = true;
                        true
                    }
                    changed = end.changed() => changed.is_ok(),
                    () = is_moved(&mut moves, &take.consumer.name) => true,
                    // So that the lease lasts as long as the wait, and for what others change by
                    // another node.
                    () = tokio::time::sleep(CONSUMER_LOOK.min(take.lease / 2)) => true,
                };
            if !looks_again {
                waiting.end().await;
                return Ok(json(StatusCode::OK, body(given)));
            }
        }
    }
}

/// Waits until a consumer may have been moved or removed.
async fn is_moved(moves: &mut broadcast::Receiver<ConsumerName>, consumer: &ConsumerName) {
    loop {
        match moves.recv().await {
            Ok(name) if name != *consumer => {}
            // That one was, or nobody knows which.
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The service has the sender.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Somebody else has the lease.
fn refuse(lease: &LeaseStats) -> Problem {
    let message = format!(
        "{} reads for this consumer until {}: come back then, or share its topics out with partition=1/2",
        lease.holder, lease.until
    );
    Problem::new(StatusCode::CONFLICT, message)
        .with_member("lease", super::lease(lease).to_string().into_bytes())
}

/// The beginning of an answer, with its events. The store has it made where it reads them.
#[allow(clippy::needless_pass_by_value, reason = "what they take is freed there, too")]
fn list(events: Vec<StoredEvent>) -> Vec<u8> {
    let mut body = b"{\"events\":[".to_vec();
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        push_event(&mut body, event);
    }
    body.extend_from_slice(b"],");
    body
}

fn body(given: Given<Vec<u8>>) -> Vec<u8> {
    let rest = serde_json::json!({
        "receipt": given.receipt,
        "lag": given.lag,
        "lease_until": given.receipt.as_ref().map(|_| given.until),
    });
    let mut body = given.events;
    // The object's members, without its first brace.
    body.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    body
}

fn partition(parameters: &Parameters) -> Result<Partition, Problem> {
    let text = parameters.get("partition");
    let parsed = text.map_or(Ok(Partition::ALL), str::parse);
    parsed.map_err(|msg| bad("partition", "value_error", msg))
}

/// Who takes the lease: the name that is given, or somebody without one. Others are told of the
/// token, or of the address.
fn holder(parameters: &Parameters, call: &Call<'_>) -> Result<Holder, Problem> {
    if let Some(name) = parameters.get("holder") {
        return Holder::named(name).map_err(|msg| bad("holder", "value_error", msg));
    }
    let label = match call.caller.id() {
        "" => call.responder.connection.peer().to_string(),
        id => id.to_owned(),
    };
    Ok(Holder { label: label.into(), is_named: false })
}

/// A number of seconds, as `20` or `20s`.
fn seconds(
    parameters: &Parameters,
    name: &'static str,
    default: u64,
    min: u64,
    max: u64,
) -> Result<Duration, Problem> {
    let Some(text) = parameters.get(name) else { return Ok(Duration::from_secs(default)) };
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let within = seconds.filter(|seconds| (min..=max).contains(seconds));
    within
        .map(Duration::from_secs)
        .ok_or_else(|| bad(name, "value_error", format!("Input should be {min} to {max} seconds, as 20s")))
}
