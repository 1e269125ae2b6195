//! `sekali source`: what is configured of webhooks, and what would become of one.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sekali::clock::{Clock, SystemClock, Timestamp};
use sekali::config::{Config, Layer};
use sekali::limits::DELIVERY_BYTES_MAX;
use sekali::webhook::{Delivery, Explanation, Settings, Sources, Taken};
use serde_json::{Value, json};

use super::config::ConfigFile;
use super::exit::{Exit, Failure};
use super::terminal::output::{print, say};
use super::terminal::text::for_stdout;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali source list --config /etc/sekali/config.toml
  sekali source test stripe --body event.json --header 'Stripe-Signature: t=1795341600,v1=5257a8…'
  sekali source test github --body - --header 'X-Hub-Signature-256: sha256=…' --json < body

Nothing is sent or stored. Exit codes: 0 done, or the delivery would be taken, 1 it would be
refused, or a secret in a list can't be read, 3 the configuration is wrong, or the secret of the
source that is tested can't be read.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the sources of webhooks, and whether their secrets can be read
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Print an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Explain step by step what would become of a delivery
    Test {
        #[command(flatten)]
        file: ConfigFile,
        /// The name of the source
        name: String,
        /// File with the body, byte for byte; - is stdin
        #[arg(long, value_name = "FILE")]
        body: PathBuf,
        /// A header of the delivery, as NAME: VALUE; may be repeated
        #[arg(long, value_name = "HEADER", value_parser = header)]
        header: Vec<(String, String)>,
        /// What follows the ? of its URL
        #[arg(long, default_value = "")]
        query: String,
        /// When it arrives: a date-time or a Unix time [default: now]
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<Timestamp>,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

/// A header, its name in lower case.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME: VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "write a date-time such as 2026-11-22T10:00:00Z, or a Unix time".to_owned())
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::List { file, json } => list(&file.resolve(Layer::default())?, json),
            Command::Test { file, name, body, header, query, at, json } => {
                let config = file.resolve(Layer::default())?;
                let body = read_body(&body)?;
                let headers: Vec<_> =
                    header.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
                let delivery = Delivery { headers: &headers, query: &query, body: &body };
                let explanation = explain(&config, &name, delivery, at.unwrap_or_else(|| SystemClock.now()))?;
                show(&name, &explanation, json)?;
                Ok(if explanation.status == 200 { Exit::Success } else { Exit::Fault })
            }
        }
    }
}

fn explain(
    config: &Config,
    name: &str,
    delivery: Delivery<'_>,
    at: Timestamp,
) -> Result<Explanation, Failure> {
    let Some((name, settings)) = config.sources.get_key_value(name) else {
        let names: Vec<_> = config.sources.keys().map(String::as_str).collect();
        let there = if names.is_empty() {
            "there are none; name a file with --config".to_owned()
        } else {
            names.join(", ")
        };
        return Err(Failure::new(Exit::Fault, format!("no source is called {name:?}: {there}")));
    };
    // The secrets of others do not matter.
    let alone = [(name.clone(), settings.clone())].into();
    let sources = Sources::load(&alone).map_err(|e| Failure::new(Exit::Configuration, e))?;
    for warning in sources.iter().flat_map(sekali::webhook::Source::warnings) {
        say(warning);
    }
    let source = sources.first().ok_or_else(|| Failure::new(Exit::Fault, "there is no source"))?;
    Ok(source.explain(delivery, at))
}

fn read_body(path: &Path) -> Result<Bytes, Failure> {
    let unreadable = |e| Failure::new(Exit::Fault, format!("cannot read the body {}: {e}", path.display()));
    let mut body = Vec::new();
    let most = DELIVERY_BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut body).map_err(unreadable)?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut body))
            .map_err(unreadable)?;
    }
    if body.len() > DELIVERY_BYTES_MAX {
        let sentence =
            format!("the body has more than {DELIVERY_BYTES_MAX} bytes, and would be refused with 413");
        return Err(Failure::new(Exit::Fault, sentence));
    }
    Ok(body.into())
}

fn show(name: &str, explanation: &Explanation, json: bool) -> Result<(), Failure> {
    let Explanation { steps, status, taken } = explanation;
    let what = match (status, taken) {
        (_, Some(Taken::Challenge(_))) => "the challenge would be answered",
        (_, Some(Taken::Quarantined(..))) => "it would go to the quarantine",
        (_, Some(Taken::Events(_))) => "it would be stored, or is a duplicate",
        (401, None) => "it would be refused as not genuine",
        (413, None) => "it would be refused: it is genuine, and too large",
        (415, None) => "it would be refused: its body is compressed",
        (_, None) => "it would be refused: it is genuine, and no event",
    };
    if json {
        let step = |step: &sekali::webhook::Step| json!({"step": step.name, "ok": step.is_good, "found": step.found});
        let steps: Vec<Value> = steps.iter().map(step).collect();
        let object = json!({"source": name, "status": status, "result": what, "steps": steps});
        return print(format_args!("{object:#}"));
    }
    for step in steps {
        let sign = if step.is_good { "ok" } else { "no" };
        print(for_stdout(&format!("{sign}  {:10}  {}", step.name, step.found)))?;
    }
    print(for_stdout(&format!("{status}: {what}")))
}

fn list(config: &Config, json: bool) -> Result<Exit, Failure> {
    let loaded: Vec<_> = config
        .sources
        .iter()
        .map(|(name, settings)| {
            let alone = [(name.clone(), settings.clone())].into();
            (name, settings, Sources::load(&alone).err().map(|e| e.to_string()))
        })
        .collect();
    let is_good = loaded.iter().all(|(_, _, fault)| fault.is_none());
    if json {
        let objects: Vec<Value> =
            loaded.iter().map(|(name, settings, fault)| object(name, settings, fault.as_deref())).collect();
        print(format_args!("{:#}", Value::from(objects)))?;
    } else {
        if loaded.is_empty() {
            say(
                "there are no sources: add a table [sources.NAME] to the configuration file, and name it with --config",
            );
        }
        for (name, settings, fault) in &loaded {
            let state = fault.as_deref().unwrap_or("ready");
            let (kind, path) = (kind(settings), format!("/in/{name}"));
            print(for_stdout(&format!("{path:24}  {kind:18}  {state}")))?;
        }
    }
    Ok(if is_good { Exit::Success } else { Exit::Fault })
}

/// The preset or the scheme of a source.
fn kind(settings: &Settings) -> &str {
    settings.preset.as_deref().or(settings.scheme.as_deref()).unwrap_or_default()
}

fn object(name: &str, settings: &Settings, fault: Option<&str>) -> Value {
    let Settings {
        preset,
        scheme,
        topic,
        event_id,
        timestamp,
        tolerance,
        headers,
        quarantine,
        secret_files,
        ..
    } = settings;
    json!({
        "name": name,
        "path": format!("/in/{name}"),
        "preset": preset,
        "scheme": scheme,
        "topic": topic,
        "event_id": event_id,
        "timestamp": timestamp,
        "tolerance": tolerance,
        "headers": headers,
        "quarantine": quarantine,
        "secret_files": secret_files,
        "fault": fault,
    })
}
