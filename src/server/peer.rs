//! A connection that notices when the reader of a stream has gone.
//!
//! A client may close its side and still want its answers, so hyper is told not to look for the end of what it sends (`half_close`). A tail has no
//! end, and while it is silent nothing is written that would show that nobody reads: its place would be kept for two heartbeats. An
//! export that finds nothing is as silent: once its head is refused by whoever has gone, the system knows, and is asked.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Head and body of an answer up to so many bytes are copied together: `send` is cheaper than `writev`.
const TOGETHER_BYTES: usize = 1 << 10;

/// The stream of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: TokioIo<TcpStream>,
    /// What is being answered is a tail.
    is_tail: Arc<AtomicBool>,
    /// Or anything that is made while it is sent.
    is_stream: Arc<AtomicBool>,
}

impl Peer {
    pub(super) fn new(stream: TcpStream, is_tail: Arc<AtomicBool>, is_stream: Arc<AtomicBool>) -> Self {
        Self { stream: TokioIo::new(stream), is_tail, is_stream }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Read for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl Write for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if length > TOGETHER_BYTES {
            return self.stream().poll_write_vectored(cx, bufs);
        }
        let mut together = SmallVec::<[u8; TOGETHER_BYTES]>::new();
        for buf in bufs {
            together.extend_from_slice(buf);
        }
        self.stream().poll_write(cx, &together)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called whenever the connection has done what it could, so a waiting tail waits for its reader's end as well.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_tail.load(Ordering::Relaxed) {
            let mut byte = [0];
            match self.stream.inner_mut().poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        if self.is_stream.load(Ordering::Relaxed)
            && let Ok(Some(e)) = self.stream.inner().take_error()
        {
            return Poll::Ready(Err(e));
        }
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
