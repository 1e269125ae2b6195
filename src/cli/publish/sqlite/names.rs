//! Names that columns have in the databases of services of this kind, and which of a table's columns holds a field.

use super::schema::{Column, Relation};

/// The fields of an event, in the order in which they are read.
pub(super) const FIELDS: [&str; 5] = ["topic", "event_id", "timestamp", "source", "payload"];
pub(super) const TOPIC: usize = 0;
pub(super) const EVENT_ID: usize = 1;
pub(super) const TIMESTAMP: usize = 2;
pub(super) const SOURCE: usize = 3;
pub(super) const PAYLOAD: usize = 4;

/// Names of each field besides its own, in small letters and without `_`. A name beats those of the ranks behind it;
/// within a rank all are as good.
const NAMES: [[&[&str]; 3]; 5] = [
    [&["topicname", "eventtopic"], &["eventtype", "channel", "stream"], &["type", "subject", "category"]],
    [
        &["eventid", "eventuuid", "messageid", "msgid"],
        &["uuid", "uid", "id", "idempotencykey", "deduplicationid", "dedupid", "dedupkey"],
        &["eventkey", "key"],
    ],
    [
        &[
            "eventtimestamp",
            "eventtime",
            "eventts",
            "ts",
            "tsiso",
            "timestampiso",
            "timestamputc",
            "occurredat",
        ],
        &["time", "datetime", "createdat", "publishedat", "emittedat", "sentat", "producedat"],
        &[
            "receivedat",
            "ingestedat",
            "insertedat",
            "storedat",
            "processedat",
            "firstseen",
            "firstseenat",
            "seenat",
        ],
    ],
    [
        &["eventsource", "sourcename", "src"],
        &["origin", "producer", "publisher", "sender"],
        &["service", "servicename"],
    ],
    [
        &["payloadjson", "payloadtext", "payloaddata", "eventpayload", "jsonpayload"],
        &["data", "datajson", "eventdata", "body", "bodyjson", "eventbody", "content"],
        &["message", "msg", "value", "json"],
    ],
];
/// The rank of names that often mean something else.
const FAINT: usize = 3;

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

/// Looks for a field among the columns of a table.
pub(super) fn find(field: usize, relation: &Relation) -> Found {
    let named = |is_it: &dyn Fn(&Column) -> bool| -> Vec<String> {
        relation.columns.iter().filter(|column| is_it(column)).map(|column| column.name.clone()).collect()
    };
    let own = named(&|column| column.name.eq_ignore_ascii_case(FIELDS[field]));
    if !own.is_empty() {
        return Found { names: own, is_faint: false };
    }
    for (rank, names) in (1..).zip(NAMES[field]) {
        // What SQLite numbers rows by is no id that a publisher gave.
        let found = named(&|column| {
            names.contains(&plain(&column.name).as_str()) && !(field == EVENT_ID && column.is_row_number)
        });
        if !found.is_empty() {
            return Found { names: found, is_faint: rank == FAINT };
        }
    }
    Found { names: Vec::new(), is_faint: false }
}

/// A name without what conventions differ in.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
