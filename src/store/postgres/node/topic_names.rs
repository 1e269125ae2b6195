//! Topics: which slot and number each has, as far as this node has asked.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio_postgres::Row;

use crate::error::{Error, ErrorKind, Result};
use crate::store::postgres::connect::connection::{Reader, Statement};
use crate::sync::RwLock;

const BY_NAME: Statement = (
    "topics",
    "
    SELECT t.slot, t.topic_id, t.name FROM unnest($1::text[]) n (name)
    CROSS JOIN LATERAL (SELECT * FROM sekali_topics t WHERE t.name = n.name LIMIT 1) t",
);

const BY_ID: Statement = (
    "topics",
    "
    SELECT t.slot, t.topic_id, t.name FROM unnest($1::smallint[], $2::integer[]) i (slot, topic_id)
    CROSS JOIN LATERAL (SELECT * FROM sekali_topics t WHERE t.slot = i.slot AND t.topic_id = i.topic_id LIMIT 1) t",
);

/// What the database calls a topic: its slot, and its number there.
pub(crate) type TopicId = (i16, i32);

/// What this node knows of topics. They are never removed or renamed.
#[derive(Debug, Default)]
pub(crate) struct TopicNames(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    ids: HashMap<Arc<str>, TopicId>,
    names: HashMap<TopicId, Arc<str>>,
}

impl TopicNames {
    /// Takes in topics: rows that begin with a slot, a number and a name.
    pub(crate) fn learn(&self, rows: &[Row]) {
        let mut maps = self.0.write();
        for row in rows {
            let (id, name): (TopicId, Arc<str>) = ((row.get(0), row.get(1)), row.get::<_, &str>(2).into());
            maps.ids.insert(Arc::clone(&name), id);
            maps.names.insert(id, name);
        }
    }

    /// What the database calls a topic; `None` if it has no such topic.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn id(&self, client: &Reader, name: &str) -> Result<Option<TopicId>> {
        if self.missing(client, &[name]).await? > 0 {
            return Ok(None);
        }
        Ok(self.0.read().ids.get(name).copied())
    }

    /// How many of these topics, which are all different, the database does not have.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) async fn missing(&self, client: &Reader, names: &[&str]) -> Result<usize> {
        let unknown = self.unknown(names);
        if unknown.is_empty() {
            return Ok(0);
        }
        let rows = client.rows(BY_NAME, &[&unknown]).await?;
        self.learn(&rows);
        Ok(unknown.len().saturating_sub(rows.len()))
    }

    /// Those of these topics that this node has not met yet.
    pub(crate) fn unknown<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let maps = self.0.read();
        names.iter().copied().filter(|name| !maps.ids.contains_key(*name)).collect()
    }

    /// Those of these topics whose names this node does not know, each once.
    pub(crate) fn unnamed(&self, topics: impl IntoIterator<Item = TopicId>) -> BTreeSet<TopicId> {
        let maps = self.0.read();
        topics.into_iter().filter(|id| !maps.names.contains_key(id)).collect()
    }

    /// Makes sure that the names of these topics are known.
    ///
    /// # Errors
    /// `Overloaded`; `Corrupt`: the database has no such topic.
    pub(crate) async fn name_all(
        &self,
        client: &Reader,
        topics: impl Iterator<Item = TopicId>,
    ) -> Result<()> {
        let unknown = self.unnamed(topics);
        if unknown.is_empty() {
            return Ok(());
        }
        let (slots, ids): (Vec<i16>, Vec<i32>) = unknown.iter().copied().unzip();
        let rows = client.rows(BY_ID, &[&slots, &ids]).await?;
        self.learn(&rows);
        match rows.len() == unknown.len() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Corrupt,
                "the database has events of a topic that it does not have",
            )),
        }
    }

    /// The name of a topic that was asked for before.
    pub(crate) fn name(&self, id: TopicId) -> Arc<str> {
        self.0.read().names.get(&id).cloned().unwrap_or_default()
    }
}
