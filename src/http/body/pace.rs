//! The pace of a body: a body that comes too slowly is ended, and so is one whose bytes are wanted
//! for others, or whose sender's token ends.
//!
//! A body that comes together with its head costs no timer and is in no list: both begin with the
//! first wait.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Sleep, sleep};

use crate::auth::Caller;
use crate::clock::Clock;
use crate::http::body::eviction::{Sender, WaitingBodies, WaitingBody, Want};
use crate::http::wire::denial;
use crate::http::wire::problem::Problem;
use crate::limits::{BODY_RATE_MIN, BODY_SECONDS, BODY_WINDOW_SECONDS};

/// A timer that ends so much later than it was to was not looked at: the process was stopped.
const LATE: Duration = Duration::from_secs(1);

/// What a body must bring in which time.
#[derive(Clone, Copy, Debug)]
struct Rule {
    window_seconds: u64,
    /// Windows that it may take in all.
    windows: u64,
    message: &'static str,
}

// The sentences below say so.
const _: () = assert!(BODY_SECONDS == 30 && BODY_RATE_MIN == 1 << 10);

const BODY: Rule = Rule {
    window_seconds: BODY_WINDOW_SECONDS,
    windows: BODY_SECONDS / BODY_WINDOW_SECONDS,
    message: "the body came too slowly: it must bring at least 1 KiB a second and be whole within 30 seconds; \
              send it again, faster or in smaller parts",
};

const STREAM: Rule = Rule {
    window_seconds: BODY_SECONDS,
    windows: u64::MAX,
    message: "no event arrived within 30 seconds, nor 1 KiB a second of one, and blank lines are none; \
              end a stream that has nothing to send, or repeat its last event, which is dropped as known",
};

/// The pace of one body.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    waiting: &'a WaitingBodies,
    clock: &'a dyn Clock,
    sender: Sender,
    caller: &'a Caller,
    rule: Rule,
    body: Option<WaitingBody<'a>>,
    /// The end of the window.
    timer: Option<Pin<Box<Sleep>>>,
    windows: u64,
    received: u64,
    held: (usize, usize),
    /// How far it is, now and when the window began.
    progress: u64,
    progress_before: u64,
}

impl<'a> Pace<'a> {
    /// The pace of a body that is to be whole.
    pub(crate) fn of_body(
        waiting: &'a WaitingBodies,
        clock: &'a dyn Clock,
        (sender, caller): (Sender, &'a Caller),
    ) -> Self {
        Self::new(waiting, clock, (sender, caller), BODY)
    }

    /// The pace of a stream, which may last as long as events come.
    pub(crate) fn of_stream(
        waiting: &'a WaitingBodies,
        clock: &'a dyn Clock,
        (sender, caller): (Sender, &'a Caller),
    ) -> Self {
        Self::new(waiting, clock, (sender, caller), STREAM)
    }

    fn new(
        waiting: &'a WaitingBodies,
        clock: &'a dyn Clock,
        (sender, caller): (Sender, &'a Caller),
        rule: Rule,
    ) -> Self {
        Self {
            waiting,
            clock,
            sender,
            caller,
            rule,
            body: None,
            timer: None,
            windows: 0,
            received: 0,
            held: (0, 0),
            progress: 0,
            progress_before: 0,
        }
    }

    /// Waits for what the sender brings. `what` may be dropped and asked again.
    pub(crate) async fn wait<F: Future>(&mut self, what: F) -> Result<F::Output, Problem> {
        let mut what = pin!(what);
        if self.body.is_none() {
            if self.caller.has_ended() {
                return Err(denial::ended().close());
            }
            if let Some(output) = soon(what.as_mut()).await {
                return Ok(output);
            }
            self.enter();
        }
        if let Some(body) = &self.body {
            body.hold_up(false, self.clock.monotonic());
        }
        // Boxed, so that the futures of all requests stay small.
        let mut ended = Box::pin(self.caller.ended());
        poll_fn(|cx| {
            if self.body.as_ref().is_some_and(|body| body.poll_ended(cx).is_ready()) {
                return Poll::Ready(Err(unwanted()));
            }
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(denial::ended().close()));
            }
            if let Poll::Ready(output) = what.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let window = Duration::from_secs(self.rule.window_seconds);
            loop {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(window)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let is_late = timer.deadline().elapsed() > LATE;
                self.timer = None;
                if is_late {
                    // This process stood still, and what was sent meanwhile may be on its way here.
                    self.progress_before = self.progress;
                    continue;
                }
                let brought = self.progress.saturating_sub(self.progress_before);
                self.progress_before = self.progress;
                self.windows += 1;
                if self.windows >= self.rule.windows || brought < BODY_RATE_MIN * self.rule.window_seconds {
                    return Poll::Ready(Err(
                        Problem::new(StatusCode::REQUEST_TIMEOUT, self.rule.message).close()
                    ));
                }
            }
        })
        .await
    }

    /// Waits for the budget, which is not the sender's fault.
    pub(crate) async fn hold_up<F: Future>(&mut self, what: F) -> Result<F::Output, Problem> {
        self.enter();
        let Some(body) = &self.body else { return Err(unwanted()) };
        body.hold_up(true, self.clock.monotonic());
        let mut what = pin!(what);
        let output = poll_fn(|cx| match body.poll_ended(cx) {
            Poll::Ready(()) => Poll::Ready(Err(unwanted())),
            Poll::Pending => what.as_mut().poll(cx).map(Ok),
        });
        let output = output.await;
        body.hold_up(false, self.clock.monotonic());
        self.restart();
        output
    }

    /// Has other bodies ended for what this body lacks.
    pub(crate) fn evict(&mut self, want: Want, wanted: usize, all: usize) {
        self.enter();
        if let Some(body) = &self.body {
            self.waiting.evict(body, want, wanted, all, self.clock.monotonic());
        }
    }

    /// Notes how many bytes came in all, how far that brought the body, and what it holds.
    pub(crate) fn note(&mut self, received: u64, progress: u64, held: (usize, usize)) {
        (self.received, self.progress) = (received, progress);
        self.note_held(held);
    }

    pub(crate) fn note_held(&mut self, held: (usize, usize)) {
        self.held = held;
        if let Some(body) = &self.body {
            body.note(self.received, self.held, self.clock.monotonic());
        }
    }

    /// Gives the sender a whole window from here.
    pub(crate) fn restart(&mut self) {
        self.timer = None;
        self.progress_before = self.progress;
    }

    fn enter(&mut self) {
        if self.body.is_none() {
            let now = self.clock.monotonic();
            self.body = Some(self.waiting.enter(self.sender, self.received, self.held, now));
        }
    }
}

/// The output of what is ready when it is asked a second time. A body mostly comes together with
/// its head, and is there once the connection has looked for it: it needs no timer.
async fn soon<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut is_first = true;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if is_first => {
            is_first = false;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn unwanted() -> Problem {
    let message = "too many requests are under way, and this one comes slowest or holds most; \
                   send it again later, faster or in smaller parts";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_later().close()
}
