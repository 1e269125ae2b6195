//! `sekali config`, and the file that every command may take its configuration from.

use std::path::PathBuf;

use sekali::config::{Config, Layer, value_text};
use serde_json::{Map, json};

use super::exit::{Exit, Failure};
use super::terminal::output::print;
use super::terminal::text::{for_stdout, width};

/// Where the configuration comes from besides flags.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct ConfigFile {
    /// Configuration file (TOML) [env: SEKALI_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file, if one is named.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let named = || std::env::var_os("SEKALI_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(named)
    }

    /// The values in effect: `flags` over the environment over the file over the defaults.
    pub(crate) fn resolve(self, flags: Layer) -> Result<Config, Failure> {
        Config::resolve(flags, |name| std::env::var_os(name), self.path().as_deref())
            .map_err(|fault| Failure::new(Exit::Configuration, fault))
    }
}

/// Widest value that the others are aligned with.
const VALUE_WIDTH_MAX: usize = 60;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali config --workers 4
  SEKALI_LISTEN=0.0.0.0:8080 sekali config --config /etc/sekali.toml --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Layer,
    /// Print an object of {value, origin} by key
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let entries = self.file.resolve(self.flags)?.entries();
        if self.json {
            let object: Map<_, _> = entries
                .into_iter()
                .map(|e| (e.key.to_owned(), json!({"value": e.value, "origin": e.origin.to_string()})))
                .collect();
            print(format_args!("{:#}", serde_json::Value::from(object)))?;
            return Ok(Exit::Success);
        }
        let rows: Vec<_> = entries.iter().map(|e| (e.key, value_text(&e.value), &e.origin)).collect();
        let key_width = rows.iter().map(|row| row.0.len()).max().unwrap_or_default();
        let value_width = rows.iter().map(|row| width(&row.1)).max().unwrap_or_default();
        // What is longer sticks out.
        let value_width = value_width.min(VALUE_WIDTH_MAX);
        for (key, value, origin) in rows {
            let blanks = " ".repeat(value_width.saturating_sub(width(&value)));
            print(for_stdout(&format!("{key:key_width$}  {value}{blanks}  {origin}")))?;
        }
        Ok(Exit::Success)
    }
}
