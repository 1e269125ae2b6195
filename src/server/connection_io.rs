//! The bytes of a connection, between what carries them and hyper.
//!
//! [`ConnectionIo`] gives hyper one HTTP/1 message at a time ([`Framing`]) and answers the heads
//! that hyper must not see. It notices that whoever reads a tail or waits has gone, and keeps the
//! connection's [`Activity`] up to date. HTTP/2 passes through it as it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::StatusCode;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Command, Phase};
use super::framing::{Broken, Framing, Refusal, Start};
use super::transport::Transport;
use crate::http::Connection;
use crate::limits::{HEAD_BYTES_MAX, LINGER_BYTES_MAX};
use crate::metrics::{Metrics, RouteLabel};

/// Up to this many bytes, head and body of an answer are copied together: `send` is cheaper than
/// `writev`.
const TOGETHER_BYTES: usize = 1 << 10;

/// What every answer tells browsers.
const PROTECTION: &str = "x-content-type-options: nosniff\r\ncross-origin-resource-policy: same-origin\r\ncache-control: no-store\r\n";

/// The stream of a connection.
#[derive(Debug)]
pub(super) struct ConnectionIo<T: Transport> {
    stream: T,
    client: Arc<Connection>,
    activity: Arc<Activity>,
    metrics: Metrics,
    framing: Framing,
    /// Received, and not given to hyper yet.
    early: BytesMut,
    /// Bytes of `early` that hyper may have: the rest of a head for which its buffer was too small.
    cleared: usize,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// HTTP/2: nothing is looked at.
    Through,
    /// HTTP/1.
    Messages,
    /// What the answer to a head that was refused still lacks.
    Refusing(BytesMut),
    /// What still comes is dropped, up to this many bytes, so that the client gets to read that
    /// answer.
    Dropping(usize),
    /// The framing of a body is broken.
    Broken,
}

impl<T: Transport> ConnectionIo<T> {
    /// The stream of a connection that began with `early`.
    pub(super) fn new(
        stream: T,
        early: BytesMut,
        is_http2: bool,
        client: Arc<Connection>,
        activity: Arc<Activity>,
        metrics: Metrics,
    ) -> Self {
        let mode = if is_http2 { Mode::Through } else { Mode::Messages };
        Self { stream, client, activity, metrics, framing: Framing::default(), early, cleared: 0, mode }
    }

    /// Reads what has arrived into `buf`; how much that was, and nothing at the end.
    fn receive(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    /// Moves up to `most` bytes that came early into `buf`.
    fn give(&mut self, buf: &mut ReadBuf<'_>, most: usize) -> usize {
        let given = most.min(self.early.len()).min(buf.remaining());
        buf.put_slice(&self.early[..given]);
        self.early.advance(given);
        if self.early.is_empty() {
            // A connection may be idle for long.
            self.early = BytesMut::new();
        }
        given
    }

    /// Keeps what was read into `buf` from `end` on for later.
    fn keep(&mut self, buf: &mut ReadBuf<'_>, end: usize) {
        self.early.extend_from_slice(&buf.filled()[end..]);
        buf.set_filled(end);
    }

    /// Gives hyper the next head, once it is whole, and what came with it of its body.
    fn read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let begin = buf.filled().len();
        if self.early.is_empty() {
            let Poll::Ready(received) = self.receive(cx, buf) else {
                if self.activity.phase() == Phase::Busy {
                    self.activity.enter(Phase::Idle);
                }
                return Poll::Pending;
            };
            if received? == 0 {
                return Poll::Ready(Ok(()));
            }
            match self.framing.head(&buf.filled()[begin..]) {
                // Nothing is copied of a head that comes whole.
                Ok(Start::Head(length)) => {
                    self.activity.enter(Phase::Busy);
                    let (taken, body) = self.framing.body(&buf.filled()[begin + length..]);
                    self.keep(buf, begin + length + taken);
                    return self.go_on(body);
                }
                Ok(Start::Partial) => self.keep(buf, begin),
                Ok(Start::Blank(length)) => {
                    self.keep(buf, begin);
                    self.early.advance(length);
                }
                Err(refusal) => {
                    buf.set_filled(begin);
                    return self.refuse(refusal, cx);
                }
            }
        }
        loop {
            match self.framing.head(&self.early) {
                Ok(Start::Head(length)) => {
                    self.activity.enter(Phase::Busy);
                    self.cleared = length - self.give(buf, length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Start::Blank(length)) => self.early.advance(length),
                Ok(Start::Partial) => {
                    if !self.early.is_empty() {
                        self.activity.enter(Phase::Head);
                    } else if self.activity.phase() == Phase::Busy {
                        self.activity.enter(Phase::Idle);
                    }
                    let received = ready!(self.receive(cx, buf))?;
                    self.keep(buf, begin);
                    if received == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(refusal) => return self.refuse(refusal, cx),
            }
        }
    }

    /// Gives hyper what has come of a body.
    fn read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let offered = self.early.len().min(buf.remaining());
            let (taken, body) = self.framing.body(&self.early[..offered]);
            self.give(buf, taken);
            return self.go_on_from(taken, body);
        }
        let begin = buf.filled().len();
        if ready!(self.receive(cx, buf))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let (taken, body) = self.framing.body(&buf.filled()[begin..]);
        self.keep(buf, begin + taken);
        self.go_on_from(taken, body)
    }

