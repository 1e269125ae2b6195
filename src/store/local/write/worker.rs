//! A worker: sole owner of its topics, it decides what becomes of an event.
//!
//! ```text
//! event ─> recent claims, tables (RAM) ─> filters of sealed generations: a "no" is final
//!            │ fingerprint known             │ maybe
//!            └> sled of the open generation  └> claims maps, newest first
//! found: duplicate or conflict │ not found: next offset of its topic, claim remembered, event encoded
//! ```
//! It drains what is queued into one group, and hands the group to the journal's writer. A request
//! of known events only, all of them durable, is answered once it is decided: it does not wait for
//! the commit of those that came with it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::group::{EventsBlock, GROUP_BYTES, Group, Reply};
use super::group_commit::GroupCommit;
use super::lookahead::Lookahead;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Batch, EventRef};
use crate::store::local::admission::job::{Change, Item, Items, Job, Outcomes};
use crate::store::local::format::claim::Claim;
use crate::store::local::format::codec::{
    BLOCK_BYTES, BlockHeader, BlockKind, FixedRecord, FrameHeader, encode_varied, finish_block,
};
use crate::store::local::format::entries::{EventRecord, EventsHead};
use crate::store::local::generation::claims::{Lookup, Tables};
use crate::store::local::generation::topic::{Pending, Topic};
use crate::store::local::sealed::filter_set::FilterSet;
use crate::store::local::shared::Shared;
use crate::store::{Outcome, Status};
use crate::sync::atomic::Ordering;

/// A look-up of events together takes no further request once it has so many: what it found is to
/// be in the processor's caches still when they are decided.
const TOGETHER_EVENTS: usize = 128;
/// Known events of a request: topic and status.
type KnownEvents = SmallVec<[(usize, Status); 1]>;
/// A request that is to be decided.
#[derive(Debug)]
struct Request {
    batch: Arc<Batch>,
    items: Items,
    reply: oneshot::Sender<Result<Outcomes>>,
}

/// A topic as its owner knows it.
#[derive(Debug)]
struct OwnTopic {
    topic: Arc<Topic>,
    /// Offset of the next event, decided or durable.
    next_offset: u64,
    /// Its open block in the group.
    block: Option<usize>,
    /// Its known events, while they are counted.
    duplicates: u64,
    conflicts: u64,
}

/// Requests of a group that were decided.
#[derive(Debug, Default)]
struct Decided {
    replies: Vec<Reply>,
    /// Topic and status of each of their events that was known.
    known: Vec<(usize, Status)>,
}

/// A block that is being filled.
#[derive(Debug)]
struct OpenBlock {
    topic: usize,
    first_offset: u64,
    count: u32,
    bytes: Vec<u8>,
}

