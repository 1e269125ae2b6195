//! Answers that are made while they are sent, piece by piece. The next piece is made when the one
//! before has left, so what an answer holds does not grow with its length, and a client that stops
//! reading stops it.
//!
//! ```text
//! Maker ─> portion, with its permit ─> gzip ─> pieces of at most 64 KiB ─> HTTP
//! ```

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderValue};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::http::wire::answer::{Answer, LEVEL, Pieces, hold, is_short, streamed, with_type};
use crate::http::wire::answer_budget::{Account, AnswerBudget, AnswerPermit, Kind};
use crate::http::wire::connection::Connection;
use crate::http::wire::request_id::RequestId;
use crate::limits::{GZIP_ENCODER_BYTES, PIECE_BYTES};
use crate::peer::Peer;
use crate::quota::QuotaKey;
use crate::turnstile::Turnstile;

/// Of lines about answers that failed.
static CUT_SHORT: Turnstile = Turnstile::new();

/// Part of an answer, with the permit of its bytes, if they take any that counts.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) bytes: Bytes,
    pub(crate) permit: Option<AnswerPermit>,
}

impl Portion {
    /// Bytes with their permit.
    pub(crate) fn new(bytes: impl Into<Bytes>, permit: AnswerPermit) -> Self {
        Self { bytes: bytes.into(), permit: Some(permit) }
    }

    fn held(self) -> Bytes {
        match self.permit {
            Some(permit) if !self.bytes.is_empty() => permit.hold(self.bytes),
            _ => self.bytes,
        }
    }
}

/// What one step of a maker gives.
#[derive(Debug)]
pub(crate) enum Made {
    /// There is more to come; the portion may be empty.
    Part(Portion),
    /// That was all.
    End(Portion),
}

/// What makes an answer.
pub(crate) trait Maker: Send + 'static {
    /// Takes one step, which is short, or waits.
    fn step(&mut self) -> impl Future<Output = Result<Made>> + Send;
}

/// What an answer needs to know of its request in order to go out.
#[derive(Debug)]
pub(crate) struct Responder<'a> {
    pub(crate) budget: &'a Arc<AnswerBudget>,
    pub(crate) connection: &'a Arc<Connection>,
    /// The client, as a proxy may have named it.
    pub(crate) peer: Peer,
    /// Whom what the request takes is counted for.
    pub(crate) key: QuotaKey,
    pub(crate) is_gzip: bool,
    pub(crate) request_id: &'a RequestId,
}

impl Responder<'_> {
    /// Has the budget take a whole answer, unless it is too short to need that.
    ///
    /// # Errors
    /// `Overloaded`: the budget is spent.
    pub(crate) async fn hold(&self, answer: Answer) -> Result<Answer> {
        match is_short(&answer) {
            true => Ok(answer),
            false => hold(answer, &self.account(), self.is_gzip).await,
        }
    }

    /// The account that pays for an answer. Short answers do without, as all requests would change
    /// one count of references.
    pub(crate) fn account(&self) -> Account {
        Account::new(self.budget, self.connection, self.key)
    }

    /// Sends what a maker makes. The answer is whole if `may_be_whole` and the first step is the
    /// last one. What fails in the first step can still be answered with a status.
    pub(crate) async fn send(
        &self,
        mut maker: impl Maker,
        kind: &'static str,
        may_be_whole: bool,
    ) -> Result<Answer> {
        let kind = HeaderValue::from_static(kind);
        let first = match maker.step().await? {
            Made::End(portion) if may_be_whole => {
                return Ok(with_type(StatusCode::OK, kind, portion.bytes));
            }
            first => first,
        };
        let making = Making { first: Some(first), maker: Some(maker), request_id: self.request_id.clone() };
        // If the budget has no bytes left for an encoder, the answer goes out as it is.
        let encoder = match self.is_gzip {
            true => self.account().take(Kind::Stream, GZIP_ENCODER_BYTES, GZIP_ENCODER_BYTES),
            false => None,
        };
        let Some(permit) = encoder else { return Ok(streamed(kind, pieces(making))) };
        let mut answer = streamed(kind, pieces(Packing { making, permit: Some(permit), encoder: None }));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Ok(answer)
    }
}

/// What gives one portion after the other.
trait Portions: Send + 'static {
    /// The next one that is not empty; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Portion>>> + Send;
}

/// Cuts portions to pieces.
fn pieces(portions: impl Portions) -> Pieces {
    Box::pin(stream::try_unfold((portions, Bytes::new()), async |(mut portions, mut rest)| {
        if rest.is_empty() {
            match portions.next().await? {
                Some(portion) => rest = portion.held(),
                None => return Ok(None),
            }
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Ok(Some((piece, (portions, rest))))
    }))
}

/// A maker at work. If it fails, the answer ends without its proper end, so that its reader knows.
struct Making<M> {
    first: Option<Made>,
    /// `None` at the end.
    maker: Option<M>,
    request_id: RequestId,
}

impl<M: Maker> Portions for Making<M> {
    async fn next(&mut self) -> Result<Option<Portion>> {
        while let Some(maker) = &mut self.maker {
            let made = match self.first.take() {
                Some(first) => Ok(first),
                None => maker.step().await,
            };
            let portion = match made {
                Ok(Made::Part(portion)) => portion,
                Ok(Made::End(portion)) => {
                    self.maker = None;
                    portion
                }
                Err(e) => {
                    let (id, trace) = (self.request_id.id(), self.request_id.trace());
                    if let Some(left_out) = CUT_SHORT.pass(("cut short", 0), SystemClock.monotonic()) {
                        tracing::warn!(request_id = id, trace_id = trace, error = %e, left_out, "an answer is cut short");
                    }
                    return Err(e);
                }
            };
            if !portion.bytes.is_empty() {
                return Ok(Some(portion));
            }
        }
        Ok(None)
    }
}

/// Packs portions.
struct Packing<M> {
    making: Making<M>,
    /// The encoder's permit; `None` at the end.
    permit: Option<AnswerPermit>,
    /// Made when there is something to pack: an answer that nobody begins to read has none.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<M: Maker> Portions for Packing<M> {
    async fn next(&mut self) -> Result<Option<Portion>> {
        while self.permit.is_some() {
            let portion = self.making.next().await?;
            let mut encoder = self.encoder.take().unwrap_or_else(|| GzEncoder::new(Vec::new(), LEVEL));
            let (bytes, permit) = match portion {
                Some(Portion { bytes, permit }) => (Some(bytes), permit),
                // What the encoder gives last takes the encoder's permit.
                None => (None, self.permit.take()),
            };
            let packing = tokio::task::spawn_blocking(move || {
                match bytes {
                    Some(bytes) => encoder.write_all(&bytes)?,
                    None => encoder.try_finish()?,
                }
                Ok((std::mem::take(encoder.get_mut()), encoder))
            });
            let packed: io::Result<_> = packing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
            let (packed, encoder) =
                packed.map_err(|e| Error::new(ErrorKind::Io, format!("cannot compress: {e}")))?;
            self.encoder = self.permit.is_some().then_some(encoder);
            if packed.is_empty() {
                continue;
            }
            let permit = permit.map(|mut permit| {
                // What exceeds the permit had been in the encoder, which has a permit of its own.
                permit.resize(packed.len().min(permit.bytes()));
                permit
            });
            return Ok(Some(Portion { bytes: packed.into(), permit }));
        }
        Ok(None)
    }
}
