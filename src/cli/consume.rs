//! `sekali consume`: has a command work through events, and acknowledges what it has done.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fstat, stat};
use sekali::clock::{Clock, SystemClock};
use sekali::consumer::ConsumerName;
use sekali::consumer::partition::Partition;
use sekali::limits::{CLIENT_PAGE_BYTES_MAX, CONSUMER_EVENTS_MAX, LEASE_SECONDS_MAX};
use sekali::sync;
use serde_json::json;
use serde_json::value::RawValue;
use ureq::http::Method;

use super::client::answers::{Consumer, Entries, Event, nullable};
use super::client::exchange::Answer;
use super::client::moment::place;
use super::client::remote::{Patience, Pauses, Remote, escape};
use super::exit::{Exit, Failure};
use super::terminal::interrupt::Interrupt;
use super::terminal::output::{say, unwritable};
use super::terminal::text::for_stdout;

/// Seconds that the service waits for an event before it says that there is none.
const WAIT_SECONDS: u64 = 20;
/// How often a lease is renewed before it would end.
const RENEWALS: u32 = 3;
/// A lease that ends sooner is not given back.
const GIVEN_BACK_LEAST: Duration = Duration::from_secs(2);
/// Longest wait for the answer to that.
const GIVING_BACK: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali consume billing --topic 'orders.*' --exec ./charge.sh
  sekali consume billing --batch 100 --exec 'python3 load.py'
  sekali consume billing --ndjson | jq .payload
  sekali consume billing --partition 1/4 --exec ./charge.sh

The command gets events on its stdin, one a line, as JSON. When it ends with 0 they are acknowledged; otherwise it is run again
with the same events, after longer and longer pauses. So it sees each event at least once, and each topic's in order.
While it runs, the lease is renewed, so it may take as long as it needs.
Ctrl-C or SIGTERM ends it once the command under way has ended, or at once if there is none. A second one does not wait:
the command goes on by itself, and its events are given again.
Exit codes: 0 done, 1 refused or the output can't be written, 9 the service could not be reached, 130 interrupted.")]
pub(super) struct Arguments {
    #[command(flatten)]
    patience: Patience,
    /// The name of the consumer
    name: ConsumerName,
    /// Make the consumer, if it is not there yet, for a topic or for those whose names begin so:
    /// orders, orders.*, *; may be given several times
    #[arg(long = "topic", value_name = "TOPICS")]
    topics: Vec<String>,
    /// Where a new consumer begins: start, end, a time, how long ago (10m) or a cursor
    #[arg(long, value_name = "PLACE", default_value = "start", value_parser = place, requires = "topics")]
    from: String,
    /// Run this by a shell for each batch of events
    #[arg(long, value_name = "COMMAND", required_unless_present = "ndjson", conflicts_with = "ndjson")]
    exec: Option<String>,
    /// Print events instead, one a line; what is printed is acknowledged. A stdout that is closed
    /// is refused, and so is /dev/null if the parent has opened it for reading, too
    #[arg(long)]
    ndjson: bool,
    /// Most events in a batch
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=CONSUMER_EVENTS_MAX as u64))]
    batch: u64,
    /// Only the topics of this part, such as 1/4
    #[arg(long, value_name = "PART", default_value_t = Partition::ALL)]
    partition: Partition,
    /// Seconds after which others may have a batch's events, once this worker is gone or, with
    /// --ndjson, if what it prints is not taken
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=LEASE_SECONDS_MAX))]
    lease: u64,
    /// End after this number of events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// What the service gives.
#[derive(serde::Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    events: Entries<'a>,
    #[serde(deserialize_with = "nullable")]
    receipt: Option<String>,
    #[serde(rename = "lag")]
    _lag: u64,
}

impl Given<'_> {
    /// A sentence if it can't be the answer to somebody who asked for `limit` events.
    fn fault(&self, limit: u64) -> Option<String> {
        let count = self.events.0.len() as u64;
        if count > limit {
            return Some(format!("{count} events, asked for were {limit}"));
        }
        let is_whole = self.receipt.is_some() == (count > 0);
        (!is_whole).then(|| format!("{count} events and a receipt that does not fit"))
    }
}

