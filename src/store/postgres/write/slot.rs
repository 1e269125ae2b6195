//! One slot's requests: they wait in a queue, and go to the database together, one statement at a
//! time.
//!
//! A statement whose answer is lost is sent again under the same number, by which the database
//! knows it (`retry.rs`). When time is over, its requests are answered "unknown, safe to retry",
//! and its number is not used again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::warn;

use super::retry::{Failure, connect, until_answered};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Batch;
use crate::limits::{DATABASE_REQUEST_SECONDS, STATEMENT_BYTES, STATEMENT_EVENTS};
use crate::store::postgres::connect::connection::{Lease, Statement};
use crate::store::postgres::connect::fault::Fate;
use crate::store::postgres::connect::identity::Uuid;
use crate::store::postgres::node::coverage::SlotRow;
use crate::store::postgres::node::shared::Shared;
use crate::store::{Outcome, Status};

const APPEND: Statement =
    ("append", "SELECT * FROM sekali_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)");

/// Events of one request that one statement takes, and whoever waits for their answer.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) batch: Arc<Batch>,
    /// Which events of the batch they are.
    pub(crate) indexes: Vec<u32>,
    pub(crate) bytes: usize,
    /// When it came.
    pub(crate) since: Instant,
    pub(crate) reply: oneshot::Sender<Result<Vec<Outcome>>>,
}

/// Answers all that comes, until nobody can send any more.
pub(crate) async fn work(shared: Arc<Shared>, slot: usize, mut pieces: mpsc::Receiver<Piece>) {
    let mut worker = Worker { shared, slot, attempt: 0 };
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(piece) => piece,
            None => match pieces.recv().await {
                Some(piece) => piece,
                None => return,
            },
        };
        let deadline = first.since + Duration::from_secs(DATABASE_REQUEST_SECONDS);
        // First the connection: what comes while there is none joins the group.
        let connection = connect(&worker.shared, worker.shared.groups.of(slot), deadline).await;
        let (mut events, mut bytes) = (first.indexes.len(), first.bytes);
        let mut group = vec![first];
        while let Ok(piece) = pieces.try_recv() {
            events += piece.indexes.len();
            bytes += piece.bytes;
            if events > STATEMENT_EVENTS || bytes > STATEMENT_BYTES {
                next = Some(piece);
                break;
            }
            group.push(piece);
        }
        let answer = match connection {
            Ok(connection) => worker.commit(connection, &group, deadline).await,
            Err(e) => {
                worker.shared.refused(&e, 0);
                Err(e)
            }
        };
        reply(group, answer);
    }
}

/// Gives each piece its part of the outcomes, which are in the order of the pieces.
fn reply(group: Vec<Piece>, answer: Result<Vec<Outcome>>) {
    // Whoever does not wait any more is not told.
    match answer {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            for piece in group {
                let _ = piece.reply.send(Ok(outcomes.by_ref().take(piece.indexes.len()).collect()));
            }
        }
        Err(e) => {
            for piece in group {
                let _ = piece.reply.send(Err(Error::new(e.kind(), e.to_string())));
            }
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    slot: usize,
    /// The number of the last statement.
    attempt: i64,
}

impl Worker {
    /// Sends a group until it is answered, or time is over.
    async fn commit(
        &mut self,
        connection: Lease,
        group: &[Piece],
        deadline: Instant,
    ) -> Result<Vec<Outcome>> {
        self.attempt += 1;
        let rejected = self.shared.take_rejected();
        let send = |lease| self.send(lease, group, rejected);
        let group_of_slot = self.shared.groups.of(self.slot);
        let answer =
            until_answered(&self.shared, group_of_slot, Some(self.slot), deadline, Ok(connection), send)
                .await;
        answer.map_err(|failure| match failure {
            Failure::Refused(e) => {
                self.shared.refused(&e, rejected);
                e
            }
            Failure::Unknown(why) => {
                warn!(slot = self.slot, "the outcome of a statement is unknown: {why}");
                let message =
                    format!("whether the events were stored is unknown ({why}); sending them again is safe");
                Error::new(ErrorKind::Unsure, message)
            }
            Failure::Undone(why) => {
                self.shared.put_back_rejected(rejected);
                let message =
                    format!("the database does not take events ({why}); nothing was stored, retry later");
                Error::new(ErrorKind::Overloaded, message)
            }
        })
    }

    /// Sends a group once. The connection goes back to its pool only with an answer.
    async fn send(&self, lease: Lease, group: &[Piece], rejected: i64) -> Result<Vec<Outcome>, Fate> {
        let columns = Columns::of(group);
        let (slot, node) = (self.slot as i16, self.shared.node);
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &slot,
            &node,
            &self.attempt,
            &rejected,
            &columns.topics,
            &columns.sizes,
            &columns.numbers,
            &columns.firsts,
            &columns.ids,
            &columns.digests,
            &columns.timestamps,
            &columns.sources,
            &columns.payloads,
        ];
        let begun = self.shared.now();
        let connections = &self.shared.groups.of(self.slot).connections;
        let rows = connections.commit(lease, APPEND, &parameters).await?;
        let (outcomes, row) = read(&rows, columns.ids.len())?;
        let row = SlotRow { slot: self.slot, ..row };
        self.shared.committed(&row, &outcomes, self.shared.now() - begun);
        Ok(outcomes)
    }
}

