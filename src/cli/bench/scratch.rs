//! A service for one run, on a store that is removed with it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::target::Target;
use crate::cli::exit::{Exit, Failure};

use sekali::sync::{Mutex, MutexGuard};

/// A running service. It ends, and its store is removed, when this is dropped or the process is
/// interrupted.
pub(super) struct Scratch {
    target: Target,
    _held: Held,
}

/// The process, before the folder in which it writes.
struct Running {
    _service: Service,
    _folder: TempDir,
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // Nothing of what it holds is to be kept, so it need not be asked. If it has ended, there
        // is nothing to be done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line of the service's log, as far as it is read.
#[derive(Deserialize)]
struct Line {
    message: String,
    addr: Option<String>,
}

fn failure(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Fault, format!("cannot start a scratch service: {why}"))
}

impl Scratch {
    /// Starts a service with the settings that are the defaults: those of the environment and of a
    /// configuration file are for a service that holds what is to be kept.
    pub(super) fn start() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("sekali-bench-").tempdir().map_err(failure)?;
        // The hook comes first: an interrupt would leave a process running.
        let held = Held::default();
        held.end_on_signals()?;
        let program = std::env::current_exe().map_err(failure)?;
        let mut service = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"SEKALI_") {
                service.env_remove(name);
            }
        }
        let mut service = service
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "info", "--log-format", "json", "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for this process, which then ends the other one.
            .process_group(0)
            .spawn()
            .map(Service)
            .map_err(failure)?;
        let log = service.0.stderr.take();
        *held.lock() = Some(Running { _service: service, _folder: folder });
        let target =
            log.map_or_else(|| Err(failure("it has no log")), |log| listening(BufReader::new(log)))?;
        Ok(Self { target, _held: held })
    }

    pub(super) fn target(&self) -> Target {
        self.target.clone()
    }
}

/// What runs, until this is dropped or a signal comes, whichever is first: the other one waits.
#[derive(Default)]
struct Held(Arc<Mutex<Option<Running>>>);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.lock().take());
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock()
    }

    /// At a signal, ends the service, and then this process as the signal would have.
    fn end_on_signals(&self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
        let (mut interrupt, mut terminate, mut hang_up) = {
            let _entered = runtime.enter();
            let hook = |kind| signal(kind).map_err(failure);
            (hook(SignalKind::interrupt())?, hook(SignalKind::terminate())?, hook(SignalKind::hangup())?)
        };
        let running = Self(Arc::clone(&self.0));
        let wait = move || {
            let kind = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = hang_up.recv() => SignalKind::hangup(),
                }
            });
            // Kept locked to the end, so that a run which fails as its service is gone does not end
            // the process first.
            let mut running = running.lock();
            drop(running.take());
            std::process::exit(128 + kind.as_raw_value());
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(failure)
    }
}

/// Reads the log until it says where the service listens; the rest is read and dropped, as a full
/// pipe would stop the service.
fn listening(mut log: impl BufRead + Send + 'static) -> Result<Target, Failure> {
    let mut last = "it ended at once".to_owned();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).map_err(failure)? == 0 {
            return Err(failure(last));
        }
        match serde_json::from_str::<Line>(&line) {
            Ok(Line { addr: Some(addr), message }) if message.starts_with("listening") => {
                let drained = move || std::io::copy(&mut log, &mut std::io::sink());
                std::thread::Builder::new().name("log".to_owned()).spawn(drained).map_err(failure)?;
                let addr = addr.parse().map_err(failure)?;
                return Ok(Target::at(addr, message.starts_with("listening on https:")));
            }
            Ok(Line { message, .. }) => last = message,
            Err(_) => last = line.trim().to_owned(),
        }
    }
}
