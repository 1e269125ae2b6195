//! Commands: each parses its arguments, resolves the configuration and ends with an [`Exit`].
//!
//! | room | its commands, or what several share |
//! |---|---|
//! | `bench/`, `events/`, `publish/` | the commands of these names |
//! | `offline/` | `verify`, `rebuild` and `repair`, for a store that no process has open |
//! | `client/` | what all commands share that talk to a running service |
//! | `process/` | what a process sets up that opens a store |
//! | `terminal/` | what people see and type |
//!
//! stdout is for results, stderr for logs, progress and faults. Nothing below this layer writes to
//! either.

mod bench;
mod client;
mod config;
mod consume;
mod consumers;
mod database_store;
mod events;
mod exit;
mod get;
mod health;
mod local_store;
mod move_store;
mod offline;
mod process;
mod publish;
mod regroup;
mod serve;
mod source;
mod terminal;
mod token;
mod totals;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_mangen::Man;

use self::exit::{Exit, Failure};
use self::offline::{check, repair};
use self::process::logging;
use self::terminal::output::{say_in_time, unwritable};

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
  9 the service could not be reached, 10 no such event is stored, 130 or 143 interrupted."
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
    /// List the sources of webhooks, and explain what would become of a delivery
    Source(source::Arguments),
    /// Work through events as a consumer, whose position the service keeps
    Consume(consume::Arguments),
    /// Show the consumers and how far each has got, or move one
    Consumers(consumers::Arguments),
    /// Make, list, revoke and rotate tokens
    Token(token::Arguments),
    /// Print every setting in effect and where it came from
    Config(config::Arguments),
    /// Prove that all parts of a store agree, in a data directory or in a database
    Verify(check::Verify),
    /// Rebuild the indexes of a stopped store from its journals
    Rebuild(check::Rebuild),
    /// Give up what is damaged in the journals of a stopped store, when there is no copy to restore
    Repair(repair::Arguments),
    /// Move all events of a stopped store into another one: a data directory, or a database
    Move(move_store::Arguments),
    /// Move slots into the databases that the configuration names for them
    Regroup(regroup::Arguments),
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
    /// Write the manual pages of this program and of each command into a directory
    #[command(after_help = "Examples:
  sekali man ~/.local/share/man/man1 && man sekali-serve")]
    Man {
        /// The directory, which must exist
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
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
        Command::Source(arguments) => arguments.run(),
        Command::Consume(arguments) => arguments.run(),
        Command::Consumers(arguments) => arguments.run(),
        Command::Token(arguments) => arguments.run(),
        Command::Config(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.run(),
        Command::Rebuild(arguments) => arguments.run(),
        Command::Repair(arguments) => arguments.run(),
        Command::Move(arguments) => arguments.run(),
        Command::Regroup(arguments) => arguments.run(),
        Command::Health(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Completions { shell } => complete(shell),
        Command::Man { directory } => write_manual(&directory),
    };
    logging::settle();
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
        command = command.mut_subcommand(name, sekali::config::describe);
    }
    command
}

fn complete(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sekali", &mut script);
    std::io::stdout().write_all(&script).map_err(unwritable)?;
    Ok(Exit::Success)
}

fn write_manual(directory: &Path) -> Result<Exit, Failure> {
    let mut program = described(Cli::command()).disable_help_subcommand(true);
    program.build();
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        // The library quotes no empty date, and what follows it would take its place.
        let page =
            Man::new(command.clone()).date("\"\"").source(concat!("sekali ", env!("CARGO_PKG_VERSION")));
        page.generate_to(directory).map_err(|fault| {
            let path = directory.join(page.get_filename());
            Failure::new(Exit::Fault, format!("cannot write {}: {fault}", path.display()))
        })?;
    }
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
