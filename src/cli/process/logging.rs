//! Where logs go: stderr, a line each, written by a thread of its own.
//!
//! stderr may be a pipe that nobody reads. So lines go into a bounded queue, and no thread that
//! logs or panics waits: a line for which the queue has no room is counted and dropped.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write, stderr};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use sekali::config::{Config, LogFormat};
use sekali::limits::{LOG_BYTES_MAX, LOG_SECONDS};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::exit::{Exit, Failure};

use sekali::sync::{Condvar, Mutex, MutexGuard};

/// The log of this process.
static LOG: LazyLock<Queue> = LazyLock::new(Queue::default);

/// How many lines were dropped so far.
pub(crate) fn lines_dropped() -> Arc<AtomicU64> {
    Arc::clone(&LOG.dropped)
}

/// Waits until all that was said is written, or a moment has passed: for a process that is about
/// to end.
pub(crate) fn settle() {
    LOG.wait_until_written(Duration::from_secs(LOG_SECONDS));
}

/// Starts logging as configured. JSON lines are flat:
/// `{"timestamp":…,"level":…,"message":…,"target":…, fields…}`.
pub(crate) fn start(config: &Config) -> Result<(), Failure> {
    let filter: Targets = (config.log).parse().map_err(|fault: ParseError| {
        Failure::new(Exit::Configuration, format!("log is {:?}: {fault}", config.log))
    })?;
    // The library of HTTP/2 warns of frames that clients send, each by itself: only whoever names it
    // wants that.
    let names_it = filter.iter().any(|(target, _)| target.starts_with("h2"));
    let most = filter.default_level().unwrap_or(LevelFilter::OFF).min(LevelFilter::ERROR);
    let filter = if names_it { filter } else { filter.with_target("h2", most) };
    let terminal = stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let logs = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(LOG.clone());
    let started = if json {
        logs.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .with(filter)
            .try_init()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        logs.with_ansi(colours).finish().with(filter).try_init()
    };
    started.map_err(|fault| Failure::new(Exit::Configuration, format!("cannot start logging: {fault}")))?;
    LOG.clone().write_to(stderr()).map_err(|e| {
        Failure::new(Exit::StoreFailed, format!("cannot start the thread that writes the log: {e}"))
    })?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(thread = thread.name(), place, backtrace, "a thread panicked: {message}");
    if thread.name() == Some("main") {
        // The process ends.
        settle();
    }
}

/// Lines on their way to stderr.
#[derive(Clone, Debug, Default)]
struct Queue {
    lines: Arc<(Mutex<Lines>, Condvar)>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the lines that wait.
    bytes: usize,
    /// A line has left the queue, and is not written yet.
    is_writing: bool,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.0.lock()
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        if lines.bytes + line.len() > LOG_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.bytes += line.len();
        lines.waiting.push_back(line.to_vec());
        drop(lines);
        self.lines.1.notify_all();
    }

    /// The next line, once there is one.
    fn next(&self) -> Vec<u8> {
        let mut lines = self.lines();
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                lines.bytes -= line.len();
                lines.is_writing = true;
                return line;
            }
            lines = self.lines.1.wait(lines);
        }
    }

    /// Starts the thread that writes all lines to `out`.
    fn write_to(self, mut out: impl Write + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut told = 0;
            loop {
                // If nobody can be told, the service goes on all the same.
                let _ = out.write_all(&self.next());
                let has_room = {
                    let mut lines = self.lines();
                    lines.is_writing = false;
                    lines.waiting.is_empty()
                };
                self.lines.1.notify_all();
                let dropped = self.dropped.load(Ordering::Relaxed);
                if has_room && dropped > told {
                    tracing::warn!(
                        lines = dropped - told,
                        "lines of the log were dropped, as stderr took no more"
                    );
                    told = dropped;
                }
            }
        })?;
        Ok(())
    }

    fn wait_until_written(&self, most: Duration) {
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        // What is not written by then is lost: the process must end.
        let _ = self.lines.1.wait_while(&self.lines.0, self.lines(), most, is_busy);
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, which is written at once.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let queue = Queue::default();
        let logs = tracing_subscriber::fmt().json().flatten_event(true).with_writer(queue.clone()).finish();
        let usual = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        let caught = tracing::subscriber::with_default(logs, || {
            panic::catch_unwind(|| panic!("{} is\nnot to be", 1 + 1))
        });
        panic::set_hook(usual);
        assert!(caught.is_err());
        let line: serde_json::Value = serde_json::from_slice(&queue.next()).unwrap();
        assert_eq!(line["message"], "a thread panicked: 2 is\nnot to be");
        assert!(line["place"].as_str().unwrap().starts_with(file!()), "{line}");
    }
}
