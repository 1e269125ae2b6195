//! Drives all connections from one thread.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressFinish};
use rustix::event::poll;
use rustix::time::{ClockId, Timespec, clock_gettime};
use sekali::clock::{Clock, SystemClock};

use super::arguments::Arguments;
use super::connection::{Answer, Connection, PATIENCE, Step};
use super::workload::Workload;
use crate::cli::client::exchange::redirected;
use crate::cli::client::target::Endpoint;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::progress;

/// How often the progress line is drawn, and the longest wait for the sockets.
const TICK: Duration = Duration::from_millis(100);
/// Latencies are kept up to here, in nanoseconds and with three digits.
const LATENCY_MAX: u64 = 10 * PATIENCE.as_nanos() as u64;
const DIGITS: u8 = 3;

/// What was sent, and what came back.
#[derive(Debug)]
pub(super) struct Measured {
    /// Events sent, each counted once however often its request was.
    pub(super) events: u64,
    /// Different events among those sent.
    pub(super) unique: u64,
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Sum of `unique_processed` over all answers.
    pub(super) answered_unique: u64,
    /// Sum of `duplicate_dropped` over all answers.
    pub(super) answered_duplicates: u64,
    /// The first answer that does not account for what was sent, in a sentence.
    pub(super) unaccounted: Option<String>,
    /// Requests sent again after a 503.
    pub(super) retries: u64,
    /// Requests sent again after their connection broke, or could not be made.
    pub(super) reconnects: u64,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Processor time that the generator itself took meanwhile.
    pub(super) cpu: Duration,
    /// Nanoseconds of each request, retries included.
    pub(super) latencies: Histogram<u64>,
}

/// All connections of a run, and what came back so far.
pub(super) struct Load {
    workload: Workload,
    connections: Vec<Connection>,
    batch: u32,
    rate: Option<u32>,
    /// Events not yet handed to a connection.
    left: u64,
    start: Instant,
    measured: Measured,
    bar: ProgressBar,
    drawn: Instant,
}