/// What a statement has answered: an outcome for each event, and the slot as it is after it.
fn read(rows: &[Row], events: usize) -> Result<(Vec<Outcome>, SlotRow), Fate> {
    let Some(row) = rows.first() else {
        return Err(Fate::Unknown("a later statement of this node was carried out before".to_owned()));
    };
    let statuses: Option<Vec<i16>> = row.get(0);
    let (offsets, times): (Option<Vec<i64>>, Option<Vec<i64>>) = (row.get(1), row.get(2));
    let statuses = statuses.unwrap_or_default();
    let places = offsets.unwrap_or_default().into_iter().zip(times.unwrap_or_default());
    let outcomes: Vec<Outcome> = statuses
        .into_iter()
        .zip(places)
        .map(|(status, (offset, time))| Outcome {
            status: match status {
                0 => Status::Stored,
                1 => Status::Duplicate,
                _ => Status::Conflict,
            },
            offset: offset.unsigned_abs(),
            first_seen: Timestamp(time),
        })
        .collect();
    if outcomes.len() != events {
        let message = format!("the database answered for {} events of {events}", outcomes.len());
        return Err(Fate::Refused(Error::new(ErrorKind::Corrupt, message)));
    }
    let slot =
        SlotRow { next_seq: row.get(3), commits: row.get(4), next_topic: row.get(5), ..SlotRow::default() };
    Ok((outcomes, slot))
}

/// The events of a group as arrays, as the statement takes them.
#[derive(Debug, Default)]
struct Columns<'a> {
    /// Each topic once.
    topics: Vec<&'a str>,
    /// How many events each of them has.
    sizes: Vec<i64>,
    /// The place of each event's topic in `topics`, from 1.
    numbers: Vec<i32>,
    /// The place, from 1, of the first event with the same topic and id: its own, if none is before
    /// it.
    firsts: Vec<i32>,
    ids: Vec<&'a str>,
    digests: Vec<Uuid>,
    timestamps: Vec<&'a str>,
    sources: Vec<&'a str>,
    payloads: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(group: &'a [Piece]) -> Self {
        let mut columns = Self::default();
        let (mut places, mut firsts) = (HashMap::new(), HashMap::new());
        // All of it was checked to be UTF-8.
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        for piece in group {
            for index in &piece.indexes {
                let event = piece.batch.get(*index as usize);
                let (topics, sizes) = (&mut columns.topics, &mut columns.sizes);
                let place = *places.entry(event.topic).or_insert_with(|| {
                    topics.push(text(event.topic));
                    sizes.push(0);
                    sizes.len() - 1
                });
                sizes[place] += 1;
                columns.numbers.push(place as i32 + 1);
                let own = columns.numbers.len() as i32;
                columns.firsts.push(*firsts.entry((place, event.event_id)).or_insert(own));
                columns.ids.push(text(event.event_id));
                columns.digests.push(Uuid(u128::from_be_bytes(event.digest)));
                columns.timestamps.push(text(event.timestamp));
                columns.sources.push(text(event.source));
                columns.payloads.push(text(event.payload));
            }
        }
        columns
    }
}
