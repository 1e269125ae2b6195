//! Answers: whole ones, and those that are made while they are sent.

use std::io::{self, Write};
use std::pin::Pin;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use hyper::{Response, StatusCode};

use super::accept::quality;
use crate::error::{Error, ErrorKind};
use crate::limits::GZIP_BYTES_MIN;

/// An answer.
pub type Answer = Response<Body>;
/// Its body: whole, or a stream that is cut short if it fails.
pub type Body = Either<Full<Bytes>, StreamBody<Frames>>;
type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Error>> + Send>>;
/// The pieces of a body that is made while it is sent.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// The level of gzip: the lightest, as the reader waits for it.
const LEVEL: Compression = Compression::fast();

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    with_type(status, HeaderValue::from_static("application/json"), body)
}

pub(super) fn with_type(status: StatusCode, kind: HeaderValue, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// An answer whose pieces are made as fast as they are read.
pub(super) fn streamed(kind: HeaderValue, pieces: Pieces) -> Answer {
    let frames: Frames = Box::pin(pieces.map(|piece| piece.map(Frame::data)));
    let mut answer = Response::new(Either::Right(StreamBody::new(frames)));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Whether the client reads gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let (gzip, any, identity) = (
        quality(headers, &ACCEPT_ENCODING, |coding| matches!(coding, "gzip" | "x-gzip")),
        quality(headers, &ACCEPT_ENCODING, |coding| coding == "*"),
        quality(headers, &ACCEPT_ENCODING, |coding| coding == "identity"),
    );
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && identity.is_none_or(|identity| gzip >= identity)
}

/// Compresses a whole answer, if it is long enough to gain by it.
pub(super) async fn compressed(answer: Answer) -> Answer {
    let length = match answer.body() {
        Either::Left(whole) => whole.size_hint().exact().unwrap_or(0),
        Either::Right(_) => return answer,
    };
    let (mut head, body) = answer.into_parts();
    let Either::Left(whole) = body else { return Response::from_parts(head, body) };
    if length < GZIP_BYTES_MIN {
        return Response::from_parts(head, Either::Left(whole));
    }
    let bytes = match http_body_util::BodyExt::collect(whole).await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    // A page may have megabytes: not on a thread that serves others.
    let original = bytes.clone();
    let packed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
        encoder.write_all(&bytes).and_then(|()| encoder.finish())
    });
    let body = match packed.await {
        Ok(Ok(packed)) => {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Bytes::from(packed)
        }
        Ok(Err(_)) | Err(_) => original,
    };
    Response::from_parts(head, Either::Left(Full::new(body)))
}

/// Compresses the pieces of a stream.
pub(super) fn gzip(pieces: Pieces) -> Pieces {
    let encoder = GzEncoder::new(Vec::new(), LEVEL);
    Box::pin(stream::try_unfold(Some((pieces, encoder)), async |state| {
        let Some((mut pieces, mut encoder)) = state else { return Ok(None) };
        loop {
            let piece = pieces.next().await.transpose()?;
            let is_last = piece.is_none();
            let packing = tokio::task::spawn_blocking(move || {
                match piece {
                    Some(piece) => encoder.write_all(&piece)?,
                    None => encoder.try_finish()?,
                }
                Ok((std::mem::take(encoder.get_mut()), encoder))
            });
            let packed: io::Result<_> = packing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
            let (packed, rest) =
                packed.map_err(|e| Error::new(ErrorKind::Io, format!("cannot compress: {e}")))?;
            encoder = rest;
            if is_last {
                return Ok(Some((Bytes::from(packed), None)));
            }
            if !packed.is_empty() {
                return Ok(Some((Bytes::from(packed), Some((pieces, encoder)))));
            }
        }
    }))
}

/// What a HEAD is answered: the head that a GET would have, with the length of a whole body.
pub(super) fn without_body(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        // hyper keeps the length of a body that is not sent.
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Either::Left(Full::default()))
}
