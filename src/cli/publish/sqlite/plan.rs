//! What is to be moved: one table, its columns, and which of its rows.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::arguments::Database;
use super::names::{EVENT_ID, SOURCE, TIMESTAMP, TOPIC};
use super::open::Opened;
use super::report::{self, UnclearCommand};
use super::rows::{Conversion, Event, Reason, selection};
use super::schema::{self, Reading, Relation};
use crate::cli::exit::{Exit, Failure};

/// The option that moves ids without events.
const IDS_ONLY: &str = "--ids-only";

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
        let (reading, conversion, only, without) = if self.ids_only {
            let (reading, only) = search.ids().map_err(|e| e.into_failure(&opened))?;
            (reading, Conversion::ids(path), only, Vec::new())
        } else {
            let reading = search.events().map_err(|e| e.into_failure(&opened))?;
            let without = search.without(&reading).map_err(|e| e.into_failure(&opened))?;
            (reading, Conversion::Events { payload_as_text: self.payload_as_text }, String::new(), without)
        };
        let distinct = format!("SELECT DISTINCT * FROM ({} {only})", reading.ids());
        let ids = count(&opened.connection, &distinct).map_err(unreadable)?;
        Ok(Plan { opened, path: path.to_owned(), reading, conversion, only, ids, without })
    }
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
    /// The table that holds the events.
    fn events(&self) -> Result<Reading, NoPlan> {
        let given = &self.wanted.columns;
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
        let ids = match &self.wanted.table {
            Some(_) => candidates.iter().filter_map(|relation| relation.as_ids(given)).collect(),
            None => schema::ids(self.database, &candidates, given)?,
        };
        if !ids.is_empty() && candidates.iter().all(|relation| !relation.may_hold_events(given)) {
            let sentence = format!(
                "{file} holds ids without events, which can be moved with {IDS_ONLY}: each becomes an event with \
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
    fn ids(&self) -> Result<(Reading, String), NoPlan> {
        let given = &self.wanted.columns;
        let named = self.wanted.dedup_table.as_ref().or(self.wanted.table.as_ref());
        let candidates = match named {
            Some(name) => vec![self.named(name)?],
            None => self.relations.to_vec(),
        };
        let readings = match named {
            Some(_) => candidates.iter().filter_map(|relation| as_ids(relation, given)).collect(),
            None => schema::ids(self.database, &candidates, given)?,
        };
        let meant = match readings.len() {
            0 => candidates,
            _ => candidates.into_iter().filter(|one| readings.iter().any(|r| r.table == one.name)).collect(),
        };
        let (mut open, mut settled) = (Vec::new(), Vec::new());
        for reading in readings {
            let only = self.only_without_event(&reading)?;
            let is_open = count(self.database, &format!("{} {only}", reading.ids()))? > 0;
            if is_open { open.push((reading, only)) } else { settled.push((reading, only)) }
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

    /// The condition for those ids of a table that have no event in another one: an id that was
    /// moved would keep its event out.
    fn only_without_event(&self, ids: &Reading) -> Result<String, NoPlan> {
        let given = &self.wanted.columns;
        let others = match (&self.wanted.dedup_table, &self.wanted.table) {
            (Some(_), Some(table)) => vec![self.named(table)?],
            _ => self.all_but(Some(&ids.table)),
        };
        let events = others.iter().filter(|relation| !relation.is_view && relation.holds_payloads());
        let known: String = events
            .filter_map(|relation| as_ids(relation, given))
            .map(|events| format!(" EXCEPT {}", events.ids()))
            .collect();
        if known.is_empty() {
            return Ok(String::new());
        }
        let (topic, event_id) = (ids.column(TOPIC), ids.column(EVENT_ID));
        // What is NULL is refused by name, not left out.
        Ok(format!(
            "WHERE (CAST({topic} AS TEXT), CAST({event_id} AS TEXT)) IN ({}{known}) \
             OR {topic} IS NULL OR {event_id} IS NULL",
            ids.ids()
        ))
    }

    /// Tables of ids that have some of which there is no event.
    fn without(&self, events: &Reading) -> Result<Vec<(String, u64)>, NoPlan> {
        let given = &self.wanted.columns;
        let tables = match &self.wanted.dedup_table {
            Some(name) => {
                let relation = self.named(name)?;
                let Some(reading) = as_ids(&relation, given) else {
                    let sentence = format!("it can't be told which columns of {name} are the ids:");
                    return Err(self.unclear(&sentence, &[relation], true));
                };
                vec![reading]
            }
            None => schema::ids(self.database, &self.all_but(Some(&events.table)), &[])?,
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
        let flag = |is_set: bool, flag: &str| is_set.then(|| flag.to_owned());
        let options = [
            flag(is_for_ids, IDS_ONLY),
            flag(wanted.payload_as_text && !is_for_ids, "--payload-as-text"),
            flag(wanted.dry_run, "--dry-run"),
        ];
        let options = options.into_iter().flatten().collect();
        let typed = UnclearCommand { path: self.path, options, columns: &wanted.columns, is_for_ids };
        NoPlan::Unclear(format!("{sentence}{}", report::choices(&typed, meant)))
    }
}

/// A table of ids may have the names that were given, or names of its own.
fn as_ids(relation: &Relation, given: &[(usize, String)]) -> Option<Reading> {
    relation.as_ids(given).or_else(|| relation.as_ids(&[]))
}

fn count(database: &Connection, selection: &str) -> rusqlite::Result<u64> {
    let query = format!("SELECT COUNT(*) FROM ({selection})");
    database.query_row(&query, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

impl Plan {
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
                write!(f, ", source {source}, payload null")
            }
        }
    }
}
