//! Proving that the databases of a store agree with themselves: ids, events, counts, offsets.
//!
//! Each is read as of one moment, so nodes may go on serving.

use std::collections::HashMap;

use bytes::Bytes;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use crate::error::Result;
use crate::event::BatchBuilder;
use crate::limits::STATEMENT_EVENTS;
use crate::store::postgres::connect::fault::sentence;
use crate::store::postgres::connect::identity::Uuid;
use crate::store::postgres::connect::options::Options;
use crate::store::postgres::open::owners::{check_owners, one_store};
use crate::store::postgres::open::schema::{Store, unusable};
use crate::store::postgres::open::site::{Site, of};

/// Faults that are told one by one; more are only counted.
const TOLD_MAX: usize = 100;

/// Events of a slot in the order of their numbers, each with what its id knows.
const EVENTS: &str = "
    SELECT e.seq, e.topic_id, e.topic_offset, e.received_at, e.event_id, e.timestamp, e.source, e.payload,
           i.seq, i.topic_offset, i.received_at, i.digest
    FROM sekali_events e
    LEFT JOIN sekali_ids i ON i.slot = e.slot AND i.topic_id = e.topic_id AND i.event_id = e.event_id
    WHERE e.slot = $1 AND e.seq >= $2 ORDER BY e.seq LIMIT $3";

const TOPICS: &str = "
    SELECT t.topic_id, t.name, c.next_offset, c.duplicates, c.conflicts, c.first_received_at, c.last_received_at
    FROM sekali_topics t LEFT JOIN sekali_topic_counts c ON c.slot = t.slot AND c.topic_id = t.topic_id
    WHERE t.slot = $1";

const SLOT: &str = "
    SELECT next_seq, next_topic, duplicates, conflicts, (SELECT count(*) FROM sekali_ids i WHERE i.slot = $1),
           last_received_at
    FROM sekali_slots WHERE slot = $1";

/// Slots of topics that are not these, nor on their way to another database.
const FOREIGN: &str = "
    SELECT DISTINCT t.slot FROM sekali_topics t
    WHERE t.slot <> ALL ($1) AND NOT EXISTS (SELECT FROM sekali_leaving l WHERE l.slot = t.slot)";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were read.
    pub events: u64,
    /// Topics that they are of.
    pub topics: u64,
    /// A sentence for each fault, and one for those that are too many.
    pub faults: Vec<String>,
    untold: usize,
}

impl Report {
    fn fault(&mut self, what: String) {
        match self.faults.len() < TOLD_MAX {
            true => self.faults.push(what),
            false => self.untold += 1,
        }
    }
}

/// What the events of a topic say, as far as they were read.
#[derive(Debug, Default)]
struct Seen {
    next_offset: i64,
    first_received_at: i64,
    last_received_at: i64,
}

/// Reads all of a store; `progress` is told how many slots are done, and how many there are.
///
/// # Errors
/// `Unusable`: a database can't be read, or they do not hold a whole store of this version.
pub async fn verify(options: &Options, progress: &dyn Fn(u64, u64)) -> Result<Report> {
    let mut sites = Site::existing(options.ordered(), options.durability).await?;
    let (store, _) = one_store(&sites)?;
    check_owners(&sites, &[], store.slots)?;
    let (mut report, mut done) = (Report::default(), 0);
    if store.is_filling {
        report.fault("a `move` into it has not come to its end: run that again".to_owned());
    }
    let mut advance = || {
        done += 1;
        progress(done, store.slots as u64);
    };
    for site in &mut sites {
        let verified = verify_database(site, &store, &mut report, &mut advance).await;
        verified.map_err(|e| of(&site.database, &unusable(&sentence(&e))))?;
    }
    if report.untold > 0 {
        report.faults.push(format!("{} more faults", report.untold));
    }
    Ok(report)
}

/// Reads all slots of a database as of one moment.
async fn verify_database(
    site: &mut Site,
    store: &Store,
    report: &mut Report,
    done: &mut dyn FnMut(),
) -> Result<(), tokio_postgres::Error> {
    let begin =
        site.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = begin.start().await?;
    for slot in &site.database.slots {
        verify_slot(&transaction, store, *slot, report).await?;
        done();
    }
    let owned: Vec<i16> = site.database.slots.iter().map(|slot| *slot as i16).collect();
    for row in transaction.query(FOREIGN, &[&owned]).await? {
        let (slot, name) = (row.get::<_, i16>(0), &site.database.name);
        report.fault(format!("{name} has topics of slot {slot}, which it does not own"));
    }
    Ok(())
}

async fn verify_slot(
    transaction: &Transaction<'_>,
    store: &Store,
    slot: usize,
    report: &mut Report,
) -> Result<(), tokio_postgres::Error> {
    let (number, limit) = (slot as i16, STATEMENT_EVENTS as i64);
    let (mut topics, mut next_seq, mut last_received_at) = (HashMap::<i32, Seen>::new(), 0_i64, 0_i64);
    loop {
        let parameters: [&(dyn ToSql + Sync); 3] = [&number, &next_seq, &limit];
        let rows = transaction.query(EVENTS, &parameters).await?;
        for row in &rows {
            let seq: i64 = row.get(0);
            if seq != next_seq {
                report.fault(format!("slot {slot} has no event with the number {next_seq}, and has {seq}"));
            }
            next_seq = seq + 1;
            let (seen, received_at) = (topics.entry(row.get(1)).or_default(), row.get::<_, i64>(3));
            let early = last_received_at - received_at > store.arrival_slack;
            let early = early.then(|| "it arrived before one with a lower number".to_owned());
            last_received_at = last_received_at.max(received_at);
            if let Some(fault) = fault_of_event(row, seen).or(early) {
                report.fault(format!(
                    "slot {slot}, event {:?} with the number {seq}: {fault}",
                    row.get::<_, &str>(4)
                ));
            }
        }
        report.events += rows.len() as u64;
        if (rows.len() as i64) < limit {
            break;
        }
    }
    let sums = verify_topics(transaction, store, slot, &topics, report).await?;
    verify_counts(transaction, slot, (next_seq, last_received_at), sums, report).await
}

