//! What is to be moved: one table, its columns, and which of its rows.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::arguments::Database;
use super::names::{EVENT_ID, PAYLOAD, SOURCE, TIMESTAMP, TOPIC};
use super::open::Opened;
use super::repeated::Repeated;
use super::report::{self, UnclearCommand};
use super::rows::{Conversion, Event, Reason, selection};
use super::schema::{self, Given, NOTHING, Reading, Relation};
use crate::cli::exit::{Exit, Failure};

#[derive(Debug)]
pub(in super::super) struct Plan {
    opened: Opened,
    /// As the user has named it.
    pub(in super::super) path: PathBuf,
    pub(super) reading: Reading,
    conversion: Conversion,
    /// The condition that selects the rows, in SQL.
    only: String,
    /// Different ids among the rows.
    pub(super) ids: u64,
    /// Ids that several events have.
    pub(super) repeated: Repeated,
    /// Tables of events whose ids are left out.
    known: Vec<String>,
    /// Columns that stay behind, although they may hold payloads.
    pub(super) unread: Vec<String>,
    /// Tables of ids, and how many of each have no event.
    pub(super) without: Vec<(String, u64)>,
}

impl Database {
    /// Opens a database and finds what is to be moved.
    pub(super) fn planned(&self, path: &Path) -> Result<Plan, Failure> {
        let opened = Opened::open(path)?;
        let unreadable = |e| opened.unreadable(e);
        let relations = schema::relations(&opened.connection).map_err(unreadable)?;
        let search = Search { wanted: self, path, database: &opened.connection, relations: &relations };
        let failed = |e: NoPlan| e.into_failure(&opened);
        let (conversion, ids, without) = if self.ids_only {
            (Conversion::ids(path), search.ids().map_err(failed)?, Vec::new())
        } else {
            let reading = search.events().map_err(failed)?;
            let without = search.without(&reading).map_err(failed)?;
            let conversion = Conversion::Events { payload_as_text: self.payload_as_text };
            (conversion, Selected { reading, only: String::new(), known: Vec::new() }, without)
        };
        let Selected { reading, only, known } = ids;
        search.check_topic(&reading).map_err(failed)?;
        let mut unread = Vec::new();
        if self.ids_only {
            let relation = relations.iter().find(|relation| relation.name == reading.table);
            unread = relation.map(|relation| relation.may_be_payloads(search.given())).unwrap_or_default();
        }
        let distinct = format!("SELECT DISTINCT * FROM ({} {only})", reading.ids());
        let ids = count(&opened.connection, &distinct).map_err(unreadable)?;
        let mut repeated = Repeated::default();
        if !self.ids_only && ids < count(&opened.connection, &reading.ids()).map_err(unreadable)? {
            repeated = Repeated::find(&opened.connection, &reading).map_err(unreadable)?;
        }
        let path = path.to_owned();
        Ok(Plan { opened, path, reading, conversion, only, ids, repeated, known, unread, without })
    }
}

/// A table, and which of its rows.
struct Selected {
    reading: Reading,
    /// A condition in SQL.
    only: String,
    /// Tables of events whose ids it leaves out.
    known: Vec<String>,
}

/// Why there is no plan.
enum NoPlan {
    Unreadable(rusqlite::Error),
    Unclear(String),
}

impl From<rusqlite::Error> for NoPlan {
    fn from(fault: rusqlite::Error) -> Self {
        Self::Unreadable(fault)
    }
}

impl NoPlan {
    fn into_failure(self, opened: &Opened) -> Failure {
        match self {
            Self::Unreadable(fault) => opened.unreadable(fault),
            Self::Unclear(sentence) => Failure::new(Exit::Fault, sentence),
        }
    }
}

/// Looks for what the arguments mean.
struct Search<'a> {
    wanted: &'a Database,
    path: &'a Path,
    database: &'a Connection,
    relations: &'a [Relation],
}

