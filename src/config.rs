//! What a user may set, and where each value came from.
//!
//! One table, [`settings!`], yields the flag, the environment variable, the key of the file, the
//! default, the help text and the line of `sekali config`. A flag wins over the environment, that
//! over the file, that over the default:
//!
//! | layer | as |
//! |---|---|
//! | flag | `--body-bytes-max 1048576` |
//! | environment | `SEKALI_BODY_BYTES_MAX=1048576`; empty counts as absent; lists have commas between their entries |
//! | file (TOML) | `body_bytes_max = 1_048_576`; lists are arrays of strings |
//!
//! Variables that begin with `SEKALI_` and are no setting have no effect, and are named at start
//! ([`unknown_variables`]).

pub mod address;
mod durability;
mod group;
mod mode;
mod size;
mod slots;
mod store_url;
mod unknown;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing_subscriber::filter::Targets;

use self::address::{Address, OptionalAddress};
pub use self::durability::Durability;
pub use self::group::Group;
pub use self::mode::Mode;
pub use self::size::Size;
pub use self::slots::Slots;
pub use self::store_url::StoreUrl;
use crate::authority::{AllowedHost, AllowedOrigin};
use crate::limits;
use crate::peer::TrustedProxy;
use crate::webhook;

/// How logs are written to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, false).map_err(|_| "use auto, text or json".to_owned())
    }
}

/// Why a configuration can't be used: one sentence that names the value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No layer names the setting.
    Default,
    /// The configuration file at this path.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name.
    Flag(String),
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting as `sekali config` shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value that is in effect.
    pub value: Value,
    /// The layer that gave the value.
    pub origin: Origin,
}

/// Makes [`Layer`] and [`Config`] from one list of settings. The type after `as` is that which a
/// setting is written as.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ #[arg($($arg:tt)+)] $key:ident: $type:ty as $form:ty = $default:expr; )+) => {
        /// The settings that one layer names; `None` where it is silent.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Layer {
            $( $(#[doc = $doc])+ #[arg(long, $($arg)+)] pub $key: Option<$form>, )+
            /// Senders of webhooks, by name; the file alone has them.
            #[arg(skip)]
            #[serde(default)]
            pub sources: BTreeMap<String, webhook::Settings>,
            /// Databases that share the store's slots; the file alone has them.
            #[arg(skip)]
            #[serde(default)]
            pub group: Vec<Group>,
        }

        impl Layer {
            /// The settings that the environment names.
            ///
            /// # Errors
            /// If a value is not of its setting's type.
            pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
                let (sources, group) = (BTreeMap::new(), Vec::new());
                Ok(Self { $( $key: parsed(&environment_name(stringify!($key)), &variable)?, )+ sources, group })
            }
        }

        /// The values of all settings that are in effect.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $key: $type, )+
            /// Senders of webhooks, by name.
            pub sources: BTreeMap<String, webhook::Settings>,
            /// Databases that share the store's slots, if there are several.
            pub group: Vec<Group>,
            /// In the order of the settings; that of the groups is the last.
            origins: Vec<Origin>,
        }

        impl Config {
            fn merge(flags: Layer, environment: Layer, file: Layer, path: &Path) -> Self {
                let mut origins = Vec::new();
                $(
                    let key = stringify!($key);
                    let ($key, origin) = if let Some(value) = flags.$key {
                        (<$type>::from(value), Origin::Flag(flag_name(key)))
                    } else if let Some(value) = environment.$key {
                        (<$type>::from(value), Origin::Environment(environment_name(key)))
                    } else if let Some(value) = file.$key {
                        (<$type>::from(value), Origin::File(path.to_owned()))
                    } else {
                        ($default, Origin::Default)
                    };
                    origins.push(origin);
                )+
                origins.push(Origin::File(path.to_owned()));
                Self { $( $key, )+ sources: file.sources, group: file.group, origins }
            }

            /// Every setting, with its value and where that came from, and the groups, if there are any.
            pub fn entries(&self) -> Vec<Entry> {
                let groups = self.group.iter().map(|group| format!("{} {}", group.slots, group.store));
                let groups = Some(groups.collect::<Vec<_>>()).filter(|groups| !groups.is_empty());
                let values = [$( (stringify!($key), serde_json::json!(self.$key)), )+];
                let values = values.into_iter().chain(groups.map(|groups| ("group", serde_json::json!(groups))));
                let entry = |((key, value), origin): (_, &Origin)| Entry { key, value, origin: origin.clone() };
                values.zip(&self.origins).map(entry).collect()
            }
        }
    };
}

