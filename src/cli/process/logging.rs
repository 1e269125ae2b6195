//! Where logs go: stderr, a line each, written by a thread of its own.
//!
//! stderr may be a pipe that nobody reads. So lines go into a bounded queue, and no thread that
//! logs waits: a line for which the queue has no room is counted and dropped.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
#[derive(Clone, Debug)]
pub(crate) struct Log(Queue);

impl Log {
    /// How many lines were dropped so far.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.dropped)
    }

    /// Waits until all that was said is written, or a moment has passed: for a process that is
    /// about to end.
    pub(crate) fn settle(&self) {
        self.0.wait_until_written(Duration::from_secs(LOG_SECONDS));
    }
}

/// Starts logging as configured. JSON lines are flat:
/// `{"timestamp":…,"level":…,"message":…,"target":…, fields…}`.
pub(crate) fn start(config: &Config) -> Result<Log, Failure> {
    let filter: Targets = (config.log).parse().map_err(|fault: ParseError| {
        Failure::new(Exit::Configuration, format!("log is {:?}: {fault}", config.log))
    })?;
    let terminal = stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let queue = Queue::default();
    let logs = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(queue.clone());
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
    queue.clone().write_to(stderr()).map_err(|e| {
        Failure::new(Exit::StoreFailed, format!("cannot start the thread that writes the log: {e}"))
    })?;
    Ok(Log(queue))
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
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
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
