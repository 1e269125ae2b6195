//! `sekali consume`: has a command work through events, and acknowledges what it has done.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use sekali::consumer::ConsumerName;
use sekali::consumer::partition::Partition;
use sekali::limits::{CLIENT_PAGE_BYTES_MAX, CONSUMER_EVENTS_MAX, LEASE_SECONDS_MAX};
use sekali::sync;
use serde_json::json;
use serde_json::value::RawValue;
use ureq::http::Method;

use super::client::answers::Event;
use super::client::remote::{Patience, Pauses, Remote, escape};
use super::exit::{Exit, Failure};
use super::terminal::interrupt::Interrupt;
use super::terminal::output::{say, unwritable};

/// Seconds that the service waits for an event before it says that there is none.
const WAIT_SECONDS: u64 = 20;
/// How often a lease is renewed before it would end.
const RENEWALS: u32 = 3;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali consume billing --topic 'orders.*' --exec ./charge.sh
  sekali consume billing --batch 100 --exec 'python3 load.py'
  sekali consume billing --ndjson | jq .payload
  sekali consume billing --partition 1/4 --exec ./charge.sh

The command gets events on its stdin, one a line, as JSON. When it ends with 0 they are acknowledged; otherwise it is run again
with the same events, after longer and longer pauses. So it sees each event at least once, and each topic's in order.
While it runs, the lease is renewed, so it may take as long as it needs.
Ctrl-C or SIGTERM ends it once the command under way has ended.
Exit codes: 0 done, 1 refused or the output can't be written, 9 the service could not be reached, 130 interrupted.")]
pub(super) struct Arguments {
    #[command(flatten)]
    patience: Patience,
    /// The consumer
    name: ConsumerName,
    /// Make the consumer, if it is not there yet, for this topic or all that begin alike: orders,
    /// orders.*, *; may be given several times
    #[arg(long = "topic", value_name = "TOPICS")]
    topics: Vec<String>,
    /// Where a consumer begins that is made: start, end, a time or a cursor
    #[arg(long, value_name = "PLACE", default_value = "start", requires = "topics")]
    from: String,
    /// Run this by a shell for each batch of events
    #[arg(long, value_name = "COMMAND", required_unless_present = "ndjson", conflicts_with = "ndjson")]
    exec: Option<String>,
    /// Print events instead, one a line; what is printed is acknowledged
    #[arg(long)]
    ndjson: bool,
    /// Events of a batch, at most
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=CONSUMER_EVENTS_MAX as u64))]
    batch: u64,
    /// Only the topics of this part, such as 1/4
    #[arg(long, value_name = "PART", default_value_t = Partition::ALL)]
    partition: Partition,
    /// Seconds after which others may have a batch's events, once this worker is gone or, with --ndjson,
    /// if what it prints is not taken
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=LEASE_SECONDS_MAX))]
    lease: u64,
    /// End after so many events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// What the service gives.
#[derive(serde::Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    receipt: Option<String>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let interrupt = Interrupt::watch_ends()?;
        let mut remote = Remote::sender(self.patience.clone(), interrupt.clone())?;
        self.make(&mut remote)?;
        let holder = format!("sekali-consume-{:016x}", fastrand::u64(..));
        let worker = Worker { arguments: &self, holder };
        let done = worker.work(&mut remote, &interrupt);
        worker.give_back(&mut remote);
        done.map(|()| Exit::Success)
    }

    /// Makes the consumer, if it is to be made.
    fn make(&self, remote: &mut Remote) -> Result<(), Failure> {
        if self.topics.is_empty() {
            return Ok(());
        }
        let path = format!("/consumers/{}", self.name);
        let answer = remote.send(Method::PUT, &path, &json!({"topics": self.topics, "start": self.from}))?;
        if matches!(answer.status, 200 | 201) { Ok(()) } else { Err(remote.refused(&path, &answer)) }
    }
}

/// Whoever works for the consumer.
struct Worker<'a> {
    arguments: &'a Arguments,
    /// Its name, which no other worker has.
    holder: String,
}