/// What the service says of an acknowledgement.
#[derive(serde::Deserialize)]
struct Receipt {
    acknowledged: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if self.ndjson && is_stdout_closed() {
            let sentence = "stdout is closed, so events would be acknowledged that nobody sees; to pass over them, use \
                            `sekali consumers seek`, or > /dev/null";
            return Err(Failure::new(Exit::Fault, sentence));
        }
        let interrupt = Interrupt::watch_ends()?;
        let mut remote = Remote::sender(self.patience.clone(), interrupt.clone())?;
        self.make(&mut remote)?;
        let holder = format!("sekali-consume-{:016x}", fastrand::u64(..));
        let mut worker = Worker { arguments: &self, holder, lease_ends: None };
        let done = worker.work(&mut remote, &interrupt);
        worker.give_back(&remote);
        done.map(|()| Exit::Success)
    }

    /// Makes the consumer, if it is to be made.
    fn make(&self, remote: &mut Remote) -> Result<(), Failure> {
        if self.topics.is_empty() {
            return Ok(());
        }
        let path = format!("/consumers/{}", self.name);
        let answer = remote.send(Method::PUT, &path, &json!({"topics": self.topics, "start": self.from}))?;
        if !matches!(answer.status, 200 | 201) {
            return Err(remote.refused(&path, &answer));
        }
        let strange = |why: &dyn Display| remote.strange(&path, "a consumer", why);
        let made: Consumer = serde_json::from_slice(&answer.body).map_err(|e| strange(&e))?;
        match made.name == self.name.as_str() {
            true => Ok(()),
            false => Err(strange(&format_args!("it is {}", made.name))),
        }
    }
}