settings! {
    /// Address and port to listen on, or a port of 127.0.0.1; port 0 takes a free one; unix:/path
    /// is a Unix socket
    #[arg(value_name = "ADDRESS")]
    listen: Address as Address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));

    /// Mode of Unix sockets that are listened on: whoever may write may connect
    #[arg(value_name = "MODE")]
    listen_mode: Mode as Mode = Mode::OWNER;

    /// Where to listen for those who operate the service, as for --listen: health and metrics
    /// alone, and no metrics elsewhere
    #[arg(value_name = "ADDRESS")]
    ops_listen: Option<Address> as OptionalAddress = None;

    /// Host under which the service may be asked, beside localhost and its own address: a name, a
    /// domain as .example.org, or * for all; may be repeated
    #[arg(value_name = "HOST")]
    allowed_host: Vec<AllowedHost> as Vec<AllowedHost> = Vec::new();

    /// Proxy that is believed when it names the client of a request in Forwarded or X-Forwarded-For:
    /// an address, a network such as 10.0.0.0/8, or unix; may be repeated
    #[arg(value_name = "CIDR")]
    trusted_proxy: Vec<TrustedProxy> as Vec<TrustedProxy> = Vec::new();

    /// Take connections of trusted proxies alone, each of which begins with a PROXY head of version
    /// 2, as balancers send it
    #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    proxy_protocol: bool as bool = false;

    /// Origin whose pages may read and publish with a browser, such as https://app.example.org; *
    /// allows every page; may be repeated
    #[arg(value_name = "ORIGIN")]
    cors_origin: Vec<AllowedOrigin> as Vec<AllowedOrigin> = Vec::new();

    /// Certificate of the service in PEM, with those that lead to a root; with it and its key, TLS
    /// is spoken
    #[arg(value_name = "FILE")]
    tls_cert: PathBuf as PathBuf = PathBuf::new();

    /// Private key of that certificate in PEM, not encrypted
    #[arg(value_name = "FILE")]
    tls_key: PathBuf as PathBuf = PathBuf::new();

    /// Certificates in PEM of those who vouch for clients; a client need not have a certificate
    #[arg(value_name = "FILE")]
    tls_client_ca: PathBuf as PathBuf = PathBuf::new();

    /// Lists in PEM of the clients' certificates that were revoked, one of each who vouches for
    /// clients
    #[arg(value_name = "FILE")]
    tls_client_crl: PathBuf as PathBuf = PathBuf::new();

    /// URL of the PostgreSQL database that holds the store, such as postgres://user@host1,host2/events;
    /// without it the data directory does
    #[arg(value_name = "URL")]
    store: StoreUrl as StoreUrl = StoreUrl::default();

    /// File with the password of that database's user
    #[arg(value_name = "FILE")]
    store_password_file: PathBuf as PathBuf = PathBuf::new();

    /// Where an event is when it is answered, with a database: replicated (on the standbys too, as
    /// the database must be set for), or local (on the primary's disk alone)
    #[arg(value_name = "PROMISE", hide_possible_values = true)]
    store_durability: Durability as Durability = Durability::Replicated;

    /// Directory that holds the store
    #[arg(value_name = "DIR")]
    data_dir: PathBuf as PathBuf = PathBuf::from("./data");

    /// File with what is known of tokens, as `sekali token` writes it; without a name it is
    /// tokens.toml in the data directory
    #[arg(value_name = "FILE")]
    tokens_file: PathBuf as PathBuf = PathBuf::new();

    /// File with the token that becomes the first one, where a service that others can reach has
    /// none; without a name one is made, in admin-token in the data directory
    #[arg(value_name = "FILE")]
    bootstrap_token_file: PathBuf as PathBuf = PathBuf::new();

    /// Ask nobody for a token, also where others can reach the service
    #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    insecure_no_auth: bool as bool = false;

    /// Refuse to create a store where there is none, as when a volume is not mounted
    #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    must_exist: bool as bool = false;

    /// Workers that decide what is new, each the owner of its topics; may change between starts
    /// [default: half the cores]
    #[arg(value_name = "COUNT")]
    workers: usize as usize = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, WORKERS_MAX));

    /// Stored events at which a generation is full and is sealed
    #[arg(value_name = "COUNT")]
    generation_events: u64 as u64 = limits::GENERATION_EVENTS;

    /// Journal bytes at which a generation is full and is sealed; like all bytes, also with a unit:
    /// 64kB, 16MiB
    #[arg(value_name = "BYTES")]
    generation_bytes: u64 as Size = limits::GENERATION_BYTES;

    /// Most topics in the store
    #[arg(value_name = "COUNT")]
    topics_max: usize as usize = limits::TOPICS_MAX;

    /// Largest request body
    #[arg(value_name = "BYTES")]
    body_bytes_max: usize as Size = limits::BODY_BYTES_MAX;

    /// Most events in one request
    #[arg(value_name = "COUNT")]
    batch_events_max: usize as usize = limits::BATCH_EVENTS_MAX;

    /// Bytes of request bodies held at once, over all connections; at least 4 bodies, half of it
    /// for those of more than 4 MiB
    #[arg(value_name = "BYTES")]
    inflight_bytes_max: usize as Size = limits::INFLIGHT_BYTES_MAX;

    /// Connections served at once
    #[arg(value_name = "COUNT")]
    connections_max: usize as usize = limits::CONNECTIONS_MAX;

    /// Requests that each client may send a second, beyond which it gets 429; 0 is no bound
    #[arg(value_name = "COUNT")]
    peer_requests_per_second: u32 as u32 = 0;

    /// Seconds that a connection is kept without a request; more than a balancer in front keeps its
    /// own
    #[arg(value_name = "SECONDS")]
    keep_alive_seconds: u64 as u64 = limits::KEEP_ALIVE_SECONDS;

    /// How logs are written to stderr: text, json, or auto (text on a terminal, JSON otherwise)
    #[arg(value_name = "FORMAT", hide_possible_values = true)]
    log_format: LogFormat as LogFormat = LogFormat::Auto;

    /// What is logged: a level, or a filter such as info,sekali::store=debug
    #[arg(value_name = "FILTER")]
    log: String as String = "info".to_owned();
}

