//! `sekali token`: makes, lists, revokes and rotates tokens, in the tokens file.

use std::path::PathBuf;
use std::time::Duration;

use sekali::auth::scope::Scope;
use sekali::auth::token::Token;
use sekali::auth::tokens_file::{Entry, TokensFile};
use sekali::clock::{Clock, SystemClock, Timestamp};
use sekali::config::Layer;

use super::config::ConfigFile;
use super::exit::{Exit, Failure};
use super::terminal::output::{print, say};
use super::terminal::text::for_stdout;

/// Longer ones are slips, and times have years of four digits.
const SPAN_MAX: Duration = Duration::from_secs(1_000 * 366 * 86_400);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali token create --name checkout --allow 'publish:orders.*' --source checkout --expires 90d
  sekali token create --name reports --allow 'read:*' --allow metrics
  sekali token list
  sekali token rotate 8hQ2mVx0Lr --overlap 1d
  sekali token revoke 8hQ2mVx0Lr

A running service sees every change within a second. Exit codes: 0 done, 1 no token has this id or
it is not valid any more, 3 the tokens file is wrong.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token and print it; it is not shown again
    Create {
        #[command(flatten)]
        path: TokensPath,
        /// What people call it, such as the service that uses it
        #[arg(long)]
        name: String,
        /// What it allows: publish:TOPICS, read:TOPICS, consume:TOPICS, metrics or admin, where
        /// TOPICS is a topic or the beginning of its name and *; may be repeated
        #[arg(long, value_name = "SCOPE", required = true)]
        allow: Vec<Scope>,
        /// Source that its events may name, and no other; may be repeated
        #[arg(long)]
        source: Vec<String>,
        /// How long it is valid, such as 90d [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = span)]
        expires: Option<Duration>,
    },
    /// List tokens, and what they allow
    List {
        #[command(flatten)]
        path: TokensPath,
        /// Print an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Refuse a token from now on; what goes on with it ends within a second
    Revoke {
        #[command(flatten)]
        path: TokensPath,
        /// The id of the token, which stands after sekali_
        id: String,
    },
    /// Make a token that allows the same as another one, and print it
    Rotate {
        #[command(flatten)]
        path: TokensPath,
        /// The id of the token to replace
        id: String,
        /// How long the old one stays valid
        #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = span)]
        overlap: Duration,
    },
}

/// Where the tokens file is.
#[derive(clap::Args)]
struct TokensPath {
    #[command(flatten)]
    file: ConfigFile,
    /// The tokens file [default: tokens.toml in the data directory] [env: SEKALI_TOKENS_FILE]
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
    /// Directory that holds the store [default: ./data] [env: SEKALI_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl TokensPath {
    fn resolve(self) -> Result<PathBuf, Failure> {
        let Self { file, tokens_file, data_dir } = self;
        let config = file.resolve(Layer { tokens_file, data_dir, ..Layer::default() })?;
        Ok(config.tokens_file())
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Create { path, name, allow, source, expires } => {
                let (token, now) = (Token::generate()?, SystemClock.now());
                let expires = expires.map(|after| later(now, after));
                let entry = Entry { source, expires, ..Entry::new(&token, &name, allow, now) };
                edit(path, |file| {
                    file.tokens.push(entry);
                    Ok(())
                })?;
                show(&token, "made")
            }
            Command::List { path, json } => list(path, json),
            Command::Revoke { path, id } => {
                let now = SystemClock.now();
                edit(path, |file| {
                    find(file, &id)?.revoked.get_or_insert(now);
                    Ok(())
                })?;
                say(format_args!("the token {id} is revoked"));
                Ok(Exit::Success)
            }
            Command::Rotate { path, id, overlap } => {
                let (token, now) = (Token::generate()?, SystemClock.now());
                edit(path, |file| {
                    let old = find(file, &id)?;
                    check_valid(old, now)?;
                    let until = later(now, overlap);
                    let was = old.expires.replace(old.expires.map_or(until, |was| was.min(until)));
                    let Entry { name, allow, source, created, .. } = old.clone();
                    // The new one is valid for as long as the old one was to be.
                    let expires =
                        was.map(|was| Timestamp(now.0.saturating_add(was.0.saturating_sub(created.0))));
                    let new = Entry { source, expires, ..Entry::new(&token, &name, allow, now) };
                    file.tokens.push(new);
                    Ok(())
                })?;
                show(&token, "made in its place")
            }
        }
    }
}

