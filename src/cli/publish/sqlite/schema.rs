//! The tables and views of a database, and which of them holds events or ids.

use rusqlite::Connection;

use super::names::{
    EVENT_ID, FAINT, FIELDS, PAYLOAD, SOURCE, TIMESTAMP, TOPIC, is_bookkeeping, is_like_payload, rank,
};

/// A table or a view.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) is_view: bool,
    pub(super) columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Whether it is an integer that is the primary key alone.
    pub(super) is_row_number: bool,
    /// Whether it is declared as a number or a time.
    is_number: bool,
}

/// What the user says of the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// Columns of fields.
    pub(super) columns: &'a [(usize, String)],
    /// The topic of all rows of a table that has no column for it.
    pub(super) topic: Option<&'a str>,
}

/// What nobody has said anything about.
pub(super) const NOTHING: Given<'_> = Given { columns: &[], topic: None };

/// The rank of a column that is merely called like a payload.
const LIKE_PAYLOAD: usize = 2;
const _: () = assert!(LIKE_PAYLOAD < FAINT);

/// Where the fields of an event are.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) table: String,
    pub(super) columns: [Option<String>; 5],
    /// The topic of all rows, if no column holds it.
    pub(super) topic: Option<String>,
    is_faint: bool,
}

/// Which columns may hold a field: none, one, or several with equal right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) names: Vec<String>,
    /// Whether the name may well mean something else.
    pub(super) is_faint: bool,
}

impl Found {
    /// The column, if there is one reading.
    pub(super) fn only(&self) -> Option<&str> {
        match &self.names[..] {
            [name] => Some(name),
            _ => None,
        }
    }
}

/// All tables and views but SQLite's own. One whose columns can't be told, as a view of a table
/// that is gone, has none.
pub(super) fn relations(database: &Connection) -> rusqlite::Result<Vec<Relation>> {
    let mut named = database.prepare(
        "SELECT name, type = 'view' FROM sqlite_schema
         WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid",
    )?;
    let named: Vec<(String, bool)> =
        named.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let relation = |(name, is_view): (String, bool)| {
        let columns = columns(database, &name).unwrap_or_default();
        Relation { name, is_view, columns }
    };
    Ok(named.into_iter().map(relation).collect())
}

fn columns(database: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    // Generated columns are columns too; hidden ones, as virtual tables have, are not.
    let query =
        "SELECT name, type LIKE '%INT%' AND pk = 1 AND MAX(pk) OVER () = 1, type FROM pragma_table_xinfo(?1)
         WHERE hidden <> 1 ORDER BY cid";
    let mut statement = database.prepare(query)?;
    let column = |row: &rusqlite::Row<'_>| {
        let declared: String = row.get(2)?;
        Ok(Column { name: row.get(0)?, is_row_number: row.get(1)?, is_number: is_number(&declared) })
    };
    statement.query_map([table], column)?.collect()
}

/// Whether a type is one of numbers or of times, in the words of any database.
fn is_number(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let words = ["INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL", "DATE", "TIME"];
    words.iter().any(|word| declared.contains(word))
}

impl Relation {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|own| own.name.eq_ignore_ascii_case(column))
    }

    /// Where a field may be; a column that was named is the only one.
    pub(super) fn find(&self, field: usize, given: Given<'_>) -> Found {
        match given.columns.iter().rev().find(|(of, _)| *of == field) {
            Some((_, name)) if self.has(name) => Found { names: vec![name.clone()], is_faint: false },
            Some(_) => Found { names: Vec::new(), is_faint: false },
            None => self.search(field),
        }
    }

    /// The columns whose names have the best rank for a field.
    fn search(&self, field: usize) -> Found {
        let ranked = |column: &Column| {
            let is_like = field == PAYLOAD && !column.is_number && is_like_payload(&column.name);
            let rank = rank(field, &column.name).or(is_like.then_some(LIKE_PAYLOAD))?;
            // What SQLite numbers rows by is no id that a publisher gave, unless it is named so.
            (rank == 0 || field != EVENT_ID || !column.is_row_number).then_some(rank)
        };
        let best = self.columns.iter().filter_map(ranked).min();
        let names = self.columns.iter().filter(|column| best.is_some() && ranked(column) == best);
        Found { names: names.map(|column| column.name.clone()).collect(), is_faint: best == Some(FAINT) }
    }

    /// The one reading of it as a table of events.
    pub(super) fn as_events(&self, given: Given<'_>) -> Option<Reading> {
        let found: [Found; 5] = std::array::from_fn(|field| self.find(field, given));
        // A source need not be there, unless it was named.
        let may_lack = |field| match field {
            SOURCE => !given.columns.iter().any(|(of, _)| *of == SOURCE),
            TOPIC => given.topic.is_some(),
            _ => false,
        };
        let is_clear = |(field, found): (usize, &Found)| {
            found.only().is_some() || (may_lack(field) && found.names.is_empty())
        };
        found.iter().enumerate().all(is_clear).then(|| Reading {
            table: self.name.clone(),
            columns: found.each_ref().map(|found| found.only().map(str::to_owned)),
            topic: given.topic.filter(|_| found[TOPIC].names.is_empty()).map(str::to_owned),
            is_faint: found.iter().any(|found| found.is_faint),
        })
    }

    /// The reading of it as a table of ids, with the time of each if there is one.
    pub(super) fn as_ids(&self, given: Given<'_>) -> Option<Reading> {
        let only = |field| self.find(field, given).only().map(str::to_owned);
        // Which of two times an id has changes nothing.
        let time = self.find(TIMESTAMP, given).names.into_iter().next();
        let found = self.find(TOPIC, given);
        let topic = given.topic.filter(|_| found.names.is_empty()).map(str::to_owned);
        if found.only().is_none() && topic.is_none() {
            return None;
        }
        let columns = [found.only().map(str::to_owned), Some(only(EVENT_ID)?), time, None, None];
        Some(Reading { table: self.name.clone(), columns, topic, is_faint: false })
    }

    /// Whether it holds ids that a publisher gave, under whatever topic.
    pub(super) fn has_ids(&self, given: Given<'_>) -> bool {
        let found = self.find(EVENT_ID, given);
        found.only().is_some() && !found.is_faint
    }

    /// Whether it holds what can hardly be anything but payloads.
    pub(super) fn holds_payloads(&self) -> bool {
        let found = self.find(PAYLOAD, NOTHING);
        !found.names.is_empty() && !found.is_faint
    }

    /// Whether it has columns that are called like payloads, or that nothing is known of.
    pub(super) fn may_hold_events(&self) -> bool {
        let is_unknown = |name: &String| rank(PAYLOAD, name).is_none();
        self.holds_payloads() || self.may_be_payloads(NOTHING).iter().any(is_unknown)
    }

    /// Columns that may hold payloads: those that are called so, and those that nothing else is
    /// known of.
    pub(super) fn may_be_payloads(&self, given: Given<'_>) -> Vec<String> {
        let is_open = |column: &&Column| {
            let name = &column.name;
            let is_given =
                given.columns.iter().any(|(field, of)| *field != PAYLOAD && of.eq_ignore_ascii_case(name));
            let is_known = is_given || (0..PAYLOAD).any(|field| rank(field, name).is_some());
            let is_note = is_known || column.is_row_number || column.is_number || is_bookkeeping(name);
            rank(PAYLOAD, name).is_some() || !is_note
        };
        self.columns.iter().filter(is_open).map(|column| column.name.clone()).collect()
    }

    /// Whether ids are all that it can have of events.
    pub(super) fn holds_ids_only(&self, given: Given<'_>) -> bool {
        self.may_be_payloads(given).is_empty()
    }
}

