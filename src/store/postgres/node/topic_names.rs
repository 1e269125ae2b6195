//! Topics: which slot and number each has, as far as this node has asked.
//!
//! A primary shows topics that no standby has, and after a fail-over their numbers are given to
//! others. So a topic is remembered only once an acknowledged commit covers it. Until then what was
//! read of it is good for one read over the same connection.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio_postgres::Row;

use crate::store::postgres::connect::connection::Statement;
use crate::sync::RwLock;

pub(crate) const BY_NAME: Statement = (
    "topics",
    "
    SELECT t.slot, t.topic_id, t.name FROM unnest($1::text[]) n (name)
    CROSS JOIN LATERAL (SELECT * FROM sekali_topics t WHERE t.name = n.name LIMIT 1) t",
);

pub(crate) const BY_ID: Statement = (
    "topics",
    "
    SELECT t.slot, t.topic_id, t.name FROM unnest($1::smallint[], $2::integer[]) i (slot, topic_id)
    CROSS JOIN LATERAL (SELECT * FROM sekali_topics t WHERE t.slot = i.slot AND t.topic_id = i.topic_id LIMIT 1) t",
);

/// What the database calls a topic: its slot, and its number there.
pub(crate) type TopicId = (i16, i32);

/// Names of topics.
pub(crate) type Names = HashMap<TopicId, Arc<str>>;

/// What the database calls the topic of a row that begins with a slot and a number.
pub(crate) fn topic_id(row: &Row) -> TopicId {
    (row.get(0), row.get(1))
}

/// What this node knows of topics that are covered. They are never removed or renamed.
#[derive(Debug, Default)]
pub(crate) struct TopicNames(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    ids: HashMap<Arc<str>, TopicId>,
    names: Names,
}

impl TopicNames {
    /// Takes in topics that are covered: rows that begin with a slot, a number and a name.
    pub(crate) fn learn<'r>(&self, rows: impl IntoIterator<Item = &'r Row>) {
        let mut maps = self.0.write();
        for row in rows {
            let (id, name): (TopicId, Arc<str>) = (topic_id(row), row.get::<_, &str>(2).into());
            maps.ids.insert(Arc::clone(&name), id);
            maps.names.insert(id, name);
        }
    }

    /// What the database calls a topic.
    pub(crate) fn id(&self, name: &str) -> Option<TopicId> {
        self.0.read().ids.get(name).copied()
    }

    /// Those of these topics that this node does not know.
    pub(crate) fn unknown<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let maps = self.0.read();
        names.iter().copied().filter(|name| !maps.ids.contains_key(*name)).collect()
    }

    /// Those of these topics whose names this node does not know, each once.
    pub(crate) fn unnamed(&self, topics: impl IntoIterator<Item = TopicId>) -> BTreeSet<TopicId> {
        let maps = self.0.read();
        topics.into_iter().filter(|id| !maps.names.contains_key(id)).collect()
    }

    /// The name of a topic.
    pub(crate) fn name(&self, id: TopicId) -> Option<Arc<str>> {
        self.0.read().names.get(&id).cloned()
    }
}
