//! Filling an empty database with what another store has.
//!
//! Each part is a transaction of its own, and what a topic's row says shows how far it is. Until
//! the end no node opens the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

use crate::clock::SystemClock;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Batch, BatchBuilder};
use crate::metrics::Metrics;
use crate::store::postgres::Postgres;
use crate::store::postgres::connect::connector::connect;
use crate::store::postgres::connect::fault::sentence;
use crate::store::postgres::connect::identity::Uuid;
use crate::store::postgres::connect::options::Options;
use crate::store::postgres::open::opening::{Prepared, prepare};
use crate::store::postgres::open::schema::{Store, unusable};
use crate::store::postgres::open::site::lasting;
use crate::store::target::{Target, is_new, push};
use crate::store::{StoredEvent, TopicStats};

/// Other connections of programs like this one.
const OTHERS: &str = "
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND backend_type = 'client backend' AND application_name = current_setting('application_name')";
/// How often, and after what time each, they are looked for before that is a fault.
const ALONE_LOOKS: u32 = 50;
const ALONE_LOOK: Duration = Duration::from_millis(100);

const IDS: &str = "
    INSERT INTO sekali_ids (seq, topic_offset, received_at, digest, topic_id, slot, event_id)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::integer[], $6::smallint[], $7::text[])";

const EVENTS: &str = "
    INSERT INTO sekali_events (seq, topic_offset, received_at, topic_id, slot, event_id, timestamp, source, payload)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::smallint[], $6::text[], $7::text[],
                         $8::text[], $9::text[])";

const TOPICS: &str = "
    INSERT INTO sekali_topics (slot, topic_id, name) SELECT * FROM unnest($1::smallint[], $2::integer[], $3::text[])";

const TOPIC_COUNTS: &str = "
    INSERT INTO sekali_topic_counts AS c
        (next_offset, duplicates, conflicts, first_received_at, last_received_at, topic_id, slot)
    SELECT u.next_offset, 0, 0, u.first, u.last, u.topic_id, u.slot
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::smallint[])
         u (next_offset, first, last, topic_id, slot)
    ON CONFLICT (slot, topic_id) DO UPDATE
    SET next_offset = excluded.next_offset, last_received_at = excluded.last_received_at";

/// Rows of slots that are still as this program left them are moved on. Fewer rows than slots: they
/// are not.
const SLOTS: &str = "
    UPDATE sekali_slots s
    SET next_seq = u.next_seq, next_topic = u.next_topic, commits = s.commits + 1, last_received_at = u.last
    FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::integer[], $5::bigint[])
         u (slot, old_seq, next_seq, next_topic, last)
    WHERE s.slot = u.slot AND s.next_seq = u.old_seq";

const COUNTS: &str = "
    UPDATE sekali_topic_counts c SET duplicates = u.duplicates, conflicts = u.conflicts
    FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[]) u (duplicates, conflicts, topic_id, slot)
    WHERE c.slot = u.slot AND c.topic_id = u.topic_id";

/// The database is for nodes from now on.
const FILLED: &str = "UPDATE sekali_store SET is_filling = false";

const SLOT_COUNTS: &str = "
    UPDATE sekali_slots s
    SET duplicates = coalesce(c.duplicates, 0), conflicts = coalesce(c.conflicts, 0),
        rejected = CASE s.slot WHEN 0 THEN $1::bigint ELSE 0 END
    FROM sekali_slots o LEFT JOIN (
        SELECT slot, sum(duplicates)::bigint AS duplicates, sum(conflicts)::bigint AS conflicts
        FROM sekali_topic_counts GROUP BY slot) c ON c.slot = o.slot
    WHERE s.slot = o.slot";

/// A database that is being filled.
#[derive(Debug)]
pub struct Filling {
    options: Options,
    client: Client,
    connection: JoinHandle<()>,
    prepared: Prepared,
    slots: Vec<Slot>,
    topics: HashMap<Box<str>, Topic>,
    /// Most microseconds by which an event of a slot arrived before one with a lower number.
    slack: i64,
    opened: Option<Postgres>,
}

/// How far a slot is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    next_seq: i64,
    next_topic: i32,
    last_received_at: i64,
}

/// How far a topic is.
#[derive(Clone, Copy, Debug)]
struct Topic {
    slot: i16,
    id: i32,
    next_offset: i64,
    first_received_at: i64,
    last_received_at: i64,
}