/// The readings of those that hold events, best first; with more than one, there is no telling
/// which is meant.
pub(super) fn events(
    database: &Connection,
    relations: &[Relation],
    given: Given<'_>,
) -> rusqlite::Result<Vec<Reading>> {
    let of = |is_view: bool| -> Vec<Reading> {
        let relations = relations.iter().filter(|relation| relation.is_view == is_view);
        relations.filter_map(|relation| relation.as_events(given)).collect()
    };
    // A view shows what tables hold.
    let mut readings = of(false);
    if readings.is_empty() {
        readings = of(true);
    }
    if readings.iter().any(|reading| !reading.is_faint) {
        readings.retain(|reading| !reading.is_faint);
    }
    filled(database, readings)
}

/// The readings of tables as those of ids.
pub(super) fn ids(
    database: &Connection,
    relations: &[Relation],
    given: Given<'_>,
) -> rusqlite::Result<Vec<Reading>> {
    let tables = relations.iter().filter(|relation| !relation.is_view);
    filled(database, tables.filter_map(|relation| relation.as_ids(given)).collect())
}

/// Leaves out tables without rows, if that leaves any.
fn filled(database: &Connection, readings: Vec<Reading>) -> rusqlite::Result<Vec<Reading>> {
    if readings.len() < 2 {
        return Ok(readings);
    }
    let mut filled = Vec::new();
    for reading in &readings {
        let query = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&reading.table));
        if database.query_row(&query, [], |row| row.get::<_, bool>(0))? {
            filled.push(reading.clone());
        }
    }
    Ok(if filled.is_empty() { readings } else { filled })
}

impl Reading {
    /// A column in SQL; NULL if there is none.
    pub(super) fn column(&self, field: usize) -> String {
        match (&self.columns[field], &self.topic) {
            (Some(column), _) => quoted(column),
            (None, Some(topic)) if field == TOPIC => format!("'{}'", topic.replace('\'', "''")),
            (None, _) => "NULL".to_owned(),
        }
    }

    /// Its ids as text, which is what they are compared by.
    pub(super) fn ids(&self) -> String {
        let (topic, event_id) = (self.text(TOPIC), self.text(EVENT_ID));
        format!("SELECT {topic}, {event_id} FROM {}", quoted(&self.table))
    }

    /// A column as text in SQL, which is compared byte for byte whatever the column's collation is.
    pub(super) fn text(&self, field: usize) -> String {
        format!("CAST({} AS TEXT) COLLATE BINARY", self.column(field))
    }

    /// A column in SQL as its value is moved. A number with a point is moved as the text that SQLite
    /// has for it, by which ids are compared too; a time may be such a number.
    pub(super) fn moved(&self, field: usize) -> String {
        let column = self.column(field);
        match field {
            TIMESTAMP => column,
            _ => format!("CASE typeof({column}) WHEN 'real' THEN CAST({column} AS TEXT) ELSE {column} END"),
        }
    }

    /// Which column each field comes from, as a person reads it.
    pub(super) fn told(&self) -> String {
        let fields = FIELDS.iter().zip(&self.columns);
        let told = fields.filter_map(|(field, column)| Some(format!("{field} ← {}", column.as_deref()?)));
        let constant = self.topic.as_ref().map(|topic| format!("topic {topic:?}"));
        let told = constant.into_iter().chain(told);
        format!("table {}: {}", self.table, told.collect::<Vec<_>>().join(", "))
    }
}

/// A name in SQL. In double quotes SQLite would take an unknown name for a string.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
