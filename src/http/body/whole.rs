//! The body of a request, whole, within its limits: size, pace, and bytes held by all requests
//! together.

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;

use crate::auth::Caller;
use crate::http::body::budget::WholeBody;
use crate::http::body::content::Encoding;
use crate::http::body::decoded::DecodedBody;
use crate::http::body::eviction::Sender;
use crate::http::body::pace::Pace;
use crate::http::body::upload::Upload;
use crate::http::service::Service;
use crate::http::wire::problem::{Problem, body_too_large, broken_body};
use crate::limits::LARGE_BYTES_MIN;

impl<S> Service<S> {
    /// Takes the body of a request.
    pub(crate) async fn body<'s>(
        &'s self,
        body: Upload,
        encoding: Option<Encoding>,
        (sender, caller): (Sender, &'s Caller),
    ) -> Result<WholeBody<'s>, Problem> {
        let max = self.limits.body_bytes_max;
        let Some(encoding) = encoding else { return self.body_at_most(body, max, (sender, caller)).await };
        if body.declared().is_some_and(|length| length > max as u64) {
            return Err(body_too_large(max));
        }
        let pace = Pace::of_body(&self.body_budget.waiting, &*self.clock, (sender, caller));
        Box::pin(self.take_decoded(body, encoding, pace)).await
    }

    /// Takes a body of at most `max` bytes, as it was sent.
    pub(crate) async fn body_at_most<'s>(
        &'s self,
        mut body: Upload,
        max: usize,
        (sender, caller): (Sender, &'s Caller),
    ) -> Result<WholeBody<'s>, Problem> {
        if body.declared().is_some_and(|length| length > max as u64) {
            return Err(body_too_large(max));
        }
        let mut pace = Pace::of_body(&self.body_budget.waiting, &*self.clock, (sender, caller));
        let declared = body.declared().map(|length| length as usize);
        let most = declared.unwrap_or(max);
        let mut permit = self.body_budget.permit_for_body(most);
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = pace.wait(body.frame()).await? {
            let Ok(data) = frame.map_err(|_| broken_body())?.into_data() else { continue };
            let length = first.len() + rest.len() + data.len();
            if length > max {
                return Err(body_too_large(max));
            }
            permit.grow_to(length, &mut pace).await?;
            pace.note(length as u64, length as u64, permit.held());
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if rest.capacity() < length {
                // Memory that nothing is written to yet is only an address: the system gives it
                // when bytes arrive.
                let capacity = if permit.is_large() {
                    most
                } else {
                    declared.unwrap_or(2 * length).min(LARGE_BYTES_MIN)
                };
                rest.reserve(capacity.max(length) - rest.len());
            }
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        permit.shrink_to(bytes.len());
        Ok(WholeBody { bytes, permit })
    }

    /// Takes a compressed body; never holds it as it was sent.
    async fn take_decoded<'s>(
        &'s self,
        body: Upload,
        encoding: Encoding,
        mut pace: Pace<'s>,
    ) -> Result<WholeBody<'s>, Problem> {
        let max = self.body_budget.decoded_max();
        let mut source = DecodedBody::new(body, Some(encoding)).at_most(self.limits.body_bytes_max);
        let mut permit = self.body_budget.permit_for_body(self.body_budget.decoded_most());
        let mut bytes = BytesMut::new();
        while let Some(piece) = pace.wait(source.next()).await?? {
            let length = bytes.len() + piece.len();
            if length > max {
                let message = format!("the body decodes to more than {max} bytes: send fewer events at once");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close());
            }
            permit.grow_to(length + source.memory(), &mut pace).await?;
            pace.note(source.received(), source.received(), permit.held());
            if bytes.capacity() < length && permit.is_large() {
                // Once, so that what is there is not copied time and again.
                bytes.reserve(max - bytes.len());
            }
            bytes.extend_from_slice(&piece);
        }
        permit.shrink_to(bytes.len());
        Ok(WholeBody { bytes: bytes.freeze(), permit })
    }
}