impl Filling {
    /// Makes the schema in an empty database, or goes on with filling it, from the store with the
    /// number `from`.
    ///
    /// # Errors
    /// `Unusable`: what is wrong with the database, and what to do.
    pub async fn begin(options: Options, from: u128) -> Result<Self> {
        let mut prepared = prepare(&options, false).await?;
        let [(database, _)] = &prepared.databases[..] else {
            return Err(unusable(
                "events are moved into one database alone: name that in store, and give its slots to others with \
                 `sekali regroup` afterwards",
            ));
        };
        let (client, connection) =
            connect(&database.connections, options.durability).await.map_err(|e| lasting(&e))?;
        let (was_filling, slack) = (prepared.store.is_filling, prepared.store.arrival_slack);
        prepared.store.is_filling = true;
        let mut filling = Self {
            options,
            client,
            connection,
            slots: Vec::new(),
            topics: HashMap::new(),
            slack,
            prepared,
            opened: None,
        };
        // Once before anything is changed, so that of two moves neither takes back what the other has
        // written; and again, as a node may have opened it meanwhile.
        filling.check_alone().await?;
        let filled_from = filling.look().await.map_err(|e| unusable(&sentence(&e)))?;
        if filling.slots.iter().any(|slot| slot.next_seq > 0) {
            if !was_filling {
                return Err(unusable("it holds events already: name an empty database"));
            }
            if filled_from != Some(from) {
                return Err(unusable(
                    "a move from another store has begun to fill it: run that to its end, or name an empty database",
                ));
            }
        }
        filling
            .execute("UPDATE sekali_store SET is_filling = true, filled_from = $1", &[&Uuid(from)])
            .await?;
        if let Err(e) = filling.check_alone().await {
            if !was_filling {
                filling.execute(FILLED, &[]).await?;
            }
            return Err(e);
        }
        Ok(filling)
    }

    /// Refuses a database that another program uses. A node that opens it from now on refuses by
    /// itself; one that has it open would answer for events that are lost to the copy.
    async fn check_alone(&self) -> Result<()> {
        for _ in 0..ALONE_LOOKS {
            let others: i64 = match self.client.query_one(OTHERS, &[]).await {
                Ok(row) => row.get(0),
                Err(e) => return Err(unusable(&sentence(&e))),
            };
            if others == 0 {
                return Ok(());
            }
            // Connections that were closed just now take a moment to go.
            tokio::time::sleep(ALONE_LOOK).await;
        }
        Err(unusable("another program uses it: stop all nodes and every other `move`, and run this again"))
    }

    /// Gives the database to the nodes.
    ///
    /// # Errors
    /// `Io`: the database refuses it; run it again.
    pub async fn finish(mut self) -> Result<()> {
        self.execute(FILLED, &[]).await?;
        self.connection.abort();
        Ok(())
    }

    /// What was opened to read it back. It is to be closed outside of an async task.
    pub fn opened(&mut self) -> Option<Postgres> {
        self.opened.take()
    }

    async fn execute(&mut self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        self.client.execute(statement, values).await.map(drop).map_err(|e| failed(&e))
    }

    /// Learns how far everything is, and from which store that came. It waits for what an earlier
    /// run that was killed has left under way.
    async fn look(&mut self) -> Result<Option<u128>, tokio_postgres::Error> {
        let query =
            "SELECT next_seq, next_topic, last_received_at FROM sekali_slots ORDER BY slot FOR UPDATE";
        let rows = self.client.query(query, &[]).await?;
        let slot = |row: &tokio_postgres::Row| Slot {
            next_seq: row.get(0),
            next_topic: row.get(1),
            last_received_at: row.get(2),
        };
        self.slots = rows.iter().map(slot).collect();
        let query = "SELECT t.name, t.slot, t.topic_id, c.next_offset, c.first_received_at, c.last_received_at
                     FROM sekali_topics t JOIN sekali_topic_counts c ON c.slot = t.slot AND c.topic_id = t.topic_id";
        for row in self.client.query(query, &[]).await? {
            let topic = Topic {
                slot: row.get(1),
                id: row.get(2),
                next_offset: row.get(3),
                first_received_at: row.get(4),
                last_received_at: row.get(5),
            };
            self.topics.insert(row.get::<_, &str>(0).into(), topic);
        }
        let row = self.client.query_one("SELECT filled_from FROM sekali_store", &[]).await?;
        Ok(row.get::<_, Option<Uuid>>(0).map(|Uuid(store)| store))
    }

