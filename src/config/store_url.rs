//! Where events are kept: the data directory, or a database that a URL names.

use std::fmt::{self, Debug, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::config::Host;

/// The URL of a database, which may have a password; or nothing, which means the data directory.
///
/// It is shown without the password and its options. Reading it fails for no text that could have a
/// password, as whoever reads it tells that text; [`StoreUrl::connections`] says what is wrong.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct StoreUrl(String);

/// What stands in the place of a URL that can't be read.
const UNREADABLE: &str = "a URL that can't be read";

impl StoreUrl {
    /// Whether events are kept in the data directory.
    pub fn is_local(&self) -> bool {
        self.0.is_empty()
    }

    /// What it says of connections, its password among it.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without the text itself.
    pub fn connections(&self) -> Result<tokio_postgres::Config, String> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| self.0.starts_with(scheme)) {
            return Err(
                "it must begin with postgres://, as in postgres://user@host1,host2/database".to_owned()
            );
        }
        let connections: tokio_postgres::Config = self.0.parse().map_err(|_| {
            "it is no URL of a database: write postgres://user@host:5432/database, with %20 for a space, and only \
             the parameters that docs/how-to/postgresql.md has"
        })?;
        match connections.get_hosts().is_empty() {
            true => Err("it names no host: write postgres://user@host/database".to_owned()),
            false => Ok(connections),
        }
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.connections().is_ok_and(|connections| connections.get_password().is_some())
    }
}

impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.is_empty() {
            true => Err("it names no database: leave it out if the data directory is meant"),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_local() {
            return Ok(());
        }
        let Ok(connections) = self.connections() else { return f.write_str(UNREADABLE) };
        f.write_str("postgres://")?;
        if let Some(user) = connections.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = connections.get_ports();
        for (number, host) in connections.get_hosts().iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "," })?;
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
            if let Some(port) = ports.get(number).or(ports.last()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", connections.get_dbname().unwrap_or_default())
    }
}

impl Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://me:s3cret@one:5433,two:5434/events?sslmode=require",
            "postgres://me@one/events?password=s3cret",
            "postgres://me:s3cret@one/events?no_such=option",
            "s3cret",
        ] {
            let url = url(text);
            let shown = format!("{url} {url:?} {} {:?}", serde_json::json!(url), url.connections().err());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let with = url("postgres://me:s3cret@one:5433,two:5434/events");
        assert_eq!(with.to_string(), "postgres://me@one:5433,two:5434/events");
        assert!(with.has_password() && !url("postgres://me@one/events").has_password());
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused() {
        for text in ["mysql://one/events", "postgres:///events", "postgres://one/events?port=x"] {
            assert!(url(text).connections().is_err(), "{text}");
        }
        assert!("".parse::<StoreUrl>().is_err() && !url("postgres://one/events").is_local());
    }
}