impl Load {
    pub(super) fn new(
        arguments: &Arguments,
        endpoint: &Endpoint,
        workload: Workload,
    ) -> Result<Self, Failure> {
        let start = SystemClock.monotonic();
        let connections =
            (0..arguments.connections).map(|_| Connection::new(endpoint.clone(), start)).collect();
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX, DIGITS)
            .map_err(|fault| Failure::new(Exit::Fault, format!("cannot keep latencies: {fault}")))?;
        let bar = ProgressBar::new(arguments.events);
        let bar = bar.with_finish(ProgressFinish::AndClear);
        bar.set_style(progress::style("{bar:40} {human_pos}/{human_len} events, {rate}, {eta} left"));
        Ok(Self {
            workload,
            connections,
            batch: arguments.batch,
            rate: arguments.rate,
            left: arguments.events,
            start,
            measured: Measured {
                events: arguments.events,
                unique: 0,
                requests: 0,
                answered_unique: 0,
                answered_duplicates: 0,
                unaccounted: None,
                retries: 0,
                reconnects: 0,
                elapsed: Duration::ZERO,
                cpu: Duration::ZERO,
                latencies,
            },
            bar,
            drawn: start,
        })
    }

    pub(super) fn run(mut self) -> Result<Measured, Failure> {
        let cpu = cpu_time();
        self.start = SystemClock.monotonic();
        let mut ready = Vec::with_capacity(self.connections.len());
        loop {
            let now = SystemClock.monotonic();
            let mut idle = 0;
            for index in 0..self.connections.len() {
                if self.connections[index].waits_until().is_some_and(|until| until <= now) {
                    let progress = self.connections[index].send(now);
                    self.account(index, progress)?;
                } else if self.connections[index].is_idle() {
                    self.begin(index, now)?;
                }
                idle += usize::from(self.connections[index].is_idle());
            }
            if self.left == 0 && idle == self.connections.len() {
                break;
            }
            self.check_patience(now)?;
            self.wait(now, idle > 0, &mut ready)?;
            for index in ready.drain(..) {
                let now = SystemClock.monotonic();
                let progress = self.connections[index].advance(now);
                self.account(index, progress)?;
                // At once, not after the others: in a closed loop the next request follows the
                // answer.
                if self.connections[index].is_idle() {
                    self.begin(index, now)?;
                }
            }
        }
        self.measured.elapsed = SystemClock.monotonic().duration_since(self.start);
        self.measured.cpu = cpu_time().saturating_sub(cpu);
        self.measured.unique = self.workload.unique();
        self.bar.finish_and_clear();
        Ok(self.measured)
    }

    /// Gives an idle connection the next request, if there is one and it is due.
    fn begin(&mut self, index: usize, now: Instant) -> Result<(), Failure> {
        let due = self.due().unwrap_or(now);
        if self.left == 0 || due > now {
            return Ok(());
        }
        let events = u32::try_from(self.left).unwrap_or(u32::MAX).min(self.batch);
        self.left -= u64::from(events);
        let progress = self.connections[index].begin(&mut self.workload, events, due, now);
        self.account(index, progress)
    }

    /// When the next request is due, if there is a rate to keep.
    fn due(&self) -> Option<Instant> {
        let given = self.measured.events - self.left;
        self.rate.map(|rate| self.start + Duration::from_secs_f64(given as f64 / f64::from(rate)))
    }

    fn account(&mut self, index: usize, progress: Step) -> Result<(), Failure> {
        match progress {
            Step::Pending => Ok(()),
            Step::Answered(answer) => self.answered(index, &answer),
            Step::Refused => {
                self.measured.retries += 1;
                Ok(())
            }
            // Not a service, or not one that can be measured: sending again would not mend it.
            Step::Broken(fault) if fault.kind() == io::ErrorKind::InvalidData => {
                Err(Failure::new(Exit::Fault, fault))
            }
            Step::Broken(_) => {
                self.measured.reconnects += 1;
                Ok(())
            }
        }
    }

    fn answered(&mut self, index: usize, answer: &Answer) -> Result<(), Failure> {
        if let Some(to) = &answer.location {
            return Err(Failure::new(Exit::Fault, redirected("the service", answer.status, to)));
        }
        if answer.status != 200 {
            // What the service says of a request that is too large is meant for whoever writes
            // requests.
            let help =
                if matches!(answer.status, 413 | 422) { "; lower --batch or --event-bytes" } else { "" };
            let sentence = format!("the service answered {}: {}{help}", answer.status, answer.body);
            return Err(Failure::new(Exit::Fault, sentence));
        }
        let now = SystemClock.monotonic();
        let connection = &self.connections[index];
        let latency = now.saturating_duration_since(connection.due);
        self.measured.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        let measured = &mut self.measured;
        measured.requests += 1;
        let (sent, received) = (u64::from(connection.events), answer.received);
        let (unique, dropped) = (answer.unique_processed, answer.duplicate_dropped);
        if measured.unaccounted.is_none() && (received != sent || unique.checked_add(dropped) != Some(sent)) {
            measured.unaccounted = Some(format!(
                "{sent} events were sent in a request, and answered were {received} received, {unique} stored and {dropped} dropped"
            ));
        }
        // A service may answer any numbers.
        measured.answered_unique = measured.answered_unique.saturating_add(answer.unique_processed);
        measured.answered_duplicates = measured.answered_duplicates.saturating_add(answer.duplicate_dropped);
        if now.duration_since(self.drawn) >= TICK {
            self.drawn = now;
            self.bar.set_position(measured.answered_unique.saturating_add(measured.answered_duplicates));
        }
        Ok(())
    }

    fn check_patience(&self, now: Instant) -> Result<(), Failure> {
        let late = |c: &&Connection| !c.is_idle() && now.saturating_duration_since(c.begun) > PATIENCE;
        match self.connections.iter().find(late) {
            None => Ok(()),
            Some(_) => {
                let seconds = PATIENCE.as_secs();
                Err(Failure::new(
                    Exit::Fault,
                    format!("a request had no answer for {seconds} s, retries included"),
                ))
            }
        }
    }

    /// Waits until a socket is ready, or a request is due or to be sent again; fills `ready`.
    fn wait(&self, now: Instant, idle: bool, ready: &mut Vec<usize>) -> Result<(), Failure> {
        let due = self.due().filter(|_| idle && self.left > 0);
        let wake = self.connections.iter().filter_map(Connection::waits_until).chain(due).min();
        let timeout = wake.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK));
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        let pending = self.connections.iter().enumerate().filter_map(|(i, c)| Some((i, c.poll_fd()?)));
        let (indices, mut sockets): (Vec<_>, Vec<_>) = pending.unzip();
        match poll(&mut sockets, Some(&timeout)) {
            Ok(_) => {
                let fired = indices.iter().zip(&sockets).filter(|(_, socket)| !socket.revents().is_empty());
                ready.extend(fired.map(|(index, _)| *index));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(fault) => Err(Failure::new(Exit::Fault, format!("cannot wait for sockets: {fault}"))),
        }
    }
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
