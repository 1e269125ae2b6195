//! What a token allows, one thing each.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::pattern::TopicPattern;

/// Something that a token allows, as `publish:orders.*`. There is no scope that forbids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Publish events of these topics.
    Publish(TopicPattern),
    /// Read events, names and counts of these topics.
    Read(TopicPattern),
    /// Read these topics as a consumer, and acknowledge.
    Consume(TopicPattern),
    /// Read the metrics of the service.
    Metrics,
    /// Everything.
    Admin,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = |pattern: &str| pattern.parse().map_err(|why| format!("scope {text:?}: {why}"));
        match text.split_once(':') {
            Some(("publish", topics)) => Ok(Self::Publish(pattern(topics)?)),
            Some(("read", topics)) => Ok(Self::Read(pattern(topics)?)),
            Some(("consume", topics)) => Ok(Self::Consume(pattern(topics)?)),
            None if text == "metrics" => Ok(Self::Metrics),
            None if text == "admin" => Ok(Self::Admin),
            None if matches!(text, "publish" | "read" | "consume") => Err(format!(
                "scope {text:?} names no topics: write {text}:orders, {text}:orders.* or {text}:*"
            )),
            _ => Err(format!(
                "{text:?} is no scope: use publish:TOPICS, read:TOPICS, consume:TOPICS, metrics or admin"
            )),
        }
    }
}

impl Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(topics) => write!(f, "publish:{topics}"),
            Self::Read(topics) => write!(f, "read:{topics}"),
            Self::Consume(topics) => write!(f, "consume:{topics}"),
            Self::Metrics => f.write_str("metrics"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_back_as_they_were_written() {
        for text in ["publish:orders", "publish:*", "read:orders.*", "consume:a\\*", "metrics", "admin"] {
            assert_eq!(text.parse::<Scope>().map(|scope| scope.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_scope_is_told_with_what_would_be_one() {
        for (text, expected) in [
            ("publish", "publish:*"),
            ("write:*", "publish:TOPICS"),
            ("read:", "must not be empty"),
            ("read:a*b", "comes last"),
            ("metrics:*", "is no scope"),
            ("", "is no scope"),
        ] {
            let sentence = text.parse::<Scope>().unwrap_err();
            assert!(sentence.contains(expected), "{text:?}: {sentence}");
        }
    }
}
