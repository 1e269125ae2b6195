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
mod checks;
mod durability;
mod environment;
mod group;
mod log_format;
mod mode;
mod size;
mod slots;
mod store_url;
mod unknown;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use self::address::{Address, OptionalAddress};
pub use self::durability::Durability;
use self::environment::{name_of, parsed};
pub use self::group::Group;
pub use self::log_format::LogFormat;
pub use self::mode::Mode;
pub use self::size::Size;
pub use self::slots::Slots;
pub use self::store_url::StoreUrl;
use crate::authority::{AllowedHost, AllowedOrigin};
use crate::limits;
use crate::peer::TrustedProxy;
use crate::{toml_fault, webhook};

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
                Ok(Self { $( $key: parsed(&name_of(stringify!($key)), &variable).map_err(ConfigError)?, )+ sources, group })
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
                        (<$type>::from(value), Origin::Environment(name_of(key)))
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

            /// Every setting, with its value and where that came from, and the groups, if there are
            /// any.
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

    /// Proxy that is believed when it names the client of a request in Forwarded or
    /// X-Forwarded-For: an address, a network such as 10.0.0.0/8, or unix; may be repeated
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

    /// URL of the PostgreSQL database that holds the store, such as
    /// postgres://user@host1,host2/events; without it the data directory does
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

    /// File with the token that becomes the first one, where a service has none; without a name a
    /// service that others can reach makes one, in admin-token in the data directory
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
        // Somebody may have written a secret of a source here, where none belongs, or a password.
        let may_be_secret = |line: &str| {
            ["sources", "[[group", "store", "://", "password"].iter().any(|sign| line.contains(sign))
        };
        toml::from_str(text).map_err(|fault| ConfigError(toml_fault::sentence(text, &fault, may_be_secret)))
    }
}

/// Completes the help of every setting in `command` with its default and its environment variable.
pub fn describe(command: clap::Command) -> clap::Command {
    Config::default().entries().into_iter().fold(command, |command, entry| {
        if !command.get_arguments().any(|arg| arg.get_id() == entry.key) {
            return command;
        }
        let variable = name_of(entry.key);
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
    let settings = Config::default().entries().into_iter().map(|entry| name_of(entry.key));
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

fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

#[cfg(test)]
mod tests;
