//! A body as a stream of decoded pieces.

use bytes::Bytes;
use hyper::StatusCode;

use crate::http::body::content::Encoding;
use crate::http::body::decompress::{Damage, Decompressor};
use crate::http::body::upload::Upload;
use crate::http::wire::problem::{Problem, body_too_large, broken_body};

/// Largest piece.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// The rest of a body.
#[derive(Debug)]
pub(crate) struct DecodedBody {
    body: Upload,
    decompressor: Option<Decompressor>,
    /// Received and not given yet.
    pending: Bytes,
    /// Bytes that came, as they were sent.
    received: u64,
    /// Most bytes that may come.
    allowed: Option<usize>,
}

impl DecodedBody {
    pub(crate) fn new(body: Upload, encoding: Option<Encoding>) -> Self {
        let decompressor = encoding.map(Decompressor::new);
        Self { body, decompressor, pending: Bytes::new(), received: 0, allowed: None }
    }

    /// Bytes of the body that came so far, as they were sent.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bounds the body as it is sent.
    pub(crate) fn at_most(self, bytes: usize) -> Self {
        Self { allowed: Some(bytes), ..self }
    }

    /// Bytes that it decoded to so far.
    pub(crate) fn made(&self) -> u64 {
        self.decompressor.as_ref().map_or(self.received, Decompressor::made)
    }

    /// Bytes held beside the pieces given.
    pub(crate) fn memory(&self) -> usize {
        self.decompressor.as_ref().map_or(0, Decompressor::memory) + self.pending.len()
    }

    /// The next piece, which is empty if what came is not enough to decode more; `None` at the end.
    /// May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.is_decoding() {
            // A frame can decode to a thousand pieces: others have their turn after each.
            tokio::task::yield_now().await;
        }
        if let Some(piece) = self.piece()? {
            return Ok(Some(piece));
        }
        match self.body.frame().await {
            None => {
                self.decompressor.as_ref().map_or(Ok(()), Decompressor::finish).map_err(damaged)?;
                Ok(None)
            }
            Some(frame) => {
                if let Ok(data) = frame.map_err(|_| broken_body())?.into_data() {
                    self.received += data.len() as u64;
                    if let Some(max) = self.allowed.filter(|max| self.received > *max as u64) {
                        return Err(body_too_large(max));
                    }
                    self.pending = data;
                    if self.decompressor.as_mut().is_some_and(Decompressor::begin) {
                        return Ok(Some(Bytes::new()));
                    }
                }
                Ok(Some(self.piece()?.unwrap_or_default()))
            }
        }
    }

    /// Whether what came decodes to more than was given of it.
    fn is_decoding(&self) -> bool {
        self.decompressor
            .as_ref()
            .is_some_and(|decompressor| decompressor.made() > 0 && decompressor.has_more())
    }

    /// A piece of what was received.
    fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(decompressor) = &mut self.decompressor else {
            let piece = self.pending.split_to(self.pending.len().min(PIECE_BYTES));
            return Ok((!piece.is_empty()).then_some(piece));
        };
        while !self.pending.is_empty() || decompressor.has_more() {
            let mut out = vec![0; PIECE_BYTES];
            let made = decompressor.step(&mut self.pending, &mut out).map_err(damaged)?;
            if made > 0 {
                out.truncate(made);
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }
}

fn damaged(damage: Damage) -> Problem {
    let (status, message) = match damage {
        Damage::Malformed => (
            StatusCode::BAD_REQUEST,
            "the body is damaged, or not compressed as its Content-Encoding says (zstd: with a window of at most 8 MiB)",
        ),
        Damage::Truncated => (StatusCode::BAD_REQUEST, "the compressed body ends too early: send it again"),
        Damage::Trailing => (
            StatusCode::BAD_REQUEST,
            "the compressed body is whole, but bytes follow that are not compressed, such as a newline: leave them out",
        ),
    };
    Problem::new(status, message).close()
}
