//! Commands: each parses its arguments, resolves the configuration and ends with an [`Exit`].
//!
//! stdout is for results, stderr for logs, progress and faults. Nothing below this layer writes to either.

mod answers;
mod bars;
mod bench;
mod check;
mod events;
mod exchange;
mod exit;
mod get;
mod health;
mod interrupt;
mod logging;
mod memory;
mod proxy;
mod publish;
mod refusal;
mod remote;
mod repair;
mod serve;
mod show;
mod table;
mod target;
mod text;
mod threads;
mod totals;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use rustix::fs::Mode;
use sekali::clock::SystemClock;
use sekali::config::{self, Config, Layer};
use sekali::disk::SystemDisk;
use sekali::limits::LOG_SECONDS;
use sekali::metrics::Metrics;
use sekali::store::local::index::SledIndexes;
use sekali::store::local::{Options, Seams};

pub(crate) use exit::{Exit, Failure};

#[derive(Parser)]
#[command(
    name = "sekali",
    version,
    about = "An event inbox: every event, known by (topic, event_id), is stored exactly once, for ever",
    after_help = "Examples:
  sekali serve                                 start on 127.0.0.1:8080, store in ./data
  sekali publish events.ndjson                 send what a file holds, each event once
  sekali events --topic orders --follow        read what is stored, and what is being stored
  sekali bench --events 100000                 load it, and verify its counts

Exit codes: 0 done, 1 a fault was found, 2 usage, 3 bad configuration, 4 data directory in use,
  5 data directory unusable, 6 cannot listen, 7 data damaged, 8 the store failed while running,
  9 the service could not be reached, 10 no such event is stored, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take events over HTTP and store each once
    Serve(serve::Arguments),
    /// Send the events of a file, a pipe or another database
    Publish(publish::Arguments),
    /// Read stored events, or follow them as they arrive
    Events(events::Arguments),
    /// Print one stored event
    Get(get::Arguments),
    /// Show what the service has stored and dropped
    Stats(totals::StatsArguments),
    /// Show what each topic holds
    Topics(totals::TopicsArguments),
    /// Print every setting in effect and where it came from
    Config(show::Arguments),
    /// Prove that journal, indexes, filters and counters of a stopped store agree
    Verify(check::Arguments),
    /// Make the indexes of a stopped store anew from its journals
    Rebuild(check::Arguments),
    /// Give up what is damaged in the journals of a stopped store, when there is no copy to restore
    Repair(repair::Arguments),
    /// Ask a running service whether it is ready; for health checks
    Health(health::Arguments),
    /// Load a running service with seeded events and verify its counts
    Bench(bench::Arguments),
    /// Print a script that completes this program's arguments in a shell
    #[command(after_help = "Examples:
  source <(sekali completions bash)
  sekali completions fish > ~/.config/fish/completions/sekali.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from besides flags.
#[derive(clap::Args, Default)]
struct File {
    /// Configuration file (TOML) [env: SEKALI_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    /// The values in effect: `flags` over the environment over the file over the defaults.
    fn resolve(self, flags: Layer) -> Result<Config, Failure> {
        let named = || std::env::var_os("SEKALI_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let file = self.config.or_else(named);
        Config::resolve(flags, |name| std::env::var_os(name), file.as_deref())
            .map_err(|fault| Failure::new(Exit::Configuration, fault))
    }
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> Exit {
    let matches = described(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|fault| fault.exit());
    let done = match cli.command {
        Command::Serve(arguments) => arguments.run(),
        Command::Publish(arguments) => arguments.run(),
        Command::Events(arguments) => arguments.run(),
        Command::Get(arguments) => arguments.run(),
        Command::Stats(arguments) => arguments.run(),
        Command::Topics(arguments) => arguments.run(),
        Command::Config(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.verify(),
        Command::Rebuild(arguments) => arguments.rebuild(),
        Command::Repair(arguments) => arguments.run(),
        Command::Health(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Completions { shell } => complete(shell),
    };
    done.unwrap_or_else(|failure| {
        // A reader that has seen enough, such as `head`, is told nothing.
        if failure.exit != Exit::Success {
            say_in_time(failure.to_string());
        }
        failure.exit
    })
}

/// Defaults and variables of the settings, written into each command's help.
fn described(mut command: clap::Command) -> clap::Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, config::describe);
    }
    command
}

/// What this process makes from now on is its user's alone, also what sled makes, which knows no
/// modes.
fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// What the store needs of the configuration.
fn store_options(config: &Config) -> Options {
    Options {
        data_dir: config.data_dir.clone(),
        must_exist: config.must_exist,
        workers: config.workers,
        generation_events: config.generation_events,
        generation_bytes: config.generation_bytes,
        topics_max: config.topics_max,
    }
}

/// The machine's disk and clock, and sled.
fn store_seams(metrics: Metrics) -> Seams {
    Seams {
        metrics,
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        indexes: Arc::new(SledIndexes::default()),
    }
}

/// One sentence for a person, on stderr. It may quote what others wrote.
fn say(sentence: impl Display) {
    // Line by line: a list of what to type has its own.
    let sentence = sentence.to_string();
    let lines: Vec<_> = sentence.split('\n').map(text::harmless).collect();
    // If stderr is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "sekali: {}", lines.join("\n"));
}

/// The last sentence of a process: if stderr is a pipe that nobody reads, it ends without.
fn say_in_time(sentence: String) {
    let (done, said) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().spawn({
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

/// A result, on stdout.
fn print(text: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(broken)
}

/// The output can't be written. If its reader has gone, that is no fault.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(fault: std::io::Error) -> Failure {
    let exit = match fault.kind() {
        std::io::ErrorKind::BrokenPipe => Exit::Success,
        _ => Exit::Fault,
    };
    Failure::new(exit, format!("cannot write the output: {fault}"))
}

fn complete(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sekali", &mut script);
    std::io::stdout().write_all(&script).map_err(broken)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        described(Cli::command()).debug_assert();
    }
}
