//! Where HTTP/1 messages begin and end, held against RFC 9112 before hyper sees a byte.
//!
//! hyper reads some heads that two readers could take for different requests: it drops a
//! `Content-Length` beside a `Transfer-Encoding`, calls a body chunked whatever was done to it
//! before, and takes a bare LF for a line's end. A proxy in front that reads them otherwise would
//! see other requests than this service does. So a head is shown to hyper only when it is whole and
//! has one meaning, and no bytes are shown beyond the message that it begins.
//!
//! ```text
//! Between ── head ──> Length ──┬─> Between
//!                 ├─> Chunks ──┤
//!                 └────────────┘
//! ```

mod chunks;
mod head;

use self::chunks::Chunks;
use self::head::Head;

/// A head that is not passed on, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) detail: &'static str,
}

impl Refusal {
    pub(super) const fn bad(detail: &'static str) -> Self {
        Self { status: 400, reason: "Bad Request", detail }
    }

    const fn too_large() -> Self {
        let detail = "the head of the request is too large: send shorter headers";
        Self { status: 431, reason: "Request Header Fields Too Large", detail }
    }

    const fn unknown_coding() -> Self {
        let detail = "the only transfer coding known here is chunked; name a compression in Content-Encoding";
        Self { status: 501, reason: "Not Implemented", detail }
    }
}

/// The framing of a body is broken: what follows can't be told apart from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What lies between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// This many bytes before a head mean nothing.
    Blank(usize),
    /// No whole head.
    Partial,
    /// A head of this many bytes, which may be passed on.
    Head(usize),
}

/// Where a connection is among its messages.
#[derive(Debug, Default)]
pub(super) struct Framing(State);

#[derive(Debug)]
enum State {
    Between(Head),
    Length(u64),
    Chunks(Chunks),
}

impl Default for State {
    fn default() -> Self {
        Self::Between(Head::default())
    }
}

impl Framing {
    /// Whether a head comes next.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.0, State::Between(_))
    }

    /// Looks at all that was received since the last message, of which some may have been looked at
    /// before.
    ///
    /// # Errors
    /// The head must not be passed on.
    pub(super) fn head(&mut self, received: &[u8]) -> Result<Start, Refusal> {
        let State::Between(head) = &mut self.0 else { return Ok(Start::Partial) };
        let found = head.look(received)?;
        if let Start::Head(_) = found {
            self.0 = match (head.is_chunked(), head.length()) {
                (true, _) => State::Chunks(Chunks::default()),
                (false, Some(1..)) => State::Length(head.length().unwrap_or_default()),
                (false, _) => State::default(),
            };
        }
        Ok(found)
    }

    /// How many of the bytes that come next belong to the body, and whether it is broken after
    /// them.
    pub(super) fn body(&mut self, next: &[u8]) -> (usize, Result<(), Broken>) {
        match &mut self.0 {
            State::Between(_) => (0, Ok(())),
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(next.len(), |left| left.min(next.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.0 = State::default();
                }
                (taken, Ok(()))
            }
            State::Chunks(chunks) => {
                let (taken, state) = chunks.take(next);
                if state == Ok(true) {
                    self.0 = State::default();
                }
                (taken, state.map(|_| ()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
