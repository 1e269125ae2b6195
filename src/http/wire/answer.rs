//! Answers: whole ones, and those that are made while they are sent.

use std::io::{self, Write};
use std::pin::Pin;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use crate::auth::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::http::wire::answer_budget::{Account, AnswerPermit, Kind, budget_spent};
use crate::limits::{ANSWER_BYTES_UNCOUNTED, GZIP_BYTES_MIN};

/// An answer.
pub type Answer = Response<Body>;
/// Its body: whole, or a stream that is cut short if it fails.
pub type Body = Either<Full<Bytes>, StreamBody<Frames>>;
/// The pieces of a body that is made while it is sent.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Error>> + Send>>;
/// The level of gzip: the lightest, as the reader waits for it.
pub(crate) const LEVEL: Compression = Compression::fast();

/// Among the extensions of an answer that is made while it is sent.
#[derive(Clone, Copy, Debug)]
pub struct IsStream;

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    with_type(status, HeaderValue::from_static("application/json"), body)
}

pub(crate) fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// An answer whose pieces are made as fast as they are read.
pub(crate) fn streamed(kind: HeaderValue, pieces: Pieces) -> Answer {
    let frames: Frames = Box::pin(pieces.map(|piece| piece.map(Frame::data)));
    let mut answer = Response::new(Either::Right(StreamBody::new(frames)));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer.extensions_mut().insert(IsStream);
    answer
}

/// The same answer, which is cut short when its caller may have no more of it.
pub(crate) fn until(answer: Answer, caller: &Caller) -> Answer {
    if answer.extensions().get::<IsStream>().is_none() || !caller.may_end() {
        return answer;
    }
    let caller = caller.clone();
    answer.map(|body| match body {
        Either::Left(whole) => Either::Left(whole),
        Either::Right(frames) => {
            let ended = async move {
                caller.ended().await;
                Err(Error::new(ErrorKind::Stopping, "the reader's token is no longer valid"))
            };
            let frames: Frames = Box::pin(until_first(frames, ended));
            Either::Right(StreamBody::new(frames))
        }
    })
}

/// The frames of a body until `ended` gives the last one.
fn until_first(
    frames: StreamBody<Frames>,
    ended: impl Future<Output = Result<Frame<Bytes>, Error>> + Send + 'static,
) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send {
    let ended = Box::pin(stream::once(ended));
    // The second stream never ends the first, unless it gives something.
    stream::unfold(Some((frames, ended)), async |state| {
        let (mut frames, mut ended) = state?;
        tokio::select! {
            biased;
            Some(last) = ended.next() => Some((last, None)),
            frame = frames.next() => frame.map(|frame| (frame, Some((frames, ended)))),
        }
    })
}

/// An answer whose bytes are the program's own, and take no memory.
pub(crate) fn fixed(kind: HeaderValue, bytes: &'static [u8]) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(bytes))));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer.extensions_mut().insert(IsHeld);
    answer
}

/// An answer whose bytes hold the permit that was taken for them.
pub(crate) fn held(status: StatusCode, body: Vec<u8>, mut permit: AnswerPermit) -> Answer {
    // What it is beyond what was thought waits for nobody: the events are stored.
    permit.resize(body.len());
    let mut answer = json(status, Vec::new());
    *answer.body_mut() = Either::Left(Full::new(permit.hold(body)));
    answer.extensions_mut().insert(IsHeld);
    answer
}

/// A refusal for whose reasons the budget has no bytes left.
const UNTOLD: &[u8] =
    br#"{"detail":"the request is refused; what is wrong with it is too long to tell while so many answers wait for their readers"}"#;

/// Whether an answer is too short to need a permit.
pub(crate) fn is_short(answer: &Answer) -> bool {
    answer.body().size_hint().upper().is_some_and(|length| length <= ANSWER_BYTES_UNCOUNTED as u64)
}

/// Among the extensions of an answer whose bytes have a permit, or need none.
#[derive(Clone, Copy, Debug)]
struct IsHeld;

/// Has a whole answer's bytes take a permit while the answer waits for its reader, and compresses
/// them, if that is wanted and they are long enough to gain by it. A refusal for which the budget
/// is spent is told without its reasons. One that is held already stays as it is.
///
/// # Errors
/// `Overloaded`: the budget is spent.
pub(crate) async fn hold(answer: Answer, account: &Account, is_gzip: bool) -> Result<Answer> {
    if answer.extensions().get::<IsHeld>().is_some() {
        return Ok(answer);
    }
    let (mut head, body) = answer.into_parts();
    let Either::Left(whole) = body else { return Ok(Response::from_parts(head, body)) };
    head.extensions.insert(IsHeld);
    let bytes = match http_body_util::BodyExt::collect(whole).await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    // It does not wait: what waits takes memory as well.
    let mut permit = match account.take(Kind::Whole, bytes.len(), bytes.len()) {
        Some(permit) => permit,
        None if head.status.is_success() => return Err(budget_spent()),
        None => {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(Response::from_parts(head, Either::Left(Full::new(Bytes::from_static(UNTOLD)))));
        }
    };
    if !is_gzip || bytes.len() < GZIP_BYTES_MIN {
        return Ok(Response::from_parts(head, Either::Left(Full::new(permit.hold(bytes)))));
    }
    let original = bytes.clone();
    // Not on a thread that serves others.
    let bytes = match tokio::task::spawn_blocking(move || packed(&bytes)).await {
        Ok(Ok(packed)) => {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Bytes::from(packed)
        }
        Ok(Err(_)) | Err(_) => original,
    };
    permit.resize(bytes.len());
    Ok(Response::from_parts(head, Either::Left(Full::new(permit.hold(bytes)))))
}

/// What a HEAD is answered: the head that a GET would have, with the length of a whole body.
pub(crate) fn without_body(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        // hyper keeps the length of a body that is not sent.
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Either::Left(Full::default()))
}

/// Packs all of a body.
///
/// # Errors
/// What the encoder says; it has no reason to.
pub(crate) fn packed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(bytes).and_then(|()| encoder.finish())
}
