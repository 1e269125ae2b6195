//! Where logs go: stderr, a line each.

use std::io::{IsTerminal, stderr};

use sekali::config::{Config, LogFormat};
use tracing_subscriber::EnvFilter;

use super::{Exit, Failure};

/// Starts logging as configured. JSON lines are flat: `{"timestamp":…,"level":…,"message":…,"target":…, fields…}`.
pub(super) fn start(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .parse(&config.log)
        .map_err(|fault| Failure::new(Exit::Configuration, format!("log is {:?}: {fault}", config.log)))?;
    let terminal = stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = if json {
        logs.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        logs.with_ansi(colours).with_target(false).try_init()
    };
    started.map_err(|fault| Failure::new(Exit::Configuration, format!("cannot start logging: {fault}")))
}
