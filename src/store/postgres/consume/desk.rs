//! What the database has of a consumer, and what this node knows of its topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Row;

use super::news::Reading;
use crate::consumer::ConsumerName;
use crate::consumer::backlog::Backlog;
use crate::error::{Error, ErrorKind, Result};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::store::Given;
use crate::store::postgres::fault::read_failed;
use crate::store::postgres::shared::Shared;
use crate::sync::Mutex;

const FIND: &str =
    "SELECT name, topics, number, created_at, positions, turn FROM sekali_consumers WHERE name = $1";
const LIST: &str = "SELECT name, topics FROM sekali_consumers WHERE name > $1 ORDER BY name LIMIT $2";

/// A consumer as the database has it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
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
pub(crate) async fn find(shared: &Shared, name: &ConsumerName) -> Result<Known> {
    let find = || async {
        let client = shared.connections.read().await?;
        let statement = client.prepare_cached(FIND).await.map_err(|e| read_failed(&e))?;
        client.query_opt(&statement, &[&name.as_str()]).await.map_err(|e| read_failed(&e))
    };
    let Some(row) = shared.patiently(find).await? else {
        shared.consuming.forget(name);
        return Err(none(name));
    };
    Ok(Known {
        number: row.get(2),
        topics: filter(&row)?,
        created_at: row.get(3),
        positions: row.get(4),
        turn: row.get(5),
    })
}

/// At most `limit` consumers, in order of their names, after `after`.
///
/// # Errors
/// `Overloaded`.
pub(crate) async fn list(
    shared: &Shared,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(ConsumerName, Arc<TopicPatterns>)>> {
    let (after, limit) = (after.unwrap_or_default(), i64::try_from(limit).unwrap_or(i64::MAX));
    let read = || async {
        let client = shared.connections.read().await?;
        let statement = client.prepare_cached(LIST).await.map_err(|e| read_failed(&e))?;
        client.query(&statement, &[&after, &limit]).await.map_err(|e| read_failed(&e))
    };
    let rows = shared.patiently(read).await?;
    let listed =
        |row: &Row| Ok((row.get::<_, &str>(0).parse().map_err(|why: String| strange(&why))?, filter(row)?));
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

/// What this node knows of a consumer, in one life of its name.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) number: i64,
    pub(crate) topics: Arc<TopicPatterns>,
    /// Locked while the database is asked: what is known to be acknowledged must not hide what
    /// becomes known as new meanwhile.
    pub(crate) backlog: tokio::sync::Mutex<Backlog>,
    idle: Mutex<HashMap<u64, Idle>>,
}

/// The answer to a reader that was given nothing, and waits.
#[derive(Debug)]
struct Idle {
    given: Given,
    /// From here on the lease is to be renewed.
    ends: Instant,
}

impl Desk {
    /// The answer that this lease had last, if nobody need ask the database yet whether it stands.
    pub(crate) fn idle(&self, lease: u64, now: Instant) -> Option<Given> {
        self.idle.lock().get(&lease).filter(|idle| now < idle.ends).map(|idle| idle.given.clone())
    }

    /// Nothing was given under a lease, which is not to be renewed before `ends`.
    pub(crate) fn set_idle(&self, given: &Given, now: Instant, ends: Instant) {
        let mut idle = self.idle.lock();
        idle.retain(|_, idle| now < idle.ends);
        idle.insert(given.lease_id, Idle { given: given.clone(), ends });
    }

    /// A lease has ended.
    pub(crate) fn is_over(&self, lease: u64) {
        self.idle.lock().remove(&lease);
    }
}

/// What this node knows of all consumers.
#[derive(Debug, Default)]
pub(crate) struct Consuming {
    desks: Mutex<HashMap<ConsumerName, Arc<Desk>>>,
    pub(crate) news: Reading,
    /// Names of those that have figures of their own.
    pub(super) measured: Mutex<Vec<ConsumerName>>,
}

impl Consuming {
    /// What this node knows of a consumer that is in the database like this.
    pub(crate) fn desk(&self, name: &ConsumerName, known: &Known) -> Arc<Desk> {
        let mut desks = self.desks.lock();
        if let Some(desk) = desks.get(name).filter(|desk| desk.number == known.number) {
            return Arc::clone(desk);
        }
        let desk = Arc::new(Desk {
            number: known.number,
            topics: Arc::clone(&known.topics),
            backlog: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
        });
        desks.insert(name.clone(), Arc::clone(&desk));
        desk
    }

    /// What this node knew of a consumer when it was asked for last.
    pub(crate) fn last(&self, name: &ConsumerName) -> Option<Arc<Desk>> {
        self.desks.lock().get(name).cloned()
    }

    fn forget(&self, name: &ConsumerName) {
        self.desks.lock().remove(name);
    }
}
