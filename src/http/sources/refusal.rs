//! Why a delivery is not taken: what its sender is told, and what is counted and logged. None of it
//! has anything of what was sent.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::auth::AUDIT;
use crate::event::Field;
use crate::http::service::Service;
use crate::http::wire::problem::{Fault, Loc, Problem};
use crate::http::wire::streaming::Responder;
use crate::store::EventStore;
use crate::webhook::{Refused, Source, Unmapped};

/// Why a delivery is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not genuine.
    Unproven(Refused),
    /// It is, and no event can be made of it.
    Unmapped(Unmapped),
    /// Its body could not be read, or its events could not be stored.
    Other(Problem),
}

impl Refusal {
    /// The reason, as it is counted.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unproven(why) => why.name(),
            Self::Unmapped(why) if why.is_size() => "large",
            Self::Unmapped(_) => "unmapped",
            Self::Other(problem) => match problem.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "large",
                StatusCode::UNSUPPORTED_MEDIA_TYPE => "compressed",
                _ => "unstored",
            },
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Other(problem)
    }
}

impl<S: EventStore> Service<S> {
    /// Counts and logs a refusal, and waits if the client is refused again and again.
    pub(super) async fn refuse_delivery(
        &self,
        source: &Source,
        refusal: Refusal,
        responder: &Responder<'_>,
    ) -> Problem {
        self.metrics.refused(source.name(), refusal.reason(), self.clock.now());
        match refusal {
            Refusal::Unproven(why) => {
                let pause = self.note_unproven(source, why, responder);
                self.failures.wait(pause).await;
                unproven()
            }
            Refusal::Unmapped(why) => {
                self.reject(1);
                if let Some(left_out) =
                    self.turnstile.pass(("a delivery is no event", 422), self.clock.monotonic())
                {
                    let (source, request_id) = (source.name(), responder.request_id.id());
                    tracing::warn!(source, request_id, left_out, reason = %why, "a genuine delivery is no event; its source names no quarantine");
                }
                unmapped(&why)
            }
            Refusal::Other(problem) => problem,
        }
    }

    fn note_unproven(&self, source: &Source, why: Refused, responder: &Responder<'_>) -> Duration {
        let now = self.clock.monotonic();
        if let Some(left_out) = self.turnstile.pass((unproven_kind(why), 401), now) {
            let (source, peer, request_id) = (source.name(), responder.peer, responder.request_id.id());
            tracing::warn!(target: AUDIT, source, %peer, request_id, left_out, reason = why.name(), "a delivery was refused: {why}");
        }
        self.failures.count(responder.key, now)
    }

    /// A line about a delivery that is kept apart.
    pub(super) fn log_quarantined(&self, source: &Source, why: &Unmapped, responder: &Responder<'_>) {
        if let Some(left_out) =
            self.turnstile.pass(("a delivery goes to the quarantine", 0), self.clock.monotonic())
        {
            let (source, request_id) = (source.name(), responder.request_id.id());
            tracing::warn!(source, request_id, left_out, reason = %why, "a genuine delivery is no event, and goes to the quarantine");
        }
    }
}

fn unproven_kind(why: Refused) -> &'static str {
    match why {
        Refused::Missing => "a delivery has no signature",
        Refused::Malformed => "a delivery's signature is malformed",
        Refused::Wrong => "a delivery's signature is wrong",
        Refused::Stale => "a delivery is stale",
    }
}

/// The answer to what is not genuine, whatever the reason: that would help whoever guesses.
fn unproven() -> Problem {
    let message = "this is not signed as its source must sign; its operator finds the reason in the log and with \
                   `sekali source test`";
    let challenge = HeaderValue::from_static("Signature realm=\"sekali\"");
    Problem::new(StatusCode::UNAUTHORIZED, message).with(WWW_AUTHENTICATE, challenge)
}

fn unmapped(why: &Unmapped) -> Problem {
    if why.is_size() {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why.to_string());
    }
    let kind = match why {
        Unmapped::Absent(..) | Unmapped::Opaque(..) => "missing",
        Unmapped::Invalid(fault) => fault.kind,
        Unmapped::NoList => "list_type",
    };
    let mut loc = vec![Loc::Name("body")];
    loc.extend((why.field() != Field::Payload).then(|| Loc::Name(why.field().name())));
    Problem::invalid(vec![Fault { loc, msg: why.to_string(), kind }])
}