/// Most workers that a store may have.
const WORKERS_MAX: usize = 1_024;
/// Largest generation: a start reads that much again, and a seal holds its claims in RAM.
const GENERATION_BYTES_MAX: u64 = 3 << 30;
/// Requests whose bodies must fit in at once, so that one sender can't hold all the room.
const BODIES_INFLIGHT_MIN: usize = 4;

const _: () = assert!(limits::GENERATION_BYTES <= GENERATION_BYTES_MAX);
const _: () = assert!(limits::INFLIGHT_BYTES_MAX >= limits::BODY_BYTES_MAX * BODIES_INFLIGHT_MIN);

impl Default for Config {
    fn default() -> Self {
        Self::merge(Layer::default(), Layer::default(), Layer::default(), Path::new(""))
    }
}

impl Config {
    /// Lays `flags` over the environment, that over `file` if there is one, that over the defaults.
    ///
    /// # Errors
    /// If the file can't be read, has an unknown key, or a value is of the wrong type or out of its
    /// bounds.
    pub fn resolve(
        flags: Layer,
        variable: impl Fn(&str) -> Option<OsString>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let environment = Layer::from_environment(variable)?;
        let (layer, path) = match file {
            Some(path) => (Layer::from_file(path)?, path),
            None => (Layer::default(), Path::new("")),
        };
        let config = Self::merge(flags, environment, layer, path);
        config.check()?;
        Ok(config)
    }

    /// The databases that hold the store, each with its slots; none if the data directory does.
    pub fn groups(&self) -> Vec<Group> {
        match self.store.is_local() {
            true => self.group.clone(),
            false => vec![Group { slots: Slots::all(), store: self.store.clone() }],
        }
    }

    /// Whether the data directory holds the store.
    pub fn is_local(&self) -> bool {
        self.groups().is_empty()
    }

