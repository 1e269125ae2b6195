//! Which topics are meant: one by its name, or all whose names begin alike.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::check_topic;
use crate::limits::TOPIC_BYTES_MAX;

/// One topic, or all whose names begin with the same bytes.
///
/// | text | topics |
/// |---|---|
/// | `orders` | the topic `orders` alone |
/// | `orders.*` | each whose name begins with `orders.` |
/// | `*` | each |
/// | `star\*` | the topic `star*` alone; `\\` stands for `\` |
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPattern {
    /// The name, or what the names begin with.
    name: Box<str>,
    is_prefix: bool,
}

impl TopicPattern {
    /// All topics.
    pub fn all() -> Self {
        Self { name: "".into(), is_prefix: true }
    }

    /// The topic of this name alone.
    pub fn only(name: &str) -> Self {
        Self { name: name.into(), is_prefix: false }
    }

    /// Whether a topic is meant. Names are compared by their bytes.
    pub fn matches(&self, topic: &[u8]) -> bool {
        let name = self.name.as_bytes();
        if self.is_prefix { topic.starts_with(name) } else { topic == name }
    }

    /// Whether every topic is meant.
    pub fn is_all(&self) -> bool {
        self.is_prefix && self.name.is_empty()
    }

    /// Whether each topic is meant that `other` means.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.is_prefix, other.is_prefix) {
            (false, true) => false,
            _ => self.matches(other.name.as_bytes()),
        }
    }
}

impl FromStr for TopicPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut name, mut is_prefix) = (String::new(), false);
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.as_str().is_empty() => is_prefix = true,
                '*' => {
                    return Err(format!(
                        "{text:?}: a * stands for any end of a name, so it comes last; write \\* for the character"
                    ));
                }
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => name.push(c),
                    _ => return Err(format!("{text:?}: after \\ comes * or \\")),
                },
                c => name.push(c),
            }
        }
        if !(is_prefix && name.is_empty()) {
            check_topic(&name).map_err(|fault| format!("{text:?} names no topic: {}", fault.message))?;
        }
        Ok(Self { name: name.into(), is_prefix })
    }
}

impl Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.name.chars() {
            if matches!(c, '*' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        if self.is_prefix { f.write_str("*") } else { Ok(()) }
    }
}

/// The topics that at least one of some patterns means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPatterns(Vec<TopicPattern>);

impl TopicPatterns {
    /// Whether a topic is meant.
    pub fn matches(&self, topic: &[u8]) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether every topic is meant.
    pub fn is_all(&self) -> bool {
        self.0.iter().any(TopicPattern::is_all)
    }

    /// The first name, from `name` on in order of bytes, that may be meant; `None` if there is
    /// none.
    pub fn next_from<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let next = |pattern: &'a TopicPattern| match &*pattern.name {
            first if first >= name => Some(first),
            first if pattern.is_prefix && name.starts_with(first) => Some(name),
            _ => None,
        };
        self.0.iter().filter_map(next).min()
    }

    /// The first and the last name that each pattern can mean, in order of bytes.
    pub fn ranges(&self) -> (Vec<String>, Vec<String>) {
        // No name with this ending is short enough to be a topic.
        let end = char::MAX.to_string().repeat(TOPIC_BYTES_MAX / char::MAX.len_utf8() + 1);
        let range = |TopicPattern { name, is_prefix }: &TopicPattern| {
            (name.to_string(), if *is_prefix { format!("{name}{end}") } else { name.to_string() })
        };
        self.0.iter().map(range).unzip()
    }

    /// The patterns.
    pub fn iter(&self) -> impl Iterator<Item = &TopicPattern> {
        self.0.iter()
    }

    /// Whether one of the patterns means each topic that `other` means.
    pub fn covers(&self, other: &TopicPattern) -> bool {
        self.0.iter().any(|pattern| pattern.covers(other))
    }

    /// Whether no topic is meant.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<TopicPattern> for TopicPatterns {
    fn from_iter<I: IntoIterator<Item = TopicPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_means_a_name_or_a_beginning() {
        let matches =
            |pattern: &str, topic: &str| pattern.parse::<TopicPattern>().unwrap().matches(topic.as_bytes());
        for (pattern, topic, expected) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.", true),
            ("orders.*", "orders", false),
            ("*", "anything", true),
            ("star\\*", "star*", true),
            ("star\\*", "stars", false),
            ("a\\\\*", "a\\b", true),
            ("Orders", "orders", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn a_pattern_covers_what_means_no_topic_beyond_its_own() {
        let pattern = |text: &str| text.parse::<TopicPattern>().unwrap();
        for (own, other, expected) in [
            ("*", "*", true),
            ("*", "orders", true),
            ("orders.*", "orders.eu.*", true),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders*", false),
            ("orders", "orders", true),
            ("orders", "orders*", false),
            ("orders.eu.*", "orders.*", false),
        ] {
            assert_eq!(pattern(own).covers(&pattern(other)), expected, "{own} {other}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for wrong in ["", "a*b", "**", "a\\", "a\\b", "line\nbreak"] {
            assert!(wrong.parse::<TopicPattern>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_next_name_that_is_meant_is_found_without_a_look_at_those_between() {
        let patterns: TopicPatterns =
            ["b", "d*", "f"].map(|text| text.parse().unwrap()).into_iter().collect();
        for (from, expected) in [
            ("", Some("b")),
            ("b", Some("b")),
            ("ba", Some("d")),
            ("dog", Some("dog")),
            ("e", Some("f")),
            ("fa", None),
        ] {
            assert_eq!(patterns.next_from(from), expected, "{from}");
        }
    }

    proptest! {
        #[test]
        fn what_is_meant_lies_between_the_first_and_the_last_name(
            name in "[a-c\u{10ffff}]{1,4}", end in "[^\\pC\u{10ffff}]{0,40}", is_prefix: bool,
        ) {
            let patterns: TopicPatterns = [TopicPattern { name: name.clone().into(), is_prefix }].into_iter().collect();
            let (first, last) = patterns.ranges();
            let topic = name + &end;
            let is_between = first[0] <= topic && topic <= last[0];
            prop_assert_eq!(patterns.matches(topic.as_bytes()), is_between);
        }

        #[test]
        fn a_pattern_is_read_back_as_it_was(name in "[^\\pC]{1,20}", is_prefix: bool) {
            let pattern = TopicPattern { name: name.into(), is_prefix };
            prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }
}
