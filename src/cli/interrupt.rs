//! Ctrl-C in a client command: what is under way is finished, then the command says how far it got.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Exit, Failure, say};

/// Whether the command shall end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the first SIGINT for a wish to end; the second ends the process at once.
    pub(super) fn watch() -> Result<Self, Failure> {
        let cannot = |e| Failure::new(Exit::Fault, format!("cannot wait for Ctrl-C: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let raised = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&raised);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    while tokio::signal::ctrl_c().await.is_ok() {
                        if flag.swap(true, Ordering::Relaxed) {
                            std::process::exit(Exit::Interrupted as i32);
                        }
                        say("ending once what is under way is answered; Ctrl-C again ends at once");
                    }
                });
            })
            .map_err(cannot)?;
        Ok(Self(raised))
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A failure once it is raised.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.is_raised() {
            true => Err(Failure::new(Exit::Interrupted, "interrupted; to go on, run the same command again")),
            false => Ok(()),
        }
    }
}
