//! Ctrl-C and SIGTERM in a client command: what is under way is finished, then the command says how
//! far it got.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sekali::clock::{Clock, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::say;
use crate::cli::exit::{Exit, Failure};

/// The wish that the command ends: a pipe that is closed then, so that reading and sleeping can
/// watch it too.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<PipeReader>);

impl Interrupt {
    /// Takes the first SIGINT for a wish to end; the second ends the process at once.
    pub(crate) fn watch() -> Result<Self, Failure> {
        Self::watch_for(&[SignalKind::interrupt()])
    }

    /// The same for SIGTERM, too.
    pub(crate) fn watch_ends() -> Result<Self, Failure> {
        Self::watch_for(&[SignalKind::interrupt(), SignalKind::terminate()])
    }

    fn watch_for(kinds: &[SignalKind]) -> Result<Self, Failure> {
        let cannot = |e| Failure::new(Exit::Fault, format!("cannot wait for Ctrl-C: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        // Taken before anything is begun: until then a SIGINT would end the process at once.
        let mut signals = {
            let _entered = runtime.enter();
            let signals = kinds.iter().map(|kind| signal(*kind));
            signals.collect::<io::Result<Vec<_>>>().map_err(cannot)?
        };
        let (raised, wish) = io::pipe().map_err(cannot)?;
        let mut wish = Some(wish);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    while first_of(&mut signals).await.is_some() {
                        if wish.take().is_none() {
                            std::process::exit(Exit::Interrupted as i32);
                        }
                        say("ending once what is under way is answered; Ctrl-C again ends at once");
                    }
                });
            })
            .map_err(cannot)?;
        Ok(Self(Arc::new(raised)))
    }

    /// A failure once it is raised.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.pause(Duration::ZERO)
    }

    /// Sleeps; a failure as soon as it is raised.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = SystemClock.monotonic() + time;
        loop {
            let left = end.saturating_duration_since(SystemClock.monotonic());
            let mut raised = [PollFd::new(&*self.0, PollFlags::IN)];
            match poll(&mut raised, Timespec::try_from(left).ok().as_ref()) {
                Ok(0) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                // If the pipe can't be watched, nobody could end the command.
                _ => return Err(interrupted()),
            }
        }
    }

    /// Has something done in a thread of its own; a failure as soon as it is raised, and then the
    /// thread is left to itself.
    pub(crate) fn unless_raised<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let cannot = |e| Failure::new(Exit::Fault, format!("cannot wait for an answer: {e}"));
        let (done, is_done) = io::pipe().map_err(cannot)?;
        let (result, answer) = mpsc::sync_channel(1);
        let work = move || {
            // Nobody takes it any more once the interrupt is raised.
            let _ = result.send(work());
            drop(is_done);
        };
        std::thread::Builder::new().name("answer".to_owned()).spawn(work).map_err(cannot)?;
        loop {
            let mut ready = [PollFd::new(&done, PollFlags::IN), PollFd::new(&*self.0, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) if !ready[0].revents().is_empty() => return answer.recv().map_err(|_| interrupted()),
                _ => return Err(interrupted()),
            }
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted; to go on, run the same command again")
}

/// The next signal of whichever kind.
async fn first_of(signals: &mut [Signal]) -> Option<()> {
    std::future::poll_fn(|context| {
        let polled = signals.iter_mut().map(|signal| signal.poll_recv(context));
        polled.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// An input whose reading ends with a fault once the interrupt is raised, also while nothing comes.
#[derive(Debug)]
pub(crate) struct Interruptible<F> {
    input: F,
    name: String,
    interrupt: Interrupt,
}

impl<F> Interruptible<F> {
    pub(crate) fn new(input: F, name: String, interrupt: Interrupt) -> Self {
        Self { input, name, interrupt }
    }
}

impl<F: AsFd + Read> Read for Interruptible<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut ready =
            [PollFd::new(&self.input, PollFlags::IN), PollFd::new(&*self.interrupt.0, PollFlags::IN)];
        poll(&mut ready, None)?;
        if !ready[1].revents().is_empty() {
            return Err(io::Error::other("interrupted"));
        }
        let name = |e: io::Error| match e.kind() {
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, format!("{}: {e}", self.name)),
        };
        self.input.read(out).map_err(name)
    }
}