impl Search<'_> {
    fn given(&self) -> Given<'_> {
        Given { columns: &self.wanted.columns, topic: self.wanted.topic.as_deref() }
    }

    /// A topic for all rows is none for a table that has its own.
    fn check_topic(&self, reading: &Reading) -> Result<(), NoPlan> {
        match &reading.columns[TOPIC] {
            Some(column) if self.wanted.topic.is_some() => Err(NoPlan::Unclear(format!(
                "column {} of {} holds the topics: leave out --topic, which is for tables without any",
                report::printable(column),
                report::printable(&reading.table)
            ))),
            _ => Ok(()),
        }
    }

    /// The table that holds the events.
    fn events(&self) -> Result<Reading, NoPlan> {
        let given = self.given();
        let candidates = match &self.wanted.table {
            Some(name) => vec![self.named(name)?],
            None => self.all_but(self.wanted.dedup_table.as_deref()),
        };
        let readings = schema::events(self.database, &candidates, given)?;
        if let [reading] = &readings[..] {
            return Ok(reading.clone());
        }
        let file = self.path.display();
        if !readings.is_empty() {
            let meant = |relation: &&Relation| readings.iter().any(|reading| reading.table == relation.name);
            let meant: Vec<_> = candidates.iter().filter(meant).cloned().collect();
            let sentence = format!("more than one table of {file} may hold the events:");
            return Err(self.unclear(&sentence, &meant, false));
        }
        if let Some(what) = ids_alone(&candidates, given) {
            let sentence = format!(
                "{file} holds ids without {what}, which can be moved with --ids-only: each becomes an event with \
                 the payload null, so that what comes again under its id is dropped"
            );
            return Err(self.unclear(&sentence, &candidates, true));
        }
        let sentence = format!(
            "no table of {file} has one column each for topic, event_id, timestamp and payload that can be told \
             by its name:"
        );
        Err(self.unclear(&sentence, &candidates, false))
    }

    /// The table that holds ids without events, and the condition for these.
    fn ids(&self) -> Result<Selected, NoPlan> {
        let given = self.given();
        let named = self.wanted.dedup_table.as_ref().or(self.wanted.table.as_ref());
        let candidates = match named {
            Some(name) => vec![self.named(name)?],
            None => self.relations.to_vec(),
        };
        let ids_only = candidates.iter().filter(|relation| relation.holds_ids_only(given));
        let ids_only: Vec<_> = ids_only.cloned().collect();
        // That a table holds ids alone is said by naming it as one of ids.
        if let (Some(_), None, [relation]) = (&self.wanted.table, &self.wanted.dedup_table, &candidates[..])
            && ids_only.is_empty()
        {
            let sentence = format!(
                "{} has columns that may hold the payloads of events, and ids that were moved keep their events out:",
                report::printable(&relation.name)
            );
            return Err(self.unclear(&sentence, &candidates, true));
        }
        let readings = match named {
            Some(_) => candidates.iter().filter_map(|relation| as_ids(relation, given)).collect(),
            None => schema::ids(self.database, &ids_only, given)?,
        };
        let meant = match readings.len() {
            0 => candidates,
            _ => candidates.into_iter().filter(|one| readings.iter().any(|r| r.table == one.name)).collect(),
        };
        let (mut open, mut settled) = (Vec::new(), Vec::new());
        for reading in readings {
            let (only, known) = self.only_without_event(&reading)?;
            let is_open = count(self.database, &format!("{} {only}", reading.ids()))? > 0;
            let selected = Selected { reading, only, known };
            if is_open { open.push(selected) } else { settled.push(selected) }
        }
        // A table that has an event for each id is not meant, unless all are such: then none has
        // anything to move.
        let mut left = if open.is_empty() { settled.drain(..).take(1).collect() } else { open };
        if let (1, Some(plan)) = (left.len(), left.pop()) {
            return Ok(plan);
        }
        let sentence =
            format!("it can't be told which table of {} holds ids without events:", self.path.display());
        Err(self.unclear(&sentence, &meant, true))
    }

    /// The condition for those ids of a table that have no event in another one, and these others:
    /// an id that was moved would keep its event out.
    fn only_without_event(&self, ids: &Reading) -> Result<(String, Vec<String>), NoPlan> {
        let given = self.given();
        let others = match (&self.wanted.dedup_table, &self.wanted.table) {
            (Some(_), Some(table)) => vec![self.named(table)?],
            _ => self.all_but(Some(&ids.table)),
        };
        let events = others.iter().filter(|relation| !relation.is_view && relation.may_hold_events());
        let events: Vec<_> = events.filter_map(|relation| as_ids(relation, given)).collect();
        if events.is_empty() {
            return Ok((String::new(), Vec::new()));
        }
        let known: String = events.iter().map(|events| format!(" EXCEPT {}", events.ids())).collect();
        let (topic, event_id) = (ids.column(TOPIC), ids.column(EVENT_ID));
        // What is NULL is refused by name, not left out.
        let only = format!(
            "WHERE ({}, {}) IN ({}{known}) OR {topic} IS NULL OR {event_id} IS NULL",
            ids.text(TOPIC),
            ids.text(EVENT_ID),
            ids.ids()
        );
        Ok((only, events.into_iter().map(|events| events.table).collect()))
    }

    /// Tables of ids that have some of which there is no event.
    fn without(&self, events: &Reading) -> Result<Vec<(String, u64)>, NoPlan> {
        let given = self.given();
        let tables = match &self.wanted.dedup_table {
            Some(name) => {
                let relation = self.named(name)?;
                let Some(reading) = as_ids(&relation, given) else {
                    let sentence = format!("it can't be told which columns of {name} are the ids:");
                    return Err(self.unclear(&sentence, &[relation], true));
                };
                vec![reading]
            }
            None => {
                let mut others = self.all_but(Some(&events.table));
                others.retain(|relation| relation.find(PAYLOAD, NOTHING).names.is_empty());
                schema::ids(self.database, &others, Given { topic: given.topic, ..NOTHING })?
            }
        };
        let mut without = Vec::new();
        for table in tables {
            let ids = count(self.database, &format!("{} EXCEPT {}", table.ids(), events.ids()))?;
            if ids > 0 {
                without.push((table.table, ids));
            }
        }
        Ok(without)
    }

    fn named(&self, name: &str) -> Result<Relation, NoPlan> {
        let named = self.relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(name));
        named.cloned().ok_or_else(|| {
            let sentence = format!("{} has no table {}:", self.path.display(), report::printable(name));
            self.unclear(&sentence, self.relations, self.wanted.ids_only)
        })
    }

    fn all_but(&self, name: Option<&str>) -> Vec<Relation> {
        let is_other =
            |relation: &&Relation| name.is_none_or(|name| !relation.name.eq_ignore_ascii_case(name));
        self.relations.iter().filter(is_other).cloned().collect()
    }

    /// A sentence with what there is to choose from.
    fn unclear(&self, sentence: &str, meant: &[Relation], is_for_ids: bool) -> NoPlan {
        if self.relations.is_empty() {
            return NoPlan::Unclear(format!("{} has no tables", self.path.display()));
        }
        let wanted = self.wanted;
        let typed = UnclearCommand {
            path: self.path,
            given: self.given(),
            payload_as_text: wanted.payload_as_text,
            dry_run: wanted.dry_run,
            is_for_ids,
        };
        NoPlan::Unclear(format!("{sentence}{}", report::choices(&typed, meant)))
    }
}