    /// The row of an event, of which the topic and the slot move on; `None` if it is there already.
    fn row_of(&mut self, event: &StoredEvent, part: &mut Part) -> Result<Option<EventRow>> {
        let received_at = event.received_at.0;
        let (topic, slots) = (self.topics.get(&event.topic), &mut self.slots);
        if !is_new(event, topic.map_or(0, |topic| topic.next_offset.unsigned_abs()))? {
            return Ok(None);
        }
        let number = topic.map_or_else(
            || self.prepared.store.slot(event.topic.as_bytes()),
            |topic| usize::try_from(topic.slot).unwrap_or_default(),
        );
        let slot = &mut slots[number];
        part.slots.entry(number).or_insert(slot.next_seq);
        if !self.topics.contains_key(&event.topic) {
            let topic = Topic {
                slot: number as i16,
                id: slot.next_topic,
                next_offset: 0,
                first_received_at: received_at,
                last_received_at: received_at,
            };
            slot.next_topic += 1;
            part.new_topics.push((event.topic.clone(), topic));
            self.topics.insert(event.topic.clone(), topic);
        }
        let seq = slot.next_seq;
        slot.next_seq += 1;
        self.slack = self.slack.max(slot.last_received_at.saturating_sub(received_at));
        slot.last_received_at = slot.last_received_at.max(received_at);
        let Some(topic) = self.topics.get_mut(&event.topic) else { return Ok(None) };
        let row = EventRow { slot: topic.slot, topic: topic.id, seq, offset: topic.next_offset, received_at };
        topic.next_offset += 1;
        topic.last_received_at = received_at;
        part.topics.insert(event.topic.clone(), *topic);
        Ok(Some(row))
    }

    /// Adds the rows of a part, all of it or nothing.
    async fn insert(&mut self, part: &Part, batch: &Batch) -> Result<()> {
        let (slots, slack) = (&self.slots, self.slack);
        let transaction = self.client.transaction().await.map_err(|e| failed(&e))?;
        let held = part.move_slots(&transaction, slots).await.map_err(|e| failed(&e))?;
        if !held {
            return Err(unusable("another program adds to it: stop all nodes, and name an empty database"));
        }
        part.insert(&transaction, batch).await.map_err(|e| failed(&e))?;
        transaction
            .execute("UPDATE sekali_store SET arrival_slack = $1", &[&slack])
            .await
            .map_err(|e| failed(&e))?;
        transaction.commit().await.map_err(|e| failed(&e))
    }
}

/// Where an event goes.
#[derive(Clone, Copy, Debug)]
struct EventRow {
    slot: i16,
    topic: i32,
    seq: i64,
    offset: i64,
    received_at: i64,
}

/// What one transaction adds.
#[derive(Debug, Default)]
struct Part {
    /// Of each event of the batch.
    rows: Vec<EventRow>,
    new_topics: Vec<(Box<str>, Topic)>,
    /// Topics as they then are.
    topics: HashMap<Box<str>, Topic>,
    /// The next numbers of slots as they were before.
    slots: HashMap<usize, i64>,
}

impl Part {
    fn column<T>(&self, value: fn(&EventRow) -> T) -> Vec<T> {
        self.rows.iter().map(value).collect()
    }