/// The worker's state.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    number: usize,
    journal: GroupCommit,
    tables: Tables,
    topics: Vec<OwnTopic>,
    /// Hash of a topic, keyed already, and its place.
    by_hash: HashTable<(u128, usize)>,
    blocks: Vec<OpenBlock>,
    received_at: Timestamp,
    /// The filters of sealed generations as they were when the group began; a generation that was
    /// sealed since is still in the tables.
    filters: Arc<FilterSet>,
    lookahead: Lookahead,
    /// The request rests on something that is not durable yet.
    must_commit: bool,
    /// What packs blocks writes here.
    scratch: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, number: usize, journal: GroupCommit, tables: Tables) -> Self {
        let filters = shared.filters.view();
        Self {
            shared,
            filters,
            lookahead: Lookahead::default(),
            number,
            journal,
            tables,
            topics: Vec::new(),
            by_hash: HashTable::new(),
            blocks: Vec::new(),
            received_at: Timestamp::default(),
            must_commit: false,
            scratch: Vec::new(),
        }
    }

    /// The thread.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(mut jobs) = shared.queues[self.number].take(&shared.pace) {
            while !jobs.is_empty() {
                // In this order: what the tables forget is in the filters.
                self.tables.settle();
                self.filters = shared.filters.view();
                self.group(&mut jobs);
            }
        }
    }

    /// Decides what a group may hold of `jobs`.
    fn group(&mut self, jobs: &mut VecDeque<Job>) {
        let refused = self.refusal(jobs);
        self.received_at = self.shared.seams.clock.now();
        let (mut requests, mut reserved) = (Vec::with_capacity(jobs.len()), 0);
        let (mut changes, mut changed) = (Vec::new(), 0);
        while reserved + changed < GROUP_BYTES
            && let Some(job) = jobs.pop_front()
        {
            match job {
                Job::Append { place, batch, items, bytes, reply } => {
                    drop(place);
                    let bytes = bytes + FrameHeader::BYTES as u64;
                    match self.admit(bytes, refused.as_ref()) {
                        Ok(()) => {
                            reserved += bytes;
                            requests.push(Request { batch, items, reply });
                        }
                        // Nothing of it was decided, so nothing is waited for.
                        Err(e) => _ = reply.send(Err(e)),
                    }
                }
                Job::Change { place, change } => {
                    drop(place);
                    changed += change.reserved;
                    changes.extend(self.admit_change(change));
                }
                Job::Find { key, hash, reply } => _ = reply.send(self.find(&key, hash)),
                // It was done before the group.
                Job::Forget => {}
            }
        }
        let (mut at_once, mut with_commit) = (Decided::default(), Decided::default());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let mut events = 0;
            let together = std::iter::from_fn(|| {
                let request = requests.next_if(|_| events < TOGETHER_EVENTS)?;
                events += request.items.len();
                Some(request)
            });
            self.decide_together(together.collect(), &mut at_once, &mut with_commit);
        }
        self.answer(at_once);
        self.commit(with_commit, changes, reserved);
    }

    /// Reserves room for a request.
    fn admit(&self, bytes: u64, refused: Option<&(ErrorKind, String)>) -> Result<()> {
        match refused {
            Some((kind, why)) => Err(Error::new(*kind, why.as_str())),
            None => self.shared.preallocation.reserve(bytes),
        }
    }

    /// Reserves room for a change of a consumer, or refuses it.
    fn admit_change(&self, change: Change) -> Option<Change> {
        match self.shared.preallocation.reserve(change.reserved) {
            Ok(()) => Some(change),
            Err(e) => {
                let _ = change.reply.send(Err(e));
                None
            }
        }
    }

    /// Why nothing can be decided: too much waits to be indexed. Finding waits for nothing, nor
    /// does a consumer, which adds nothing to the index: what there is of it in `jobs` is done
    /// first.
    fn refusal(&mut self, jobs: &mut VecDeque<Job>) -> Option<(ErrorKind, String)> {
        let shared = Arc::clone(&self.shared);
        let (lag, max) = (&shared.lag, shared.lag_max());
        if lag.claims() <= max {
            return None;
        }
        let mut changes = Vec::new();
        for job in std::mem::take(jobs) {
            match job {
                Job::Find { key, hash, reply } => _ = reply.send(self.find(&key, hash)),
                Job::Change { change, .. } => changes.extend(self.admit_change(change)),
                append @ Job::Append { .. } => jobs.push_back(append),
                Job::Forget => {}
            }
        }
        self.commit(Decided::default(), changes, 0);
        if jobs.is_empty() {
            return None;
        }
        // What a full disk keeps from being indexed is no overload, and does not pass by itself.
        if let Err(e) = shared.preallocation.check_index(lag.claims()) {
            return Some((e.kind(), format!("{e}, then send it again; nothing of this was stored")));
        }
        let why =
            "what is stored can't be indexed fast enough; nothing of this was stored, send it again later";
        (!lag.wait_below(max)).then(|| (ErrorKind::Overloaded, why.to_owned()))
    }

    /// Decides requests whose events are looked up together: those that can be answered at once,
    /// and those that wait for the commit.
    fn decide_together(&mut self, requests: Vec<Request>, at_once: &mut Decided, with_commit: &mut Decided) {
        let events = requests.iter().flat_map(|request| &request.items).map(|item| item.event);
        self.lookahead.look(events, &self.tables, &self.filters);
        let mut number = 0;
        for request in requests {
            let count = request.items.len();
            let (reply, known) = self.decide(request, number);
            let decided = if self.must_commit { &mut *with_commit } else { &mut *at_once };
            decided.replies.push(reply);
            decided.known.extend(known);
            number += count;
        }
    }

    /// Decides one request's events, which have the numbers from `first` on in the look-up
    /// lookahead.
    fn decide(&mut self, Request { batch, items, reply }: Request, first: usize) -> (Reply, KnownEvents) {
        let (mut outcomes, mut known) = (Outcomes::with_capacity(items.len()), KnownEvents::new());
        self.must_commit = false;
        for (item, number) in items.iter().zip(first..) {
            match self.decide_event(&batch.get(item.index as usize), item, number) {
                Ok((topic, outcome)) => {
                    outcomes.push(outcome);
                    if outcome.status != Status::Stored {
                        known.push((topic, outcome.status));
                    }
                }
                Err(e) => return (Reply { to: reply, answer: Err(e) }, known),
            }
        }
        (Reply { to: reply, answer: Ok(outcomes) }, known)
    }

    /// Decides an event: its topic's place in `topics`, and what became of it.
    fn decide_event(&mut self, event: &EventRef<'_>, item: &Item, number: usize) -> Result<(usize, Outcome)> {
        let topic = self.topic(event.topic, item.topic)?;
        if let Some(known) = self.known(event, item.event, number)? {
            let status = if known.digest == event.digest { Status::Duplicate } else { Status::Conflict };
            let first_seen = Timestamp(known.received_at);
            return Ok((topic, Outcome { status, offset: known.offset, first_seen }));
        }
        let offset = self.encode(topic, event);
        let known = Claim { offset, digest: event.digest, received_at: self.received_at.0 };
        self.tables.insert(item.event, event.topic, event.event_id, known);
        self.must_commit = true;
        Ok((topic, Outcome { status: Status::Stored, offset, first_seen: self.received_at }))
    }

    /// What is known of an event, wherever it is. Marks the request if that is not durable yet.
    fn known(&mut self, event: &EventRef<'_>, hash: u128, number: usize) -> Result<Option<Claim>> {
        let (known, frame) = self.look_up(hash, event.topic, event.event_id, Some(number))?;
        if known.is_some() && !self.is_durable(frame) {
            // A duplicate may rest on a claim of this same commit.
            self.must_commit = true;
        }
        Ok(known)
    }

    fn is_durable(&self, frame: Option<u64>) -> bool {
        frame.is_some_and(|frame| frame <= self.shared.durable.load(Ordering::Acquire))
    }

    /// What is known of an event, of the look-up ahead if it has a number, and the frame that holds
    /// it (`None`: not in a frame yet).
    fn look_up(
        &self,
        hash: u128,
        topic: &[u8],
        event_id: &[u8],
        number: Option<usize>,
    ) -> Result<(Option<Claim>, Option<u64>)> {
        match self.tables.lookup(hash, topic, event_id) {
            Lookup::Recent { known, frame } => return Ok((Some(known), frame)),
            Lookup::Indexed(generation) => {
                let key = || [topic, b"\0", event_id].concat();
                if let Some(known) = generation.claim(hash, key)? {
                    return Ok((Some(known), Some(0)));
                }
            }
            Lookup::Absent => {}
        }
        let ids = number.and_then(|number| self.lookahead.generations(number)).unwrap_or_else(|| {
            let mut ids = Vec::new();
            self.filters.candidates(&[hash], |_, id| ids.push(id));
            ids
        });
        for id in ids {
            let Some(generation) = self.shared.generation(id) else { continue };
            if let Some(known) = generation.claim(hash, Vec::new)? {
                return Ok((Some(known), Some(0)));
            }
        }
        Ok((None, Some(0)))
    }

    fn find(&self, (key, id_at): &(Vec<u8>, usize), hash: u128) -> Result<Option<u64>> {
        let (topic, event_id) = (&key[..*id_at - 1], &key[*id_at..]);
        let (known, frame) = self.look_up(hash, topic, event_id, None)?;
        Ok(known.filter(|_| self.is_durable(frame)).map(|known| known.offset))
    }

    /// The place of a topic in `topics`.
    fn topic(&mut self, name: &[u8], hash: u128) -> Result<usize> {
        if let Some((_, at)) = self.by_hash.find(hash as u64, |(other, _)| *other == hash) {
            return Ok(*at);
        }
        let text =
            std::str::from_utf8(name).map_err(|_| Error::new(ErrorKind::Io, "a topic is not UTF-8"))?;
        let topic = self.shared.topics.ensure(text, hash)?;
        let next_offset = topic.next_offset();
        let own = OwnTopic { topic, next_offset, block: None, duplicates: 0, conflicts: 0 };
        self.topics.push(own);
        let at = self.topics.len() - 1;
        self.by_hash.insert_unique(hash as u64, (hash, at), |(other, _)| *other as u64);
        Ok(at)
    }

    /// Appends a fresh event to its topic's block; returns its offset.
    fn encode(&mut self, topic: usize, event: &EventRef<'_>) -> u64 {
        let own = &mut self.topics[topic];
        let offset = own.next_offset;
        own.next_offset += 1;
        let at = match own.block {
            Some(at) if self.blocks[at].bytes.len() < BLOCK_BYTES => at,
            _ => {
                let mut bytes = Vec::with_capacity(1_024);
                bytes.resize(BlockHeader::BYTES, 0);
                let (name, received_at) = (own.topic.name.as_bytes(), self.received_at.0);
                encode_varied(&EventsHead { topic: name, first_offset: offset, received_at }, &mut bytes);
                self.blocks.push(OpenBlock { topic, first_offset: offset, count: 0, bytes });
                own.block = Some(self.blocks.len() - 1);
                self.blocks.len() - 1
            }
        };
        let block = &mut self.blocks[at];
        encode_varied(&EventRecord::of(event), &mut block.bytes);
        block.count += 1;
        offset
    }

    /// Counts known events, by topic.
    fn count(&mut self, known: Vec<(usize, Status)>) -> Vec<Pending> {
        let mut topics = Vec::new();
        for (topic, status) in known {
            let own = &mut self.topics[topic];
            if own.duplicates == 0 {
                topics.push(topic);
            }
            own.duplicates += 1;
            own.conflicts += u64::from(status == Status::Conflict);
        }
        let counts = topics.into_iter().map(|topic| {
            let own = &mut self.topics[topic];
            let (duplicates, conflicts) =
                (std::mem::take(&mut own.duplicates), std::mem::take(&mut own.conflicts));
            Pending { topic: Arc::clone(&own.topic), duplicates, conflicts }
        });
        counts.collect()
    }

    /// Answers requests that rest on what is durable. Their counts become so with the next frame.
    fn answer(&mut self, Decided { replies, known }: Decided) {
        self.count(known).iter().for_each(|pending| self.shared.topics.count_pending(pending));
        replies.into_iter().for_each(|reply| _ = reply.to.send(reply.answer));
    }

    /// Hands on requests that wait for a commit, and changes of consumers.
    fn commit(&mut self, Decided { replies, known }: Decided, changes: Vec<Change>, reserved: u64) {
        if replies.is_empty() && changes.is_empty() {
            self.shared.preallocation.settle(reserved, None);
            return;
        }
        let counts = self.count(known);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for OpenBlock { topic, first_offset, count, mut bytes } in self.blocks.drain(..) {
            let own = &mut self.topics[topic];
            own.block = None;
            finish_block(BlockKind::Events, count, &mut bytes, &mut self.scratch);
            blocks.push(EventsBlock { topic: Arc::clone(&own.topic), first_offset, count, bytes });
        }
        let claims = self.tables.finish_group();
        if let Some(fresh) =
            claims.as_ref().and_then(|set| set.with(crate::store::local::generation::claims::Claims::len))
        {
            self.shared.lag.add(fresh as u64);
        }
        let received_at = self.received_at.0;
        let group = Group { blocks, claims, counts, changes, received_at, replies, reserved };
        if let Err(group) = self.journal.commit(group) {
            for reply in group.replies {
                _ = reply.to.send(Err(self.shared.failure.unsure()));
            }
            for change in group.changes {
                _ = change.reply.send(Err(self.shared.failure.unsure()));
            }
        }
    }
}