/// Whoever works for the consumer.
struct Worker<'a> {
    arguments: &'a Arguments,
    /// Its name, which no other worker has.
    holder: String,
    /// When the lease ends that it has, if it has one; a little earlier, if anything.
    lease_ends: Option<Instant>,
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

    /// When a lease ends at the earliest that begins now.
    fn lease_end(&self) -> Instant {
        SystemClock.monotonic() + Duration::from_secs(self.arguments.lease)
    }

    /// Asks for events, and notes the lease that comes with them.
    fn ask(&mut self, remote: &mut Remote, path: &str) -> Result<Answer, Failure> {
        let ends = self.lease_end();
        let answer = remote.ask(path, CLIENT_PAGE_BYTES_MAX)?;
        self.lease_ends = (answer.status == 200).then_some(ends);
        Ok(answer)
    }

    /// The same where the service may wait for an event first.
    fn wait(&mut self, remote: &mut Remote, path: &str, interrupt: &Interrupt) -> Result<Answer, Failure> {
        let ends = self.lease_end();
        let answer = remote.wait_for(path, CLIENT_PAGE_BYTES_MAX, interrupt);
        match &answer {
            Ok(answer) => self.lease_ends = (answer.status == 200).then_some(ends),
            // Whoever is let wait has a lease, which is renewed meanwhile.
            Err(failure) if failure.exit == Exit::Interrupted => self.lease_ends = Some(self.lease_end()),
            Err(_) => {}
        }
        answer
    }

    fn work(&mut self, remote: &mut Remote, interrupt: &Interrupt) -> Result<(), Failure> {
        let mut left = self.arguments.limit.unwrap_or(u64::MAX);
        let (mut pauses, mut told) = (Pauses::default(), false);
        while left > 0 {
            interrupt.check()?;
            let limit = self.arguments.batch.min(left);
            let path = self.path(limit, WAIT_SECONDS, self.arguments.lease);
            let answer = self.wait(remote, &path, interrupt)?;
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
            let strange = |why: &dyn Display| remote.strange(&path, "events for a consumer", why);
            let given: Given<'_> = serde_json::from_slice(&answer.body).map_err(|e| strange(&e))?;
            if let Some(why) = given.fault(limit) {
                return Err(strange(&why));
            }
            let Some(receipt) = given.receipt else { continue };
            let count = given.events.0.len() as u64;
            let lines = lines(&given.events.0).map_err(|e| strange(&e))?;
            if let Err(why) = self.work_on(&lines, remote)? {
                say(format_args!("{why}; its events are not acknowledged, and it is run again"));
                interrupt.pause(pauses.next(None))?;
                continue;
            }
            (pauses, told) = (Pauses::default(), false);
            if self.acknowledge(remote, &receipt)? {
                left = left.saturating_sub(count);
            }
        }
        Ok(())
    }

    /// Has a batch worked on; why that failed, if it may go well another time.
    fn work_on(&mut self, lines: &str, remote: &mut Remote) -> Result<Result<(), String>, Failure> {
        let Some(shell) = &self.arguments.exec else {
            return show(lines).map(Ok);
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

    /// Starts the time of the lease again, as every request of its holder does; whether it is still
    /// there.
    fn renew(&mut self, remote: &mut Remote) -> bool {
        let path = self.path(1, 0, self.arguments.lease);
        match self.ask(remote, &path) {
            Ok(answer) if answer.status == 409 => {
                say(format_args!("{}; the command goes on", remote.refused(&path, &answer)));
                false
            }
            // If this failed, another try is before the lease ends, or the acknowledgement is
            // refused.
            Ok(_) | Err(_) => true,
        }
    }

    /// Acknowledges what was done; whether that came in time.
    fn acknowledge(&mut self, remote: &mut Remote, receipt: &str) -> Result<bool, Failure> {
        let path = format!("/consumers/{}/ack", self.arguments.name);
        let answer = remote.send(Method::POST, &path, &json!({"receipt": receipt}))?;
        match answer.status {
            200 => match serde_json::from_slice(&answer.body) {
                Ok(Receipt { acknowledged: true }) => Ok(true),
                Ok(_) => {
                    Err(remote.strange(&path, "an acknowledgement", "it says that nothing was acknowledged"))
                }
                Err(e) => Err(remote.strange(&path, "an acknowledgement", e)),
            },
            409 => {
                say(format_args!("{}; going on", remote.refused(&path, &answer)));
                self.lease_ends = None;
                Ok(false)
            }
            _ => Err(remote.refused(&path, &answer)),
        }
    }

    /// Lets the lease end soon, so that nobody waits for it. Whoever has none, or one that is about
    /// to end, would be given another one by that, with events that nobody works on.
    fn give_back(&self, remote: &Remote) {
        let left = self.lease_ends.map(|ends| ends.saturating_duration_since(SystemClock.monotonic()));
        if left.is_some_and(|left| left > GIVEN_BACK_LEAST) {
            // If it fails, the lease ends by itself.
            let _ = remote.route().get(&self.path(1, 0, 1), GIVING_BACK, CLIENT_PAGE_BYTES_MAX);
        }
    }
}

/// Whether the process was started without a stdout. Rust's runtime then opens /dev/null in its
/// place, for reading and writing; a shell's `> /dev/null` is for writing alone. A parent that
/// opens it for both, as some do to drop an output, can't be told apart.
fn is_stdout_closed() -> bool {
    let stdout = io::stdout();
    let device = |about: rustix::fs::Stat| about.st_rdev;
    let is_null = fstat(&stdout).map(device).is_ok_and(|own| stat("/dev/null").map(device) == Ok(own));
    is_null && fcntl_getfl(&stdout).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
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

/// Prints lines; harmless ones on a terminal.
fn show(lines: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut written = Ok(());
    for line in lines.lines() {
        written = written.and_then(|()| writeln!(out, "{}", for_stdout(line)));
    }
    written.and_then(|()| out.flush()).map_err(unwritable)
}

/// Events, one a line.
fn lines(events: &[&RawValue]) -> serde_json::Result<String> {
    let mut lines = String::new();
    for event in events {
        serde_json::from_str::<Event<'_>>(event.get())?;
        // A payload is kept as it came. Ends of lines stand between its tokens only, where any
        // space does.
        lines.push_str(&event.get().replace(['\n', '\r'], " "));
        lines.push('\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_payload_is_laid_out_like() {
        let event = "{\"topic\":\"t\",\"event_id\":\"1\",\"timestamp\":\"x\",\"source\":\"s\",\
                     \"payload\":{\r\n  \"a\": [1,\n2],\"b\":\"\\n\"\n},\"offset\":0,\"received_at\":\"x\"}";
        let raw: Vec<&RawValue> = vec![serde_json::from_str(event).unwrap(); 2];
        let lines = lines(&raw).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        for line in lines.lines() {
            let (same, same_event): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(line).unwrap(), serde_json::from_str(event).unwrap());
            assert_eq!(same, same_event);
        }
    }
}
