//! What one connection is doing: what it waits for and since when, and what it was told to do.
//!
//! The connection's own task writes down what it waits for. One task for all connections looks at
//! that now and then, and ends those that wait for too long. So no connection needs a timer, and a
//! request costs a few plain writes.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::peer::Peer;

/// How often connections are looked at: the finest time that is told apart.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// The number of ticks so far. It stands still while the process does, so that nobody is blamed for
/// that.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticks(Arc<AtomicU32>);

impl Ticks {
    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether more than `seconds` are over since tick `since`.
    pub(super) fn are_over(&self, since: u32, seconds: u64) -> bool {
        let ticks = Duration::from_secs(seconds).as_millis() / TICK.as_millis();
        u128::from(self.now().wrapping_sub(since)) > ticks
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first byte.
    First,
    /// The rest of a head, or on HTTP/2 the first request.
    Head,
    /// The body of a request, or its answer.
    Busy,
    /// The next request.
    Idle,
    /// The client's end of a connection that is over.
    Leaving,
    /// The end of the handshake of TLS, which comes before the first byte of HTTP.
    Handshake,
}

/// What a connection is told. A later one is the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Command {
    /// Go on.
    Stay,
    /// Take no more requests, and end when there are none under way.
    Drain,
    /// End now.
    End,
    /// End now, and drop what the client has not taken.
    Reset,
}

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    ticks: Ticks,
    /// The other side, until a PROXY head has named the client.
    peer: Peer,
    /// The client that a PROXY head has named.
    client: OnceLock<Peer>,
    /// Whether it has a reserved permit, where only the state of the service is told.
    pub(super) is_reserved: bool,
    /// The phase, above the tick at which it began.
    phase: AtomicU64,
    /// 1 + the tick since which the kernel takes nothing of what is written; 0 while it does.
    stuck: AtomicU32,
    /// 1 + the tick at which it was told to drain; 0 before.
    drains: AtomicU32,
    /// Requests under way over HTTP/2.
    streams: AtomicU32,
    command: AtomicU8,
    told: AtomicWaker,
    /// What is being answered over HTTP/1 is a tail.
    is_tail: AtomicBool,
    /// Or anything that is made while it is sent.
    is_stream: AtomicBool,
}

impl Activity {
    pub(super) fn new(ticks: Ticks, peer: Peer, is_reserved: bool) -> Self {
        let activity = Self {
            ticks,
            peer,
            client: OnceLock::new(),
            is_reserved,
            phase: AtomicU64::new(0),
            stuck: AtomicU32::new(0),
            drains: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            command: AtomicU8::new(0),
            told: AtomicWaker::new(),
            is_tail: AtomicBool::new(false),
            is_stream: AtomicBool::new(false),
        };
        activity.begin(Phase::First);
        activity
    }

    /// Whom the connection is counted for: the other side, or the client for which that is a proxy.
    pub(super) fn peer(&self) -> Peer {
        self.client.get().copied().unwrap_or(self.peer)
    }

    /// A PROXY head names the client.
    pub(super) fn comes_from(&self, client: Peer) {
        // There is one head.
        let _ = self.client.set(client);
    }

    pub(super) fn ticks(&self) -> &Ticks {
        &self.ticks
    }

    fn begin(&self, phase: Phase) {
        self.phase.store((phase as u64) << 32 | u64::from(self.ticks.now()), Ordering::Relaxed);
    }

    /// Notes what the connection waits for from now on; nothing, if it waits for that already.
    pub(super) fn enter(&self, phase: Phase) {
        if self.phase() != phase {
            self.begin(phase);
        }
    }

