//! How long hyper waits for a request's head: one timer of the runtime's for all requests of a connection.
//!
//! hyper begins a sleep with each request and drops it when the head is there. If each were a timer of the runtime's, it would be
//! entered and taken out again under a lock that all connections share. One whose deadline only moves ahead is left where it is
//! until it goes off.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Makes the sleeps of one connection, whose deadlines never lie before an earlier one's.
#[derive(Clone, Debug)]
pub(super) struct HeadTimer(Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>);

impl HeadTimer {
    /// For sleeps that end after `first` or later.
    pub(super) fn new(first: Duration) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(first)))))
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep { timer: self.clone(), deadline: deadline.into() })
    }

    #[allow(clippy::disallowed_methods, reason = "the runtime's own time, as its sleeps are in that")]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

#[derive(Debug)]
struct HeadSleep {
    timer: HeadTimer,
    deadline: tokio::time::Instant,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        while sleep.deadline() < self.deadline {
            ready!(sleep.as_mut().poll(cx));
            sleep.as_mut().reset(self.deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_at_its_own_deadline_whatever_was_begun_before_and_left() {
        let (limit, some) = (Duration::from_secs(10), Duration::from_secs(9));
        let timer = HeadTimer::new(limit);
        let begin = timer.now();
        for _ in 0..3 {
            assert!(tokio::time::timeout(some, timer.sleep(limit)).await.is_err(), "its head came in time");
        }
        for _ in 0..2 {
            timer.sleep(limit).await;
        }
        assert_eq!((timer.now() - begin).as_secs(), 3 * 9 + 2 * 10);
    }
}
