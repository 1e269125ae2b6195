//! The commands that work on a store which no process has open.

pub(crate) mod check;
pub(crate) mod repair;

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use sekali::config::{Config, Layer};

use super::config::ConfigFile;
use super::exit::Failure;
use super::process::{keep_private, logging};

/// The arguments that these commands share.
#[derive(clap::Args)]
struct Store {
    #[command(flatten)]
    file: ConfigFile,
    /// Directory that holds the store
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Store {
    /// The configuration with this store's directory and other flags. Logging has begun when it
    /// returns, and files are created for this user alone.
    fn config(self, flags: Layer) -> Result<Config, Failure> {
        let config = self.file.resolve(Layer { data_dir: self.data_dir, ..flags })?;
        logging::start(&config)?;
        keep_private();
        Ok(config)
    }
}

/// The bytes done of all bytes, on a terminal's stderr; hidden elsewhere.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let shape = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}