/// Prints a token, alone, so that it can be piped.
fn show(token: &Token, how: &str) -> Result<Exit, Failure> {
    say(format_args!("the token {} is {how}; this is shown once:", token.id()));
    print(token.reveal())?;
    Ok(Exit::Success)
}

/// Changes the tokens file.
fn edit(
    path: TokensPath,
    change: impl FnOnce(&mut TokensFile) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = path.resolve()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.exists()) {
        let sentence = format!(
            "there is no directory {}: name the one of the service with --data-dir, or a file with --tokens-file",
            folder.display()
        );
        return Err(Failure::new(Exit::Unusable, sentence));
    }
    // A wrong file is told before anything is changed, as what it is.
    TokensFile::read(&path).map_err(|e| Failure::new(Exit::Configuration, e))?;
    TokensFile::edit(&path, change)
}

fn find<'f>(file: &'f mut TokensFile, id: &str) -> Result<&'f mut Entry, Failure> {
    let found = file.tokens.iter_mut().find(|entry| entry.id == id);
    found.ok_or_else(|| {
        Failure::new(Exit::Fault, format!("no token has the id {id:?}; `sekali token list` shows all"))
    })
}

/// A token that is refused must not come back as another one that is let in.
fn check_valid(entry: &Entry, now: Timestamp) -> Result<(), Failure> {
    match state(entry, now) {
        "valid" => Ok(()),
        state => {
            let sentence =
                format!("the token {} is {state}: make another one with `sekali token create`", entry.id);
            Err(Failure::new(Exit::Fault, sentence))
        }
    }
}

/// A span of time up to when a token ends.
fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match span <= SPAN_MAX {
        true => Ok(span),
        false => Err("a token that expires does so within 1000 years".to_owned()),
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

fn list(path: TokensPath, json: bool) -> Result<Exit, Failure> {
    let path = path.resolve()?;
    let file = TokensFile::read(&path).map_err(|e| Failure::new(Exit::Configuration, e))?;
    let Some(file) = file else {
        if json {
            print("[]")?;
        } else {
            say(format_args!("there is no tokens file {}", path.display()));
        }
        return Ok(Exit::Success);
    };
    let now = SystemClock.now();
    if json {
        let tokens: Vec<_> = file.tokens.iter().map(|entry| object(entry, now)).collect();
        print(format_args!("{:#}", serde_json::Value::from(tokens)))?;
        return Ok(Exit::Success);
    }
    for entry in &file.tokens {
        let allow: Vec<_> = entry.allow.iter().map(Scope::to_string).collect();
        let source = match entry.source.as_slice() {
            [] => String::new(),
            sources => format!("  as {}", sources.join(", ")),
        };
        let expires = entry.expires.map_or(String::new(), |at| format!("  until {at}"));
        let line = format!(
            "{}  {:8}{}  {}{source}{expires}",
            entry.id,
            state(entry, now),
            entry.name,
            allow.join(" ")
        );
        print(for_stdout(&line))?;
    }
    Ok(Exit::Success)
}

fn state(entry: &Entry, now: Timestamp) -> &'static str {
    match entry {
        Entry { revoked: Some(_), .. } => "revoked",
        Entry { expires: Some(expires), .. } if *expires <= now => "expired",
        _ => "valid",
    }
}

/// What is told of a token: all but its digest, which is of no use to anybody.
fn object(entry: &Entry, now: Timestamp) -> serde_json::Value {
    let Entry { id, name, allow, source, created, expires, revoked, .. } = entry;
    serde_json::json!({
        "id": id,
        "name": name,
        "state": state(entry, now),
        "allow": allow,
        "source": source,
        "created": created,
        "expires": expires,
        "revoked": revoked,
    })
}