impl Worker<'_> {
    fn path(&self, limit: u64, wait: u64, lease: u64) -> String {
        let Arguments { name, partition, .. } = self.arguments;
        let (partition, holder) = (partition.to_string(), escape(&self.holder));
        let partition = escape(&partition);
        format!(
            "/consumers/{name}/events?limit={limit}&wait={wait}s&lease={lease}s&partition={partition}&holder={holder}"
        )
    }

    fn work(&self, remote: &mut Remote, interrupt: &Interrupt) -> Result<(), Failure> {
        let mut left = self.arguments.limit.unwrap_or(u64::MAX);
        let (mut pauses, mut told) = (Pauses::default(), false);
        while left > 0 {
            interrupt.check()?;
            let path = self.path(self.arguments.batch.min(left), WAIT_SECONDS, self.arguments.lease);
            let answer = remote.ask(&path, CLIENT_PAGE_BYTES_MAX)?;
            if answer.status == 409 {
                if !std::mem::replace(&mut told, true) {
                    say(format_args!("{}; waiting", remote.refused(&path, &answer)));
                }
                interrupt.pause(pauses.next(None))?;
                continue;
            }
            if answer.status != 200 {
                return Err(remote.refused(&path, &answer));
            }
            let strange = |why: &dyn std::fmt::Display| remote.strange(&path, "events for a consumer", why);
            let given: Given<'_> = serde_json::from_slice(&answer.body).map_err(|e| strange(&e))?;
            let Some(receipt) = given.receipt else { continue };
            let count = given.events.len() as u64;
            let lines = lines(&given.events).map_err(|e| strange(&e))?;
            if let Err(why) = self.work_on(&lines, remote)? {
                say(format_args!("{why}; its events are not acknowledged, and it is run again"));
                interrupt.pause(pauses.next(None))?;
                continue;
            }
            (pauses, told) = (Pauses::default(), false);
            self.acknowledge(remote, &receipt)?;
            left = left.saturating_sub(count);
        }
        Ok(())
    }

    /// Has a batch worked on; why that failed, if it may go well another time.
    fn work_on(&self, lines: &str, remote: &mut Remote) -> Result<Result<(), String>, Failure> {
        let Some(shell) = &self.arguments.exec else {
            let mut out = io::stdout().lock();
            out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(unwritable)?;
            return Ok(Ok(()));
        };
        let cannot = |e| Failure::new(Exit::Fault, format!("cannot run /bin/sh: {e}"));
        let (done, ended) = sync::mpsc::channel::<()>();
        let work = move || {
            let status = run(shell, lines);
            drop(done);
            status
        };
        let pause = Duration::from_secs(self.arguments.lease) / RENEWALS;
        let mut is_held = true;
        let status = sync::in_own_thread("command", work, || match sync::recv_timeout(&ended, pause) {
            Err(sync::mpsc::RecvTimeoutError::Timeout) if is_held => is_held = self.renew(remote),
            _ => {}
        });
        let status = status.and_then(|status| status).map_err(cannot)?;
        Ok(if status.success() { Ok(()) } else { Err(format!("the command failed ({status})")) })
    }

    /// Has the lease begin anew, as every request of its holder does; whether it is still there.
    fn renew(&self, remote: &mut Remote) -> bool {
        let path = self.path(1, 0, self.arguments.lease);
        match remote.ask(&path, CLIENT_PAGE_BYTES_MAX) {
            Ok(answer) if answer.status == 409 => {
                say(format_args!("{}; the command goes on", remote.refused(&path, &answer)));
                false
            }
            // If this failed, another try is before the lease ends, or the acknowledgement is refused.
            Ok(_) | Err(_) => true,
        }
    }

    fn acknowledge(&self, remote: &mut Remote, receipt: &str) -> Result<(), Failure> {
        let path = format!("/consumers/{}/ack", self.arguments.name);
        let answer = remote.send(Method::POST, &path, &json!({"receipt": receipt}))?;
        match answer.status {
            200 => Ok(()),
            409 => {
                say(format_args!("{}; going on", remote.refused(&path, &answer)));
                Ok(())
            }
            _ => Err(remote.refused(&path, &answer)),
        }
    }

    /// Lets the lease end at once, so that nobody waits for it.
    fn give_back(&self, remote: &mut Remote) {
        // If it fails, the lease ends by itself.
        let _ = remote.ask(&self.path(1, 0, 1), CLIENT_PAGE_BYTES_MAX);
    }
}

/// Runs a command by a shell, with these lines on its stdin.
fn run(shell: &str, lines: &str) -> io::Result<ExitStatus> {
    // In a group of its own, so that Ctrl-C does not end it too.
    let mut command = Command::new("/bin/sh");
    let mut child = command.arg("-c").arg(shell).stdin(Stdio::piped()).process_group(0).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command need not read all that it is given.
        let _ = stdin.write_all(lines.as_bytes());
    }
    child.wait()
}

/// Events, one a line.
fn lines(events: &[&RawValue]) -> serde_json::Result<String> {
    let mut lines = String::new();
    for event in events {
        serde_json::from_str::<Event<'_>>(event.get())?;
        lines.push_str(event.get());
        lines.push('\n');
    }
    Ok(lines)
}
