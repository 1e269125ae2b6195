//! How a command opens the store in a database.

use std::sync::Arc;

use sekali::clock::SystemClock;
use sekali::config::Config;
use sekali::metrics::Metrics;
use sekali::store::postgres::{Database, Options, Postgres};

use super::exit::{Exit, Failure};

/// Opens it, or makes one.
///
/// # Errors
/// The password can't be read, or the database can't be used.
pub(crate) async fn open(config: &Config, metrics: Metrics) -> Result<Postgres, Failure> {
    Ok(Postgres::open(options(config)?, metrics, Arc::new(SystemClock)).await?)
}

/// The part of the configuration that the store needs.
///
/// # Errors
/// A URL is wrong, or the password can't be read.
pub(crate) fn options(config: &Config) -> Result<Options, Failure> {
    let wrong = |fault: String| Failure::new(Exit::Configuration, format!("store: {fault}"));
    let databases = config.groups().into_iter().map(|group| {
        let connections = group.store.connections().map_err(wrong)?;
        Ok(Database { name: group.store.to_string(), connections, slots: group.slots.iter().collect() })
    });
    Ok(Options {
        databases: databases.collect::<Result<_, Failure>>()?,
        password: password(config)?,
        durability: config.store_durability,
        must_exist: config.must_exist,
        topics_max: config.topics_max,
    })
}

/// What the file of the password has, without the end of its line.
fn password(config: &Config) -> Result<Option<Vec<u8>>, Failure> {
    let path = &config.store_password_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::new(
            Exit::Configuration,
            format!("cannot read the database's password in {}: {e}", path.display()),
        )
    })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
}