    /// What it waits for.
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) >> 32 {
            0 => Phase::First,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Idle,
            4 => Phase::Leaving,
            _ => Phase::Handshake,
        }
    }

    /// Changes whenever it waits for something else.
    pub(super) fn mark(&self) -> u64 {
        self.phase.load(Ordering::Relaxed)
    }

    /// The tick since which it waits for that.
    pub(super) fn since(&self) -> u32 {
        self.mark() as u32
    }

    /// Whether a request is under way, or its answer has not left.
    pub(super) fn is_busy(&self) -> bool {
        let is_waiting = self.stuck.load(Ordering::Relaxed) != 0;
        is_waiting || self.phase() == Phase::Busy || self.streams.load(Ordering::Relaxed) > 0
    }

    /// A request has begun over HTTP/2.
    pub(super) fn begin_stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.begin(Phase::Busy);
        Stream(Arc::clone(self))
    }

    /// The kernel took nothing of what was written.
    pub(super) fn gets_stuck(&self) {
        if self.stuck.load(Ordering::Relaxed) == 0 {
            self.stuck.store(self.ticks.now().wrapping_add(1).max(1), Ordering::Relaxed);
        }
    }

    /// The kernel took some of what was written.
    pub(super) fn gets_on(&self) {
        if self.stuck.load(Ordering::Relaxed) != 0 {
            self.stuck.store(0, Ordering::Relaxed);
        }
    }

    /// Whether nothing that was written was taken for more than `seconds`.
    pub(super) fn is_stuck(&self, seconds: u64) -> bool {
        let stuck = self.stuck.load(Ordering::Relaxed);
        stuck != 0 && self.ticks.are_over(stuck.wrapping_sub(1), seconds)
    }

    /// Whether it was told to drain, and did not end within `seconds` although nothing is under
    /// way.
    pub(super) fn outstays(&self, seconds: u64) -> bool {
        let drains = self.drains.load(Ordering::Relaxed);
        drains != 0 && !self.is_busy() && {
            let begin = drains.wrapping_sub(1);
            self.ticks.are_over(begin, seconds) && self.ticks.are_over(self.since(), seconds)
        }
    }

    pub(super) fn set_tail(&self, is_tail: bool) {
        if self.is_tail() != is_tail {
            self.is_tail.store(is_tail, Ordering::Relaxed);
        }
    }

    pub(super) fn set_stream(&self, is_stream: bool) {
        if self.is_stream() != is_stream {
            self.is_stream.store(is_stream, Ordering::Relaxed);
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.is_stream.load(Ordering::Relaxed)
    }

    pub(super) fn is_tail(&self) -> bool {
        self.is_tail.load(Ordering::Relaxed)
    }

    /// Tells the connection what to do; a weaker command than it has changes nothing.
    pub(super) fn tell(&self, command: Command) {
        if command == Command::Drain && self.drains.load(Ordering::Relaxed) == 0 {
            self.drains.store(self.ticks.now().wrapping_add(1).max(1), Ordering::Relaxed);
        }
        self.command.fetch_max(command as u8, Ordering::Release);
        self.told.wake();
    }

    /// What it was told.
    pub(super) fn command(&self) -> Command {
        match self.command.load(Ordering::Acquire) {
            0 => Command::Stay,
            1 => Command::Drain,
            2 => Command::End,
            _ => Command::Reset,
        }
    }

    /// Drives `step` until it is done.
    ///
    /// # Errors
    /// The connection was told to end before, in whatever way.
    pub(super) async fn unless_told<T>(&self, step: impl Future<Output = T>) -> io::Result<T> {
        let mut step = pin!(step);
        std::future::poll_fn(|cx| match self.poll_command(cx) {
            Command::Stay => step.as_mut().poll(cx).map(Ok),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        })
        .await
    }

    /// What it was told; the task is woken when that changes.
    pub(super) fn poll_command(&self, cx: &Context<'_>) -> Command {
        self.told.register(cx.waker());
        self.command()
    }
}

/// A request under way over HTTP/2.
#[derive(Debug)]
pub(super) struct Stream(Arc<Activity>);

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.begin(Phase::Idle);
        }
    }
}
