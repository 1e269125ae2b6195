//! Results on stdout, and sentences for a person on stderr.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sekali::limits::LOG_SECONDS;

use super::text;
use crate::cli::exit::{Exit, Failure};

/// Writes a sentence to stderr. It may quote what others wrote, so controls in it are escaped.
pub(crate) fn say(sentence: impl Display) {
    // Line by line: a sentence may end with a list of commands to type, one a line.
    let sentence = sentence.to_string();
    let lines: Vec<_> = sentence.split('\n').map(text::harmless).collect();
    // If stderr is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "sekali: {}", lines.join("\n"));
}

/// Says the last sentence of a process, which does not wait for long if stderr is a pipe that
/// nobody reads.
pub(crate) fn say_in_time(sentence: String) {
    let (done, said) = mpsc::channel();
    let thread = thread::Builder::new().spawn({
        let sentence = sentence.clone();
        move || {
            say(sentence);
            // Nobody waits if it took too long.
            let _ = done.send(());
        }
    });
    match thread {
        Ok(_) => _ = said.recv_timeout(Duration::from_secs(LOG_SECONDS)),
        // The system gives no more threads, which may be what there is to say.
        Err(_) => say(sentence),
    }
}

/// Writes a result to stdout.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(unwritable)
}

/// The failure of an output that can't be written. That its reader has gone is no fault.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unwritable(fault: io::Error) -> Failure {
    let exit = match fault.kind() {
        io::ErrorKind::BrokenPipe => Exit::Success,
        _ => Exit::Fault,
    };
    Failure::new(exit, format!("cannot write the output: {fault}"))
}
