//! The arguments of `sekali publish` that are about a database.

use std::path::PathBuf;

use super::names::FIELDS;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Moving over from a SQLite database")]
pub(crate) struct Database {
    /// Publish the events of this SQLite database, and check that all have arrived
    #[arg(long, value_name = "DATABASE")]
    pub(super) sqlite: Option<PathBuf>,
    /// Its table of events, where more than one may be meant
    #[arg(long, value_name = "NAME", requires = "sqlite")]
    pub(super) table: Option<String>,
    /// Its table of ids that were seen, where more than one may be meant
    #[arg(long, value_name = "NAME", requires = "sqlite")]
    pub(super) dedup_table: Option<String>,
    /// Column of a field, where more than one may be meant; the fields are topic, event_id,
    /// timestamp, source, payload
    #[arg(long = "column", value_name = "FIELD=NAME", requires = "sqlite", value_parser = column)]
    pub(super) columns: Vec<(usize, String)>,
    /// Topic of all that is moved, where no column holds it
    #[arg(long, value_name = "TOPIC", requires = "sqlite")]
    pub(super) topic: Option<String>,
    /// Send nothing: say how many rows would move, and why the others would not
    #[arg(long, requires = "sqlite")]
    pub(super) dry_run: bool,
    /// Move a payload that is no JSON as a JSON string
    #[arg(long, requires = "sqlite", conflicts_with = "ids_only")]
    pub(super) payload_as_text: bool,
    /// Move the ids that have no event, with the payload null, so that what comes again under them
    /// is dropped
    #[arg(long, requires = "sqlite")]
    pub(super) ids_only: bool,
}

fn column(text: &str) -> Result<(usize, String), String> {
    let (field, name) = text.split_once('=').ok_or("use FIELD=NAME")?;
    let field = FIELDS.iter().position(|known| *known == field);
    let field = field.ok_or_else(|| format!("the fields are {}", FIELDS.join(", ")))?;
    Ok((field, name.to_owned()))
}