    /// The path of the tokens file.
    pub fn tokens_file(&self) -> PathBuf {
        match self.tokens_file.as_os_str().is_empty() {
            true => self.data_dir.join("tokens.toml"),
            false => self.tokens_file.clone(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
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
        if let Err(fault) = self.log.parse::<Targets>() {
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
                "--store has a password, which everybody on this machine can read in the list of processes: leave it \
                 out and name a file in store_password_file, or set the URL as SEKALI_STORE or in the configuration"
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

    fn origin(&self, key: &str) -> Origin {
        self.entries()
            .into_iter()
            .find(|entry| entry.key == key)
            .map_or(Origin::Default, |entry| entry.origin)
    }
}

impl Layer {
    /// The settings that a TOML file names.
    ///
    /// # Errors
    /// If it can't be read, has an unknown key, or a value is not of its setting's type.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("cannot read the configuration {}: {e}", path.display())))?;
        Self::from_toml(&text).map_err(|fault| ConfigError(format!("{}, {fault}", path.display())))
    }

    fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|fault| {
            let message = fault.message().lines().next().unwrap_or_default();
            let at = fault.span().map_or(0, |span| span.start.min(text.len()));
            let number = text[..at].matches('\n').count();
            let line = text.lines().nth(number).unwrap_or_default().trim();
            // Somebody may have written a secret of a source here, where none belongs, or a password.
            let may_be_secret = |line: &str| line.contains("sources") || line.contains("[[group");
            let is_of_source = text.lines().take(number + 1).any(may_be_secret);
            let (line, message) = match is_of_source {
                true => (line.split('=').next().unwrap_or_default().trim(), unquoted(message)),
                false => (line, message.to_owned()),
            };
            ConfigError(format!("line {}, `{line}`: {message}", number + 1))
        })
    }
}

/// A sentence without what it quotes.
fn unquoted(sentence: &str) -> String {
    match (sentence.find('"'), sentence.rfind('"')) {
        (Some(start), Some(end)) if start < end => format!("{}…{}", &sentence[..start], &sentence[end + 1..]),
        _ => sentence.to_owned(),
    }
}

/// Completes the help of every setting in `command` with its default and its environment variable.
pub fn describe(command: clap::Command) -> clap::Command {
    Config::default().entries().into_iter().fold(command, |command, entry| {
        if !command.get_arguments().any(|arg| arg.get_id() == entry.key) {
            return command;
        }
        let variable = environment_name(entry.key);
        command.mut_arg(entry.key, |arg| {
            let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains("[default:") {
                help.push_str(&format!(" [default: {}]", value_text(&entry.value)));
            }
            arg.help(format!("{help} [env: {variable}]"))
        })
    })
}

/// What is wrong with environment variables that look like settings and are none, a sentence each.
/// Those that Kubernetes makes for a service are left alone.
pub fn unknown_variables<'v>(variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> Vec<String> {
    let settings = Config::default().entries().into_iter().map(|entry| environment_name(entry.key));
    unknown::sentences(variables, settings)
}

/// A value as a person writes it.
pub fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Array(entries) if entries.is_empty() => "none".to_owned(),
        Value::Array(entries) => entries.iter().map(value_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn environment_name(key: &str) -> String {
    format!("SEKALI_{}", key.to_ascii_uppercase())
}

fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// A value as the environment has it.
trait Variable: Sized {
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! variables {
    ($($kind:ty)+) => { $(
        impl Variable for $kind {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|fault: <Self as FromStr>::Err| fault.to_string())
            }
        }
    )+ };
}

variables!(Address OptionalAddress Mode Size PathBuf bool usize u32 u64 LogFormat Durability StoreUrl String);

/// A list has commas between its entries.
impl<T: FromStr<Err: Display>> Variable for Vec<T> {
    fn read(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| entry.parse().map_err(|fault: T::Err| fault.to_string())).collect()
    }
}

fn parsed<T: Variable>(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<T>, ConfigError> {
    let Some(raw) = variable(name).filter(|raw| !raw.is_empty()) else { return Ok(None) };
    let text = raw.to_str().ok_or_else(|| ConfigError(format!("{name} is not UTF-8")))?;
    match T::read(text) {
        Ok(value) => Ok(Some(value)),
        Err(fault) => Err(ConfigError(format!("{name} is {text:?}: {fault}"))),
    }
}

#[cfg(test)]
mod tests;