/// What ids are without, if tables have them and nothing that may be events.
fn ids_alone(relations: &[Relation], given: Given<'_>) -> Option<&'static str> {
    let of = |is_ids: &dyn Fn(&Relation) -> bool| -> Vec<&Relation> {
        relations.iter().filter(|relation| is_ids(relation)).collect()
    };
    let with_topics = of(&|relation| relation.as_ids(given).is_some());
    if !with_topics.is_empty() {
        return with_topics.iter().all(|relation| relation.holds_ids_only(given)).then_some("events");
    }
    let without_topics = of(&|relation| !relation.is_view && relation.has_ids(given));
    let is_any = without_topics.iter().any(|relation| relation.holds_ids_only(given));
    let has_events = without_topics.iter().any(|relation| relation.holds_payloads());
    (is_any && !has_events).then_some("events and topics")
}

/// A table of ids may have the names that were given, or names of its own.
fn as_ids(relation: &Relation, given: Given<'_>) -> Option<Reading> {
    relation.as_ids(given).or_else(|| relation.as_ids(Given { topic: given.topic, ..NOTHING }))
}

fn count(database: &Connection, selection: &str) -> rusqlite::Result<u64> {
    let query = format!("SELECT COUNT(*) FROM ({selection})");
    database.query_row(&query, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

impl Plan {
    /// Whether events are moved, not ids alone.
    pub(super) fn has_payloads(&self) -> bool {
        matches!(self.conversion, Conversion::Events { .. })
    }

    /// Gives each row, with its number and what became of it, to `take`; how many there were.
    pub(super) fn each(
        &self,
        mut take: impl FnMut(u64, Result<Event, Reason>) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let database = &self.opened.connection;
        let unreadable = |e| self.opened.unreadable(e);
        let selection = selection(database, &self.reading, &self.only);
        let mut statement = database.prepare(&selection).map_err(unreadable)?;
        let mut rows = statement.query([]).map_err(unreadable)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(unreadable)? {
            count += 1;
            let number = match row.get_ref(0).map_err(unreadable)? {
                ValueRef::Integer(number) => u64::try_from(number).unwrap_or(count),
                _ => count,
            };
            take(number, self.conversion.event(row).map_err(unreadable)?)?;
        }
        self.opened.check_unchanged()?;
        Ok(count)
    }
}

/// What was found, for a person.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.path.display(), report::printable(&self.reading.told()))?;
        let has = |field: usize| self.reading.columns[field].is_some();
        match &self.conversion {
            Conversion::Events { .. } if !has(SOURCE) => f.write_str(", source empty, as no column holds it"),
            Conversion::Events { .. } => Ok(()),
            Conversion::Ids { source, .. } => {
                if !has(TIMESTAMP) {
                    f.write_str(", timestamp the time of this move")?;
                }
                write!(f, ", source {source}, payload null")?;
                if !self.known.is_empty() {
                    let known = report::printable(&self.known.join(", "));
                    write!(f, "; ids that have an event in {known} are left out")?;
                }
                Ok(())
            }
        }
    }
}