    /// After `taken` bytes of a body that are sound.
    fn go_on_from(&mut self, taken: usize, body: Result<(), Broken>) -> Poll<io::Result<()>> {
        let done = self.go_on(body);
        // That nothing was taken would say that the client has closed its side.
        if taken == 0 && body.is_err() { Poll::Ready(Err(broken())) } else { done }
    }

    fn go_on(&mut self, body: Result<(), Broken>) -> Poll<io::Result<()>> {
        if body.is_err() {
            self.mode = Mode::Broken;
        }
        Poll::Ready(Ok(()))
    }

    /// Answers a head that hyper is not shown, once all answers before it have left.
    fn refuse(&mut self, refusal: Refusal, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Refusal { status, reason, detail } = refusal;
        let body = format!("{{\"detail\":\"{detail}\"}}");
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{PROTECTION}connection: close\r\n\r\n",
            body.len()
        );
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        self.metrics.answered(RouteLabel::NONE, status, Duration::ZERO);
        self.activity.enter(Phase::Leaving);
        self.mode = Mode::Refusing(BytesMut::from((head + &body).as_bytes()));
        // hyper may just have flushed: the answer is written when it does so again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what an answer of its own still lacks, and then nothing more.
    fn write_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Mode::Refusing(rest) = &mut self.mode {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            rest.advance(written);
            if rest.is_empty() {
                self.mode = Mode::Dropping(LINGER_BYTES_MAX);
                // Now what comes is to be dropped, which is hyper's turn to ask for.
                cx.waker().wake_by_ref();
                return Pin::new(&mut self.stream).poll_shutdown(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Drops what comes until the client closes, or it is enough.
    fn drop_rest(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let begin = buf.filled().len();
        while let Mode::Dropping(left) = self.mode {
            let received = ready!(self.receive(cx, buf))?;
            buf.set_filled(begin);
            if received == 0 || received > left {
                break;
            }
            self.mode = Mode::Dropping(left - received);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether the reader of a tail, or whoever waits, has gone. What it sends meanwhile is
    /// kept, up to the length of a head.
    ///
    /// A client may close its side and still want its answers, so hyper is told not to look for the
    /// end of what it sends (`half_close`). But a tail has no end, and while it is silent nothing
    /// is written that would show that nobody reads. A request that waits ends with an answer,
    /// which a client gets that still reads.
    fn watch_reader(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.early.len() < HEAD_BYTES_MAX {
            let mut bytes = [0; 256];
            match self.receive(cx, &mut ReadBuf::new(&mut bytes)) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) if self.activity.is_tail() => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Poll::Ready(Ok(0)) => {
                    self.client.note_closed();
                    break;
                }
                Poll::Ready(Ok(received)) => self.early.extend_from_slice(&bytes[..received]),
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        Ok(())
    }
}

impl<T: Transport> AsyncRead for ConnectionIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.mode {
            Mode::Through if self.early.is_empty() => Pin::new(&mut self.stream).poll_read(cx, buf),
            Mode::Through => {
                self.give(buf, usize::MAX);
                Poll::Ready(Ok(()))
            }
            Mode::Messages if self.cleared > 0 => {
                let cleared = self.cleared;
                self.cleared -= self.give(buf, cleared);
                Poll::Ready(Ok(()))
            }
            Mode::Messages if self.framing.is_between() => self.read_head(cx, buf),
            Mode::Messages => self.read_body(cx, buf),
            Mode::Refusing(_) => Poll::Pending,
            Mode::Dropping(_) => self.drop_rest(cx, buf),
            Mode::Broken => Poll::Ready(Err(broken())),
        }
    }
}

impl<T: Transport> AsyncWrite for ConnectionIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if length > TOGETHER_BYTES {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let mut together = SmallVec::<[u8; TOGETHER_BYTES]>::new();
        for buf in bufs {
            together.extend_from_slice(buf);
        }
        self.poll_write(cx, &together)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called whenever the connection has done what it could, and all of its answers were written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.mode {
            Mode::Refusing(_) => ready!(self.write_refusal(cx))?,
            Mode::Messages if self.activity.is_tail() || self.client.is_watched() => self.watch_reader(cx)?,
            // An export that finds nothing is silent too. The system knows of a client that has
            // gone once it has refused the head.
            Mode::Messages if self.activity.is_stream() => {
                if let Some(e) = self.stream.failure() {
                    return Poll::Ready(Err(e));
                }
            }
            _ => {}
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<T: Transport> Drop for ConnectionIo<T> {
    fn drop(&mut self) {
        if self.activity.command() == Command::Reset {
            self.stream.reset_at_end();
        }
    }
}

/// What hyper is told of a body whose framing is broken, as its own decoder would.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the framing of the body is broken")
}