    /// Moves the rows of its slots on; whether they were as they were left.
    async fn move_slots(
        &self,
        transaction: &Transaction<'_>,
        slots: &[Slot],
    ) -> Result<bool, tokio_postgres::Error> {
        let mut numbers: Vec<usize> = self.slots.keys().copied().collect();
        numbers.sort_unstable();
        let column = |value: fn(&Slot) -> i64| -> Vec<i64> {
            numbers.iter().map(|number| value(&slots[*number])).collect()
        };
        let old: Vec<i64> = numbers.iter().map(|number| self.slots[number]).collect();
        let next_topics: Vec<i32> = numbers.iter().map(|number| slots[*number].next_topic).collect();
        let names: Vec<i16> = numbers.iter().map(|number| *number as i16).collect();
        let (seqs, last) = (column(|slot| slot.next_seq), column(|slot| slot.last_received_at));
        let moved = transaction.execute(SLOTS, &[&names, &old, &seqs, &next_topics, &last]).await?;
        Ok(moved == numbers.len() as u64)
    }

    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
    ) -> Result<(), tokio_postgres::Error> {
        let (slots, ids): (Vec<i16>, Vec<i32>) =
            self.new_topics.iter().map(|(_, topic)| (topic.slot, topic.id)).unzip();
        let names: Vec<&str> = self.new_topics.iter().map(|(name, _)| &**name).collect();
        transaction.execute(TOPICS, &[&slots, &ids, &names]).await?;
        let (topics, slots) = (self.column(|row| row.topic), self.column(|row| row.slot));
        let (seqs, offsets) = (self.column(|row| row.seq), self.column(|row| row.offset));
        let received = self.column(|row| row.received_at);
        // All of it was checked to be UTF-8.
        let text = |bytes: &'_ [u8]| std::str::from_utf8(bytes).unwrap_or_default().to_owned();
        let digest = |event: crate::event::EventRef<'_>| Uuid(u128::from_be_bytes(event.digest));
        let digests: Vec<Uuid> = batch.iter().map(digest).collect();
        let event_ids: Vec<String> = batch.iter().map(|event| text(event.event_id)).collect();
        let timestamps: Vec<String> = batch.iter().map(|event| text(event.timestamp)).collect();
        let sources: Vec<String> = batch.iter().map(|event| text(event.source)).collect();
        let payloads: Vec<String> = batch.iter().map(|event| text(event.payload)).collect();
        transaction
            .execute(IDS, &[&seqs, &offsets, &received, &digests, &topics, &slots, &event_ids])
            .await?;
        transaction
            .execute(
                EVENTS,
                &[&seqs, &offsets, &received, &topics, &slots, &event_ids, &timestamps, &sources, &payloads],
            )
            .await?;
        let column = |value: fn(&Topic) -> i64| -> Vec<i64> { self.topics.values().map(value).collect() };
        let (slots, ids): (Vec<i16>, Vec<i32>) =
            self.topics.values().map(|topic| (topic.slot, topic.id)).unzip();
        let (next, first) = (column(|topic| topic.next_offset), column(|topic| topic.first_received_at));
        let last = column(|topic| topic.last_received_at);
        transaction.execute(TOPIC_COUNTS, &[&next, &first, &last, &ids, &slots]).await?;
        Ok(())
    }
}

impl Target for Filling {
    type Store = Postgres;

    async fn add(&mut self, events: &[StoredEvent]) -> Result<()> {
        let (mut part, mut batch) = (Part::default(), BatchBuilder::new(Bytes::new()));
        for event in events {
            let Some(row) = self.row_of(event, &mut part)? else { continue };
            push(&mut batch, event)?;
            part.rows.push(row);
        }
        match part.rows.is_empty() {
            true => Ok(()),
            false => self.insert(&part, &batch.finish()).await,
        }
    }

    async fn count(&mut self, topics: &[TopicStats]) -> Result<()> {
        let known: Vec<(&TopicStats, &Topic)> =
            topics.iter().filter_map(|topic| Some((topic, self.topics.get(topic.topic.as_str())?))).collect();
        let (slots, ids): (Vec<i16>, Vec<i32>) =
            known.iter().map(|(_, topic)| (topic.slot, topic.id)).unzip();
        let counts = |(topic, _): &(&TopicStats, &Topic)| {
            let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
            (signed(topic.duplicate_dropped), signed(topic.conflicts))
        };
        let (duplicates, conflicts): (Vec<i64>, Vec<i64>) = known.iter().map(counts).unzip();
        self.execute(COUNTS, &[&duplicates, &conflicts, &ids, &slots]).await
    }

    async fn count_rejected(&mut self, rejected: u64) -> Result<()> {
        let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
        self.execute(SLOT_COUNTS, &[&rejected]).await
    }

    async fn store(&mut self) -> Result<&Postgres> {
        let mut prepared = self.prepared.clone();
        prepared.store = Store { arrival_slack: self.slack, ..prepared.store };
        let opened =
            Postgres::serve(&self.options, prepared, Metrics::default(), Arc::new(SystemClock)).await?;
        Ok(self.opened.insert(opened))
    }
}

/// A statement that failed: what it would have added is not there, or is found when the move is
/// begun again.
fn failed(e: &tokio_postgres::Error) -> Error {
    let message = format!("the database does not take it: {}; run this again to go on", sentence(e));
    Error::new(ErrorKind::Io, message)
}
