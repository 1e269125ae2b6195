//! What senders ask before their first delivery.
//!
//! | sender | asks | is answered |
//! |---|---|---|
//! | CloudEvents | `OPTIONS` with `WebHook-Request-Origin` | that origin, and any rate |
//! | Meta | `GET` with `hub.verify_token` and `hub.challenge` | the challenge, if the token is that of the source |
//! | Slack | a signed delivery with a challenge | the challenge, as a delivery is |

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue};

use crate::http::guard;
use crate::http::service::{Call, Service};
use crate::http::sources::plain;
use crate::http::sources::refusal::Refusal;
use crate::http::wire::answer::{Answer, empty};
use crate::http::wire::problem::{Problem, not_allowed};
use crate::store::EventStore;
use crate::webhook::{Delivery, Refused};

/// The methods of a source whose sender asks nothing by GET.
const ALLOWED: &str = "POST, OPTIONS";

impl<S: EventStore> Service<S> {
    /// Answers a sender that asks by GET.
    pub(in crate::http) async fn answer_hub(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let source = self.source(call.head)?;
        if !source.has_hub() {
            return Err(not_allowed(ALLOWED));
        }
        let query = call.head.uri.query().unwrap_or_default();
        let delivery = Delivery { headers: &[], query, body: &Bytes::new() };
        match source.answer_hub(delivery) {
            Some(answer) => {
                self.metrics.delivered(source.name(), "challenge");
                Ok(plain(answer))
            }
            None => {
                Err(self.refuse_delivery(&source, Refusal::Unproven(Refused::Wrong), call.responder).await)
            }
        }
    }

    /// Answers a sender that asks whether it may send.
    pub(in crate::http) fn shake_hands(&self, call: &Call<'_>) -> Result<Answer, Problem> {
        self.source(call.head)?;
        let told = guard::options(call.head, false, true, ALLOWED);
        Ok(told.unwrap_or_else(|| {
            let mut answer = empty(StatusCode::NO_CONTENT);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
            answer
        }))
    }
}
