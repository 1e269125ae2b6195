//! Holds back work that nobody waits for: it takes as much of a processor as it needs to be done in
//! time, not all of one.
//!
//! A seal at its full speed has one of two processors for a second, and all that answers requests
//! shares the other.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::sync;

/// How long it works before it rests: less than a tick of most kernels, for which it would keep a
/// processor from others.
const WORK: Duration = Duration::from_millis(1);
/// How long it rests, if so much of it is done for each part of its time that has elapsed.
const RESTS: [(f64, Duration); 2] = [(1.5, Duration::from_millis(3)), (1.2, Duration::from_millis(1))];
/// Steps after which it looks at the clock.
const LOOK_EVERY: u64 = 512;

/// A piece of work that has so many steps, and time.
pub(crate) struct Throttle<'c, G> {
    clock: &'c dyn Clock,
    elapsed: G,
    steps: u64,
    done: Cell<u64>,
    look_at: Cell<u64>,
    rested: Cell<Instant>,
}

impl<'c, G: Fn() -> f64> Throttle<'c, G> {
    /// For work of so many steps of less than a microsecond; `elapsed` tells which part of its time
    /// has: 1 is all of it.
    pub(crate) fn new(clock: &'c dyn Clock, steps: u64, elapsed: G) -> Self {
        let (done, look_at) = (Cell::new(0), Cell::new(LOOK_EVERY));
        Self { clock, elapsed, steps, done, look_at, rested: Cell::new(clock.monotonic()) }
    }

    /// So many steps more are done: rests if it is time to, and there is time.
    pub(crate) fn done(&self, steps: u64) {
        if let Some(rest) = self.rest(steps) {
            sync::sleep(rest);
            self.rested.set(self.clock.monotonic());
        }
    }

    /// How long to rest so many steps later, if it is time to, and there is time.
    fn rest(&self, steps: u64) -> Option<Duration> {
        let done = self.done.get() + steps;
        self.done.set(done);
        if done < self.look_at.get() {
            return None;
        }
        self.look_at.set(done + LOOK_EVERY);
        if self.clock.monotonic().saturating_duration_since(self.rested.get()) < WORK {
            return None;
        }
        let time = (self.elapsed)() * self.steps as f64;
        RESTS.iter().find(|(ahead, _)| done as f64 > ahead * time).map(|(_, rest)| *rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{SystemClock, Timestamp};

    /// Nanoseconds after an origin, as they are told.
    #[derive(Debug)]
    struct Told(Instant, AtomicU64);

    impl Told {
        fn passed(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }
    }

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Instant {
            self.0 + Duration::from_nanos(self.passed())
        }
    }

    /// Has work done of so many steps, of so many nanoseconds each, that has `time`, if it has any;
    /// how long it took, and its longest stretch without a rest.
    fn work(steps: u64, step: u64, time: Option<u64>) -> (u64, u64) {
        let clock = Told(SystemClock.monotonic(), AtomicU64::new(0));
        let elapsed = || time.map_or(f64::INFINITY, |time| clock.passed() as f64 / time as f64);
        let throttle = Throttle::new(&clock, steps, elapsed);
        let (mut stretch, mut longest) = (0, 0);
        for _ in 0..steps {
            clock.1.fetch_add(step, Ordering::Relaxed);
            stretch += step;
            longest = longest.max(stretch);
            if let Some(rest) = throttle.rest(1) {
                clock.1.fetch_add(rest.as_nanos() as u64, Ordering::Relaxed);
                throttle.rested.set(clock.monotonic());
                stretch = 0;
            }
        }
        (clock.passed(), longest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn work_that_can_be_done_in_its_time_is(steps in 1..200_000u64, step in 1..1_000u64, spare in 1.0..50.0f64) {
            let alone = steps * step;
            let (took, _) = work(steps, step, Some((alone as f64 * spare) as u64));
            let last = (RESTS[0].1 + WORK).as_nanos() as u64 + LOOK_EVERY * step;
            prop_assert!(took <= (alone as f64 * spare) as u64 + last, "{took} for {alone}, {spare} times as long");
        }

        #[test]
        fn work_with_much_time_rests_again_and_again(steps in 1..200_000u64, step in 1..1_000u64, spare in 6.0..50.0f64) {
            let (_, longest) = work(steps, step, Some((steps as f64 * step as f64 * spare) as u64));
            prop_assert!(longest <= WORK.as_nanos() as u64 + LOOK_EVERY * step, "{longest} without a rest");
        }

        #[test]
        fn work_without_time_never_rests(steps in 1..200_000u64, step in 1..1_000u64) {
            prop_assert_eq!(work(steps, step, None).0, steps * step);
        }
    }
}
