//! The requests of an HTTP/2 connection: how many are under way, and whether their readers get on.
//!
//! A client says for each stream how many bytes it takes, so one stream can stand still while its
//! connection lives. hyper asks a body for its next piece before it looks whether the stream takes
//! it, and hands a piece to h2 as soon as the stream takes one byte. So what a stream has in hand
//! is known only by the time that passes until its body is asked again. The body notes that
//! ([`Paced`]), and it is held against the limit where the stream is driven ([`Streams`]).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Sleep;

use super::activity::{Activity, TICK, Ticks};
use crate::limits::{STREAM_LAST_BYTES_MIN, STREAM_PIECE_BYTES};
use crate::sync::Mutex;

/// Drives the streams of one connection.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    activity: Arc<Activity>,
    /// Seconds without leave to send a piece after which a stream is reset.
    stall_seconds: u64,
    /// The flow of the request that was just taken: hyper has it answered, and then driven.
    next: Arc<Mutex<Option<Arc<Flow>>>>,
}

impl Streams {
    pub(super) fn new(activity: Arc<Activity>, stall_seconds: u64) -> Self {
        Self { activity, stall_seconds, next: Arc::default() }
    }

    /// A request was taken; the future of its answer is driven next.
    pub(super) fn begin(&self) -> Arc<Flow> {
        let flow = Arc::new(Flow { ticks: self.activity.ticks().clone(), waits: AtomicU32::new(0) });
        *self.next.lock() = Some(Arc::clone(&flow));
        flow
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let flow = self.next.lock().take();
        let (stall_seconds, under_way) = (self.stall_seconds, self.activity.begin_stream());
        tokio::spawn(async move {
            let _under_way = under_way;
            let mut stream = std::pin::pin!(stream);
            let mut timer = None;
            std::future::poll_fn(|cx| match (stream.as_mut().poll(cx), &flow) {
                (Poll::Ready(()), _) => Poll::Ready(()),
                // A stream that is dropped is reset by h2.
                (Poll::Pending, Some(flow)) => flow.poll_stalled(stall_seconds, &mut timer, cx),
                (Poll::Pending, None) => Poll::Pending,
            })
            .await;
        });
    }
}

/// Whether a stream gets on.
#[derive(Debug)]
pub(super) struct Flow {
    ticks: Ticks,
    /// 1 + the tick since which a piece waits to be sent; 0 if none does.
    waits: AtomicU32,
}

impl Flow {
    /// Ready once a piece has waited for too long. The timer is made when one waits at all, and
    /// left as it is when that one goes.
    fn poll_stalled(
        &self,
        seconds: u64,
        timer: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let waits = self.waits.load(Ordering::Relaxed);
            if waits == 0 {
                return Poll::Pending;
            }
            let since = waits.wrapping_sub(1);
            if self.ticks.are_over(since, seconds) {
                return Poll::Ready(());
            }
            let limit =
                u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(1_000 / TICK.as_millis() as u32);
            let left = limit.saturating_sub(self.ticks.now().wrapping_sub(since)).saturating_add(1);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(TICK * left)));
            ready!(timer.as_mut().poll(cx));
            timer.set(tokio::time::sleep(TICK * left));
        }
    }
}

/// The body of an answer, in pieces small enough that their leaving shows whether the reader gets
/// on.
#[derive(Debug)]
pub(super) struct Paced<B> {
    body: B,
    /// What is left of a piece of it.
    rest: Bytes,
    flow: Arc<Flow>,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, flow: Arc<Flow>) -> Self {
        Self { body, rest: Bytes::new(), flow }
    }

    /// The next piece. The last byte goes by itself: it is sent only when everything before it has
    /// left, so that until then the stream is under way.
    fn cut(&mut self) -> Bytes {
        let length = match self.rest.len() {
            length if length > STREAM_PIECE_BYTES => STREAM_PIECE_BYTES,
            length if length >= STREAM_LAST_BYTES_MIN => length - 1,
            length => length,
        };
        self.rest.split_to(length)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.flow.waits.store(0, Ordering::Relaxed);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => return Poll::Ready(None),
            }
        }
        self.flow.waits.store(self.flow.ticks.now().wrapping_add(1).max(1), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.cut()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
