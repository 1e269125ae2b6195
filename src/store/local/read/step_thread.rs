//! A thread for reads that let publishers and other readers go first: the operating system runs it
//! when those leave a processor, and for a share of the time otherwise. It does one short step of
//! one of them at a time.
//!
//! * Readers who go on with a long answer take what they can get. Without this, a hundred of them
//!   have everybody else wait for ten milliseconds and more.
//! * Scans look at much and give little. Anybody can ask for them in a few bytes, and each can have
//!   a processor for as long as it takes to read the store.
//! * Consumers that are behind read as fast as they can. What they read waits for them durably.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::store::local::shared::Shared;
use crate::sync::mpsc::{SendError, Sender, channel};
use crate::sync::{self, Builder, JoinHandle, Mutex};

type Step = Box<dyn FnOnce(&Shared) + Send>;

/// The thread, from its first step on.
pub(crate) struct StepThread {
    name: &'static str,
    niceness: i32,
    thread: Mutex<Option<(Sender<Step>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for StepThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepThread").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StepThread {
    pub(crate) fn new(name: &'static str, niceness: i32) -> Self {
        Self { name, niceness, thread: Mutex::new(None) }
    }

    /// Does `step` there; `None` if it panicked.
    ///
    /// # Errors
    /// `Overloaded` if there can't be such a thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        shared: &Arc<Shared>,
        step: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone.
        self.send(shared, Box::new(move |shared| _ = reply.send(step(shared))))?;
        Ok(answer.await.ok())
    }

    fn send(&self, shared: &Arc<Shared>, step: Step) -> Result<()> {
        let mut thread = self.thread.lock();
        let step = match &*thread {
            Some((sender, _)) => match sender.send(step) {
                Ok(()) => return Ok(()),
                // A step of it panicked.
                Err(SendError(step)) => step,
            },
            None => step,
        };
        let (sender, steps) = channel::<Step>();
        // The receiver lives in this function.
        let _ = sender.send(step);
        let (shared, niceness) = (Arc::clone(shared), self.niceness);
        let run = move || {
            sync::give_way(niceness);
            while let Ok(step) = steps.recv() {
                step(&shared);
            }
        };
        let handle = Builder::new().name(self.name.to_owned()).spawn(run).map_err(|e| {
            let message =
                format!("cannot start the thread of {}: {e}; send the request again later", self.name);
            Error::new(ErrorKind::Overloaded, message)
        })?;
        *thread = Some((sender, handle));
        Ok(())
    }

    /// Ends the thread, once its step is done.
    pub(crate) fn stop(&self) {
        if let Some((sender, handle)) = self.thread.lock().take() {
            drop(sender);
            let _ = handle.join();
        }
    }
}