/// What is wrong with an event; what its topic has is moved on.
fn fault_of_event(row: &Row, seen: &mut Seen) -> Option<String> {
    let (offset, received_at): (i64, i64) = (row.get(2), row.get(3));
    let expected = seen.next_offset;
    if seen.next_offset == 0 {
        seen.first_received_at = received_at;
    }
    (seen.next_offset, seen.last_received_at) = (offset + 1, received_at);
    if offset != expected {
        return Some(format!("its offset is {offset}, and the one before it asks for {expected}"));
    }
    let (seq, id_seq): (i64, Option<i64>) = (row.get(0), row.get(8));
    if id_seq.is_none() {
        return Some("its id is not known, so it would be stored again".to_owned());
    }
    if (id_seq, row.get(9), row.get(10)) != (Some(seq), Some(offset), Some(received_at)) {
        return Some("what is known of its id belongs to another event".to_owned());
    }
    let mut batch = BatchBuilder::new(Bytes::new());
    // The topic's name is compared with its topic.
    match batch.push("topic", row.get(4), row.get(5), row.get(6), row.get(7)) {
        Err(fault) => Some(format!("it is not valid: {}", fault.message)),
        Ok(()) if batch.finish().get(0).digest == row.get::<_, Uuid>(11).0.to_be_bytes() => None,
        Ok(()) => Some("its payload is not the one that its id was stored with".to_owned()),
    }
}

/// Holds topics against their events; the sums of their duplicates and conflicts, and their number.
async fn verify_topics(
    transaction: &Transaction<'_>,
    store: &Store,
    slot: usize,
    seen: &HashMap<i32, Seen>,
    report: &mut Report,
) -> Result<(i64, i64, i32), tokio_postgres::Error> {
    let rows = transaction.query(TOPICS, &[&(slot as i16)]).await?;
    let (mut duplicates, mut conflicts) = (0, 0);
    for row in &rows {
        let name: &str = row.get(1);
        if store.slot(name.as_bytes()) != slot {
            report.fault(format!("topic {name:?} is in slot {slot} and belongs to another"));
        }
        let Some(next_offset) = row.get::<_, Option<i64>>(2) else {
            report.fault(format!("topic {name:?} has no counts"));
            continue;
        };
        let (of_topic, none) = (seen.get(&row.get(0)), Seen::default());
        let of_topic = of_topic.unwrap_or(&none);
        if next_offset != of_topic.next_offset {
            let events = of_topic.next_offset;
            report.fault(format!("topic {name:?} counts {next_offset} events and has {events}"));
        } else if (row.get::<_, i64>(5), row.get::<_, i64>(6))
            != (of_topic.first_received_at, of_topic.last_received_at)
        {
            report.fault(format!("topic {name:?} has other times of arrival than its first and last event"));
        }
        let (of_duplicates, of_conflicts): (i64, i64) = (row.get(3), row.get(4));
        if of_conflicts > of_duplicates {
            report.fault(format!("topic {name:?} counts more conflicts than events that were dropped"));
        }
        duplicates += of_duplicates;
        conflicts += of_conflicts;
    }
    if let Some(lost) = seen.keys().find(|id| rows.iter().all(|row| row.get::<_, i32>(0) != **id)) {
        report.fault(format!("slot {slot} has events of topic number {lost}, which has no name"));
    }
    report.topics += rows.len() as u64;
    Ok((duplicates, conflicts, i32::try_from(rows.len()).unwrap_or(i32::MAX)))
}

/// Holds the row of a slot against what was read.
async fn verify_counts(
    transaction: &Transaction<'_>,
    slot: usize,
    (next_seq, last_received_at): (i64, i64),
    (duplicates, conflicts, topics): (i64, i64, i32),
    report: &mut Report,
) -> Result<(), tokio_postgres::Error> {
    let row = transaction.query_one(SLOT, &[&(slot as i16)]).await?;
    let counts: [i64; 4] = [row.get(0), row.get(2), row.get(3), row.get(4)];
    let found = [next_seq, duplicates, conflicts, next_seq];
    for ((count, found), of) in
        counts.iter().zip(found).zip(["events", "duplicates", "conflicts", "known ids"])
    {
        if *count != found {
            report.fault(format!("slot {slot} counts {count} {of}, and its events and topics make {found}"));
        }
    }
    if row.get::<_, i64>(5) != last_received_at {
        report.fault(format!("slot {slot} has another time of its last event than its events have"));
    }
    if row.get::<_, i32>(1) != topics {
        let count: i32 = row.get(1);
        report.fault(format!("slot {slot} counts {count} topics and has {topics}"));
    }
    Ok(())
}
