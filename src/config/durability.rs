//! What an answer of a database promises.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// On how many machines an event is before it is answered, where a database keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the primary and on the standbys that `synchronous_standby_names` asks for.
    #[default]
    Replicated,
    /// On the disk of the primary alone.
    Local,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, false).map_err(|_| "use replicated or local".to_owned())
    }
}
