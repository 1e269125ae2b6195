//! What a configuration must be, each fault with where the value came from.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{Config, ConfigError, Group, Origin, WORKERS_MAX};
use crate::{limits, webhook};

/// Largest generation: a start reads that much again, and a seal holds its claims in RAM.
const GENERATION_BYTES_MAX: u64 = 3 << 30;
/// Requests whose bodies must fit in at once, so that one sender can't hold all the room.
const BODIES_INFLIGHT_MIN: usize = 4;

const _: () = assert!(limits::GENERATION_BYTES <= GENERATION_BYTES_MAX);
const _: () = assert!(limits::INFLIGHT_BYTES_MAX >= limits::BODY_BYTES_MAX * BODIES_INFLIGHT_MIN);

impl Config {
    /// A fault, if there is one.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.bound("workers", self.workers, 1..=WORKERS_MAX)?;
        self.bound("generation_events", self.generation_events, 1..=100_000_000)?;
        self.bound("generation_bytes", self.generation_bytes, 64 << 10..=GENERATION_BYTES_MAX)?;
        self.bound("topics_max", self.topics_max, 1..=10_000_000)?;
        self.bound("body_bytes_max", self.body_bytes_max, 1 << 10..=256 << 20)?;
        self.bound("batch_events_max", self.batch_events_max, 1..=1_000_000)?;
        self.bound("connections_max", self.connections_max, 1..=1_000_000)?;
        self.bound(
            "peer_requests_per_second",
            self.peer_requests_per_second,
            0..=limits::REQUESTS_PER_SECOND_MAX,
        )?;
        self.bound("keep_alive_seconds", self.keep_alive_seconds, 1..=limits::KEEP_ALIVE_SECONDS_MAX)?;
        if self.inflight_bytes_max / BODIES_INFLIGHT_MIN < self.body_bytes_max {
            return Err(ConfigError(format!(
                "inflight_bytes_max is {} ({}), but must hold {BODIES_INFLIGHT_MIN} bodies of body_bytes_max, which is {} ({})",
                self.inflight_bytes_max,
                self.origin("inflight_bytes_max"),
                self.body_bytes_max,
                self.origin("body_bytes_max"),
            )));
        }
        if self.proxy_protocol && self.trusted_proxy.is_empty() {
            return Err(ConfigError(format!(
                "proxy_protocol is true ({}), but no connection would be taken: name the proxies in trusted_proxy",
                self.origin("proxy_protocol")
            )));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError(format!("data_dir is empty ({})", self.origin("data_dir"))));
        }
        self.check_store()?;
        self.needs("tls_cert", &self.tls_cert, "tls_key", &self.tls_key)?;
        self.needs("tls_key", &self.tls_key, "tls_cert", &self.tls_cert)?;
        self.needs("tls_client_ca", &self.tls_client_ca, "tls_cert", &self.tls_cert)?;
        self.needs("tls_client_crl", &self.tls_client_crl, "tls_client_ca", &self.tls_client_ca)?;
        if let Some(fault) = fault_of_filter(&self.log) {
            return Err(ConfigError(format!("log is {:?} ({}): {fault}", self.log, self.origin("log"))));
        }
        webhook::Sources::check(&self.sources).map_err(|fault| ConfigError(fault.to_string()))
    }

    fn check_store(&self) -> Result<(), ConfigError> {
        if self.store.is_local() {
            let fault =
                Some(&self.group).filter(|groups| !groups.is_empty()).and_then(|all| Group::fault(all));
            return fault.map_or(Ok(()), |fault| Err(ConfigError(fault)));
        }
        let origin = self.origin("store");
        if !self.group.is_empty() {
            return Err(ConfigError(format!(
                "store ({origin}) and [[group]] both say where the store is: name one database in store, or each of several in a [[group]]"
            )));
        }
        if let Err(fault) = self.store.connections() {
            return Err(ConfigError(format!("store ({origin}): {fault}")));
        }
        if matches!(origin, Origin::Flag(_)) && self.store.has_password() {
            return Err(ConfigError(
                "the URL of the database has a password, which everybody on this machine can read in the list of \
                 processes: leave it out and name a file with --store-password-file, or set the URL as SEKALI_STORE \
                 or in the configuration"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// A fault if `key` names a file although `other`, without which it has no use, names none.
    fn needs(&self, key: &str, path: &Path, other: &str, other_path: &Path) -> Result<(), ConfigError> {
        if path.as_os_str().is_empty() || !other_path.as_os_str().is_empty() {
            return Ok(());
        }
        let (path, origin) = (path.display(), self.origin(key));
        Err(ConfigError(format!(
            "{key} is {path} ({origin}), but {other} names no file: set both, or neither"
        )))
    }

    fn bound<T: Copy + PartialOrd + Display>(
        &self,
        key: &str,
        value: T,
        bounds: RangeInclusive<T>,
    ) -> Result<(), ConfigError> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let (origin, least, most) = (self.origin(key), bounds.start(), bounds.end());
        Err(ConfigError(format!("{key} is {value} ({origin}), but must be between {least} and {most}")))
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.entries()
            .into_iter()
            .find(|entry| entry.key == key)
            .map_or(Origin::Default, |entry| entry.origin)
    }
}

/// What is wrong with a filter of the log. A word alone that is no level would be the name of a part
/// of the program, and so silence all others.
fn fault_of_filter(log: &str) -> Option<String> {
    let mut words = log.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains('='));
    match words.find(|word| word.parse::<LevelFilter>().is_err()) {
        Some(word) => Some(format!(
            "{word:?} is no level: use error, warn, info, debug, trace or off, or a filter such as info,sekali::store=debug"
        )),
        None => log.parse::<Targets>().err().map(|fault| fault.to_string()),
    }
}
