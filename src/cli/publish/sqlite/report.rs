//! What is told of a move: why rows stay, what would move, and how to name what can't be found.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::names::{FIELDS, PAYLOAD, SOURCE, TIMESTAMP, TOPIC};
use super::rows::Reason;
use super::schema::{Given, Reading, Relation};

/// Rows that can't be moved, by reason.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<Reason, Rows>);

#[derive(Debug)]
struct Rows {
    count: u64,
    /// The first row of them.
    example: u64,
}

impl Refused {
    pub(super) fn add(&mut self, row: u64, reason: Reason) {
        self.0.entry(reason).or_insert(Rows { count: 0, example: row }).count += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.0.values().map(|rows| rows.count).sum()
    }

    pub(super) fn as_json(&self) -> Value {
        let reason = |(reason, Rows { count, example }): (&Reason, &Rows)| json!({"reason": reason, "rows": count, "example_row": example});
        self.0.iter().map(reason).collect()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (reason, Rows { count, example })) in self.0.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            match count {
                1 => write!(f, "{end}{count:>12} row can't be moved, row {example}: {reason}")?,
                _ => write!(f, "{end}{count:>12} rows can't be moved, such as row {example}: {reason}")?,
            }
        }
        Ok(())
    }
}

/// What a move would do.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    pub(super) reading: &'a Reading,
    pub(super) rows: u64,
    /// Different ids among all rows.
    pub(super) ids: u64,
    pub(super) refused: Refused,
}

impl Outlook<'_> {
    pub(super) fn would_move(&self) -> u64 {
        self.rows - self.refused.count()
    }

    pub(super) fn as_json(&self) -> Value {
        let columns = FIELDS.iter().zip(&self.reading.columns);
        let columns: serde_json::Map<_, _> =
            columns.map(|(field, column)| ((*field).to_owned(), json!(column))).collect();
        json!({
            "table": self.reading.table,
            "columns": columns,
            "topic": self.reading.topic,
            "rows": self.rows,
            "ids": self.ids,
            "would_move": self.would_move(),
            "refused": self.refused.as_json(),
        })
    }
}

impl fmt::Display for Outlook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} of {} rows would move", self.would_move(), self.rows)?;
        if self.ids < self.rows {
            write!(f, "; there are {} different ids, and of each the first row is stored", self.ids)?;
        }
        if self.refused.count() > 0 {
            write!(f, "\n{}", self.refused)?;
        }
        Ok(())
    }
}

/// A command that was not clear.
#[derive(Debug)]
pub(super) struct UnclearCommand<'a> {
    pub(super) path: &'a Path,
    pub(super) given: Given<'a>,
    pub(super) payload_as_text: bool,
    pub(super) dry_run: bool,
    /// Whether it is for ids alone.
    pub(super) is_for_ids: bool,
}

/// All tables, and the command for each that may be meant.
pub(super) fn choices(typed: &UnclearCommand<'_>, relations: &[Relation]) -> String {
    let mut text = String::new();
    for relation in relations {
        let columns: Vec<_> = relation.columns.iter().map(|column| printable(&column.name)).collect();
        let kind = if relation.is_view { "view" } else { "table" };
        let _ = write!(text, "\n  {kind} {} ({})", printable(&relation.name), columns.join(", "));
    }
    let fields = if typed.is_for_ids { TIMESTAMP } else { FIELDS.len() };
    let fit = |relation: &Relation| {
        (0..fields).filter(|field| !relation.find(*field, typed.given).names.is_empty()).count()
    };
    let best = relations.iter().map(fit).max().unwrap_or_default();
    let mut meant: Vec<_> = relations.iter().filter(|relation| fit(relation) == best && best > 0).collect();
    // Of tables of ids, those that may hold events too are meant only if there is no other.
    let is_ids = |relation: &&Relation| relation.holds_ids_only(typed.given);
    if typed.is_for_ids && meant.iter().any(is_ids) {
        meant.retain(is_ids);
    }
    if !meant.is_empty() {
        text.push_str("\nName what is meant, one of:");
    }
    for relation in meant {
        let unread = relation.may_be_payloads(typed.given);
        if !typed.is_for_ids {
            let _ = write!(text, "\n  {}", typed.of_events(relation));
        } else if unread.is_empty() {
            let _ = write!(text, "\n  {}", typed.of_ids(relation, "--table"));
        } else {
            let unread = printable(&unread.join(", "));
            let _ = write!(text, "\n  {}", typed.of_events(relation));
            let _ = write!(text, "\n  {}", typed.of_ids(relation, "--dedup-table"));
            let _ = write!(text, "    # if there is no payload in {unread}");
        }
    }
    text
}

impl UnclearCommand<'_> {
    /// The command for a table of ids.
    fn of_ids(&self, relation: &Relation, named_by: &str) -> String {
        self.command(&["--ids-only"], named_by, relation, TIMESTAMP)
    }

    /// The command for a table of events.
    fn of_events(&self, relation: &Relation) -> String {
        let as_text = if self.payload_as_text { &["--payload-as-text"][..] } else { &[] };
        self.command(as_text, "--table", relation, FIELDS.len())
    }

    /// The same with a table, and with those of its columns that can't be found.
    fn command(&self, options: &[&str], named_by: &str, relation: &Relation, fields: usize) -> String {
        let file = self.path.display().to_string();
        let mut text = format!("sekali publish --sqlite {}", word(&file));
        for option in options.iter().chain(self.dry_run.then_some(&"--dry-run")) {
            let _ = write!(text, " {option}");
        }
        let _ = write!(text, " {named_by} {}", word(&relation.name));
        let mut others = Vec::new();
        for (field, name) in FIELDS.iter().enumerate().take(fields) {
            let is_given = self.given.columns.iter().any(|(of, _)| *of == field);
            let mut names = relation.find(field, self.given).names;
            let is_found = !names.is_empty();
            if field == PAYLOAD && !is_given && !is_found {
                names = relation.may_be_payloads(self.given);
            }
            match &names[..] {
                [] if field == SOURCE => {}
                [] if field == TOPIC && !is_given => {
                    let topic = self.given.topic.unwrap_or("TOPIC");
                    let _ = write!(text, " --topic {}", word(topic));
                }
                [] => {
                    let _ = write!(text, " --column {name}=COLUMN");
                }
                [column] if is_given || !is_found || !column.eq_ignore_ascii_case(name) => {
                    let _ = write!(text, " --column {}", word(&format!("{name}={column}")));
                }
                [_] => {}
                // Of columns that nothing is known of, none is better than the others.
                [_, _, ..] if !is_found => {
                    let _ = write!(text, " --column {name}=COLUMN");
                    let names: Vec<_> = names.iter().map(|column| printable(column)).collect();
                    others.push(format!("{name} may be {}", names.join(", ")));
                }
                [first, more @ ..] => {
                    let _ = write!(text, " --column {}", word(&format!("{name}={first}")));
                    let more: Vec<_> = more.iter().map(|column| printable(column)).collect();
                    others.push(format!("{name} may also be {}", more.join(", ")));
                }
            }
        }
        if !others.is_empty() {
            let _ = write!(text, "    # {}", others.join("; "));
        }
        text
    }
}

/// A word as a shell takes it.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

/// A name without characters that a terminal would obey.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
