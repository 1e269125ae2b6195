//! `sekali config`.

use sekali::config::{Layer, shown};
use serde_json::{Map, json};

use super::text::{shown_here, width};
use super::{Exit, Failure, File, print};

/// Widest value that the others are aligned with.
const VALUE_WIDTH_MAX: usize = 60;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali config --workers 4
  SEKALI_LISTEN=0.0.0.0:8080 sekali config --config /etc/sekali.toml --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: File,
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
        let rows: Vec<_> = entries.iter().map(|e| (e.key, shown(&e.value), &e.origin)).collect();
        let key_width = rows.iter().map(|row| row.0.len()).max().unwrap_or_default();
        let value_width = rows.iter().map(|row| width(&row.1)).max().unwrap_or_default();
        // What is longer sticks out.
        let value_width = value_width.min(VALUE_WIDTH_MAX);
        for (key, value, origin) in rows {
            let blanks = " ".repeat(value_width.saturating_sub(width(&value)));
            print(shown_here(&format!("{key:key_width$}  {value}{blanks}  {origin}")))?;
        }
        Ok(Exit::Success)
    }
}
