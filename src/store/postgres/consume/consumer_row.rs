//! Consumers as the database has them.

use std::sync::Arc;

use tokio_postgres::Row;

use crate::consumer::{ConsumerKey, ConsumerName};
use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::store::postgres::connect::connection::Statement;
use crate::store::postgres::node::shared::Shared;

const FIND: Statement = (
    "consumers",
    "SELECT name, topics, number, created_at, positions, turn FROM sekali_consumers WHERE name = $1",
);
const LIST: Statement =
    ("consumers", "SELECT name, topics FROM sekali_consumers WHERE name > $1 ORDER BY name LIMIT $2");

/// A consumer as the database has it.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerRow {
    /// Random, of this life of its name.
    pub(crate) number: i64,
    pub(crate) topics: Arc<TopicPatterns>,
    pub(crate) created_at: i64,
    /// How many positions it has.
    pub(crate) positions: i64,
    /// The topic that was acknowledged last, by its number.
    pub(crate) turn: i64,
}

/// What the database has of a consumer, which may not be covered.
///
/// # Errors
/// `NoConsumer`, `Overloaded`.
pub(crate) async fn find(shared: &Shared, name: &ConsumerName) -> Result<ConsumerRow> {
    let (home, name_text) = (shared.groups.home(), name.as_str());
    let find = || async { home.read(FIND, &[&name_text]).await };
    let Some(row) = shared.patiently(find).await?.into_iter().next() else {
        shared.consumers.forget(name);
        return Err(none(name));
    };
    Ok(ConsumerRow {
        number: row.get(2),
        topics: filter(&row)?,
        created_at: row.get(3),
        positions: row.get(4),
        turn: row.get(5),
    })
}

/// The same of the consumer that is meant.
///
/// # Errors
/// As for [`find`]: `NoConsumer` also where the name has another consumer now.
pub(crate) async fn find_meant(shared: &Shared, key: &ConsumerKey) -> Result<ConsumerRow> {
    let row = find(shared, &key.name).await?;
    if row.topics == key.topics { Ok(row) } else { Err(none(&key.name)) }
}

/// At most `limit` consumers, in order of their names, after `after`.
///
/// # Errors
/// `Overloaded`.
pub(crate) async fn list(shared: &Shared, after: Option<&str>, limit: usize) -> Result<Vec<ConsumerKey>> {
    let (after, limit) = (after.unwrap_or_default(), i64::try_from(limit).unwrap_or(i64::MAX));
    let home = shared.groups.home();
    let rows = shared.patiently(|| async { home.read(LIST, &[&after, &limit]).await }).await?;
    let listed = |row: &Row| {
        let name = row.get::<_, &str>(0).parse().map_err(|why: String| strange(&why))?;
        Ok(ConsumerKey { name, topics: filter(row)? })
    };
    rows.iter().map(listed).collect()
}

fn filter(row: &Row) -> Result<Arc<TopicPatterns>> {
    let patterns: Vec<&str> = row.get(1);
    let patterns =
        patterns.iter().map(|pattern| pattern.parse::<TopicPattern>().map_err(|why| strange(&why)));
    patterns.collect::<Result<_>>().map(Arc::new)
}

fn strange(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the database has a consumer that can't be: {why}"))
}

/// The answer where there is no such consumer.
pub(crate) fn none(name: &ConsumerName) -> Error {
    let message = format!("there is no consumer {name}: make it with PUT /consumers/{name}");
    Error::new(ErrorKind::NoConsumer, message)
}
