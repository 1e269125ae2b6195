//! The journal's writer: makes one frame and one fdatasync of all groups that wait. `commit.rs`
//! says in which thread.
//!
//! ```text
//! groups ──> frame ──> write, fdatasync ──> publish (topics, blocks, durable end) ──> answers
//!                                                 └──> checkpoint
//! ```
//! A write or sync that fails is final: the store is poisoned, and what waits is answered "unknown,
//! safe to retry".

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changes::Changes;
use super::group::{Committed, GROUP_BYTES_MAX, Group, Message};
use crate::disk::{DiskFile, Open};
use crate::error::{During, Error, ErrorKind, Result};
use crate::limits::{CONSUMER_CHANGE_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::store::local::admission::preallocation::Prepared;
use crate::store::local::format::claim::BlockLocation;
use crate::store::local::format::codec::{BlockKind, FRAME_BYTES_MAX, FixedRecord, FrameHeader, FrameKind};
use crate::store::local::format::entries::CounterEntry;
use crate::store::local::format::frame::{Chain, FrameBuilder};
use crate::store::local::format::layout::{folder, journal_path};
use crate::store::local::format::manifest::{Entry, Manifest, random_u64};
use crate::store::local::generation::Generation;
use crate::store::local::generation::claims::Placed;
use crate::store::local::generation::head::{EntryBlocks, TableBlock, state_table, table_bytes, write_head};
use crate::store::local::generation::topic::{Pending, Topic};
use crate::store::local::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::mpsc;
use crate::sync::mpsc::{Receiver, Sender, TryRecvError};

/// A frame takes no further group once it has so many bytes.
const FRAME_BYTES: usize = 4 << 20;
/// Idle time after which a witness says that the last frame is durable.
const WITNESS_AFTER: Duration = Duration::from_millis(20);
/// Counts of dropped events wait at most so long.
const COUNTERS_AFTER: Duration = Duration::from_secs(1);
/// Groups that may wait for the writer.
pub(crate) const GROUPS_MAX: usize = 64;

/// Most bytes of one counter.
const COUNTER_BYTES_MAX: usize = TOPIC_BYTES_MAX + 32;
/// Most bytes of counters in one frame; what is left waits for the next.
const COUNTERS_BYTES: usize = 1 << 20;

// A frame that has nearly all it takes may get one more group, with a change of a consumer, and counters.
const _: () = assert!(
    FRAME_BYTES + GROUP_BYTES_MAX + CONSUMER_CHANGE_BYTES_MAX + COUNTERS_BYTES + (64 << 10)
        <= FRAME_BYTES_MAX
);

/// The writer's own state.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    groups: Receiver<Message>,
    committed: Sender<Committed>,
    chain: Chain,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    generation: Arc<Generation>,
    builder: FrameBuilder,
    /// The last frame says of itself nothing about being durable; a witness must.
    is_unwitnessed: bool,
    counted_at: Instant,
    /// The next frame's number when the thread last looked.
    seen: u64,
}

impl Writer {
    /// A writer that goes on at `chain` in the live generation.
    pub(crate) fn new(
        shared: Arc<Shared>,
        groups: Receiver<Message>,
        committed: mpsc::Sender<Committed>,
        chain: Chain,
        generation: Arc<Generation>,
    ) -> Result<Self> {
        let (file, path, counted_at) = (generation.journal()?, generation.journal_path(), shared.now());
        let (builder, seen) = (FrameBuilder::default(), chain.sequence);
        Ok(Self {
            shared,
            groups,
            committed,
            chain,
            file,
            path,
            generation,
            builder,
            // What recovery found last may have none either.
            is_unwitnessed: true,
            counted_at,
            seen,
        })
    }

    /// Commits what waits, as one frame. Returns whether the journal's thread is to look.
    pub(crate) fn commit_once(&mut self) -> bool {
        let was_unwitnessed = self.is_unwitnessed;
        let has_more = self.groups.try_recv().is_ok_and(|message| self.commit(message));
        // It sleeps for long when it awaits no witness.
        has_more || (self.is_unwitnessed && !was_unwitnessed)
    }

    /// Commits all that waits, then what is due when nothing comes. Returns the time until
    /// something may be due again; `None` when nobody can hand anything over any more.
    pub(crate) fn commit_all(&mut self) -> Option<Duration> {
        loop {
            match self.groups.try_recv() {
                Ok(message) => _ = self.commit(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        if self.chain.sequence == self.seen {
            self.attempt(|writer| writer.commit_late_counters().and_then(|()| writer.witness()));
        }
        self.seen = self.chain.sequence;
        Some(if self.is_unwitnessed { WITNESS_AFTER } else { COUNTERS_AFTER })
    }

    /// The end of the journal, once all that was handed over is in it.
    pub(crate) fn end(&mut self) -> Chain {
        self.attempt(|writer| writer.commit_counters().and_then(|()| writer.witness()));
        self.chain.clone()
    }

    /// Commits `first` and all else that waits, as one frame; after a failure answers that it is
    /// unknown. Returns whether there was more than a frame takes.
    fn commit(&mut self, first: Message) -> bool {
        let shared = Arc::clone(&self.shared);
        let _committing = shared.pace.commit(&shared.queues);
        self.builder.clear();
        let (mut groups, mut changes, mut flushes) = (Vec::new(), Changes::default(), Vec::new());
        let mut message = Some(first);
        let mut bytes = 0;
        while let Some(next) = message.take() {
            match next {
                Message::Group(mut group) => {
                    bytes += group.bytes();
                    group.changes.drain(..).for_each(|change| changes.take(change, &shared.consumers));
                    groups.push(group);
                }
                Message::Flush(done) => flushes.push(done),
            }
            if bytes < FRAME_BYTES {
                message = self.groups.try_recv().ok();
            }
        }
        let done = self.commit_frame(&mut groups, &mut changes);
        // What rests on the frame is answered now, refusals too.
        for reply in groups.into_iter().flat_map(|group| group.replies) {
            _ = reply.to.send(if done { reply.answer } else { Err(shared.failure.unsure()) });
        }
        changes.answer(|| if done { Ok(()) } else { Err(shared.failure.unsure()) });
        let done = done
            && self.attempt(|writer| match flushes.is_empty() {
                true => writer.commit_late_counters(),
                false => writer.commit_counters(),
            });
        for flush in flushes {
            _ = flush.send(if done { Ok(()) } else { Err(shared.failure.unsure()) });
        }
        bytes >= FRAME_BYTES
    }

    fn commit_frame(&mut self, groups: &mut [Group], changes: &mut Changes) -> bool {
        self.attempt(|writer| {
            writer.rotate_if_full()?;
            if groups.is_empty() && changes.is_empty() {
                return Ok(());
            }
            writer.commit_groups(groups, changes)
        })
    }

    /// Writes, unless the store has failed; a failure is final, as a second fdatasync would lie.
    /// Says whether all is well.
    fn attempt(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> bool {
        if self.shared.failure.get().is_some() {
            return false;
        }
        let done = write(self);
        if let Err(e) = &done {
            self.shared.fail(e);
        }
        done.is_ok()
    }

    fn commit_late_counters(&mut self) -> Result<()> {
        let now = self.shared.now();
        if now.saturating_duration_since(self.counted_at) < COUNTERS_AFTER {
            return Ok(());
        }
        self.commit_counters()
    }

    fn commit_groups(&mut self, groups: &mut [Group], changes: &mut Changes) -> Result<()> {
        for pending in groups.iter().flat_map(|group| &group.counts) {
            self.shared.topics.count_pending(pending);
        }
        let (mut topics, rejected) = self.shared.topics.take_pending();
        for pending in topics.split_off(topics.len().min(COUNTERS_BYTES / COUNTER_BYTES_MAX)) {
            self.shared.topics.count_pending(&pending);
        }
        let (counters, reserved_for_counters) = self.push_counters(topics, rejected);
        let frame = self.chain.sequence;
        let (mut blocks, mut received) = (Vec::new(), Vec::new());
        let (mut sets, mut claims_sum) = (Vec::new(), 0u64);
        for group in &mut *groups {
            for block in group.blocks.drain(..) {
                let at =
                    self.chain.at + self.builder.push_events(&block.bytes, block.count, group.received_at);
                let location = BlockLocation { at, length: block.bytes.len() as u32, count: block.count };
                blocks.push((block.topic, block.first_offset, location));
                received.push(group.received_at);
            }
            if let Some(set) = group.claims.take() {
                let placed = Placed { generation: Arc::clone(&self.generation), frame };
                // The only writer of `placed` is this line, and a set is in one group.
                let _ = set.placed.set(placed);
                claims_sum = claims_sum.wrapping_add(
                    set.with(crate::store::local::generation::claims::Claims::sum).unwrap_or(0),
                );
                sets.push(set);
            }
        }
        changes.push_to(&mut self.builder);
        let reserved_for_groups = groups.iter().map(|group| group.reserved).sum::<u64>();
        let reserved = reserved_for_groups + changes.reserved() + reserved_for_counters;
        if self.builder.is_empty() {
            self.shared.preallocation.settle(reserved, None);
            return Ok(());
        }
        let header = self.write(FrameKind::Events, reserved)?;

        self.publish(&header, &counters, &blocks, claims_sum);
        changes.apply(&self.shared.consumers);
        for ((topic, _, location), received_at) in blocks.iter().zip(received) {
            // After the blocks: a reader that sees the offset finds the event.
            self.shared.topics.add_events(topic, u64::from(location.count), received_at);
        }
        self.shared.topic_notes.note(blocks.iter().map(|(topic, _, _)| topic.number));
        self.shared
            .visible_events
            .store(self.generation.first_event + self.generation.events(), Ordering::Release);
        self.shared.durable.store(header.sequence, Ordering::Release);
        let generation = Arc::clone(&self.generation);
        // The checkpoint outlives the writer unless the store has failed.
        let _ = self.committed.send(Committed { generation, through: header.sequence, sets, blocks });
        Ok(())
    }

    /// Writes pending counts, if there are any and there is room for them.
    fn commit_counters(&mut self) -> Result<()> {
        self.counted_at = self.shared.now();
        // What is pending now, and no more: duplicates that go on coming must not keep the writer
        // here.
        let (topics, mut rejected) = self.shared.topics.take_pending();
        let mut topics = topics.into_iter().peekable();
        while topics.peek().is_some() || rejected > 0 {
            let some: Vec<_> = topics.by_ref().take(COUNTERS_BYTES / COUNTER_BYTES_MAX).collect();
            self.builder.clear();
            let (counters, reserved) = self.push_counters(some, std::mem::take(&mut rejected));
            if !self.builder.is_empty() {
                let header = self.write(FrameKind::Events, reserved)?;
                self.publish(&header, &counters, &[], 0);
            }
        }
        Ok(())
    }

    /// Says that the last frame is durable.
    fn witness(&mut self) -> Result<()> {
        let bytes = FrameHeader::BYTES as u64;
        if !self.is_unwitnessed || !self.shared.preallocation.try_reserve(bytes) {
            return Ok(());
        }
        self.builder.clear();
        let header = self.write(FrameKind::Witness, bytes)?;
        self.publish(&header, &Counters::default(), &[], 0);
        self.is_unwitnessed = false;
        Ok(())
    }

    /// Adds a block of pending counts to the frame.
    fn push_counters(&mut self, topics: Vec<Pending>, rejected: u64) -> (Counters, u64) {
        self.counted_at = self.shared.now();
        let mut entries = EntryBlocks::new(BlockKind::Counters);
        if rejected > 0 {
            entries.push(&CounterEntry { topic: b"", duplicates: 0, conflicts: 0, rejected });
        }
        for Pending { topic, duplicates, conflicts } in &topics {
            let (duplicates, conflicts) = (*duplicates, *conflicts);
            entries.push(&CounterEntry { topic: topic.name.as_bytes(), duplicates, conflicts, rejected: 0 });
        }
        let blocks = entries.finish();
        let reserved = FrameHeader::BYTES as u64 + table_bytes(&blocks);
        if blocks.is_empty() {
            return (Counters::default(), 0);
        }
        if !self.shared.preallocation.try_reserve(reserved) {
            // No room: they wait on.
            self.shared.topics.count_rejected(rejected);
            for pending in &topics {
                self.shared.topics.count_pending(pending);
            }
            return (Counters::default(), 0);
        }
        for block in &blocks {
            self.builder.push(block.kind, block.count, &block.body);
        }
        (Counters { topics, rejected }, reserved)
    }

    /// Writes the frame in the builder and makes it durable.
    fn write(&mut self, kind: FrameKind, reserved: u64) -> Result<FrameHeader> {
        let at = self.chain.at;
        let (header, bytes) = self.builder.finish(kind, &mut self.chain);
        let (file, path) = (&self.file, &self.path);
        let now = self.shared.now();
        self.shared.watches.journal.during(now, || {
            file.write_all_at(bytes, at).during("write to", path)?;
            file.sync().during("sync", path)
        })?;
        let took = self.shared.now().saturating_duration_since(now);
        self.shared.seams.metrics.committed(took, u64::from(header.events), self.chain.at - at);
        self.chain.durable_through = header.sequence;
        self.is_unwitnessed = kind != FrameKind::Witness;
        self.shared.preallocation.settle(reserved, Some(self.chain.at));
        Ok(header)
    }

    /// Makes a durable frame visible to readers and workers.
    fn publish(
        &self,
        header: &FrameHeader,
        counters: &Counters,
        blocks: &[(Arc<Topic>, u64, BlockLocation)],
        claims_sum: u64,
    ) {
        for pending in &counters.topics {
            self.shared.topics.add_counts(&pending.topic, pending.duplicates, pending.conflicts);
        }
        self.shared.topics.add_rejected(counters.rejected);
        self.generation.publish(header, blocks, claims_sum);
    }

    /// Goes on in the next generation, if this one is full, the one before is sealed, and the next
    /// is prepared.
    fn rotate_if_full(&mut self) -> Result<()> {
        let is_full = self.generation.events() >= self.shared.options.generation_events
            || self.chain.at >= self.shared.options.generation_bytes;
        // One that has nothing but a topic table, however large that is, is not full.
        if !is_full || self.generation.events() == 0 {
            return Ok(());
        }
        let generations = self.shared.generations();
        let is_last_sealed = generations.iter().rev().nth(1).is_none_or(|older| older.is_sealed());
        if !is_last_sealed {
            return Ok(());
        }
        let head = state_table(&self.shared.topics, &self.shared.consumers);
        let head_bytes = table_bytes(&head) + FrameHeader::BYTES as u64 * (1 + head.len() as u64);
        match self.shared.preallocation.take_next(head_bytes) {
            Some(prepared) => {
                let shared = Arc::clone(&self.shared);
                let rotated = shared.watches.journal.during(shared.now(), || self.rotate(&prepared, &head));
                match rotated {
                    Err(e) if e.kind() == ErrorKind::NoSpace => self.stay(&prepared, e),
                    rotated => rotated,
                }
            }
            None => Ok(()),
        }
    }

    /// There was no room to rotate: the generation goes on, unless MANIFEST has the next one all
    /// the same.
    fn stay(&mut self, prepared: &Prepared, why: Error) -> Result<()> {
        let (disk, dir) = (&*self.shared.seams.disk, &self.shared.options.data_dir);
        let manifest = Manifest::read(disk, dir)?;
        if manifest.is_none_or(|manifest| manifest.generations.iter().any(|entry| entry.id == prepared.id)) {
            return Err(why);
        }
        tracing::warn!(error = %why, "no room for a new generation; this one goes on");
        let folder = folder(dir, prepared.id);
        // What is left of it is removed by the next start.
        if let Err(e) = disk.remove_dir_all(&folder) {
            tracing::debug!(error = %e, "a folder that was prepared could not be removed");
        }
        self.builder.clear();
        self.shared.preallocation.stay();
        Ok(())
    }

    fn rotate(&mut self, prepared: &Prepared, head: &[TableBlock]) -> Result<()> {
        let closed = self.generation.closed();
        let entry = Entry {
            id: prepared.id,
            nonce: random_u64()?,
            first_frame: self.chain.sequence,
            first_event: self.chain.first_event,
            closed: None,
            sealed: false,
        };
        let mut chain = Chain { nonce: entry.nonce, at: 0, previous_crc: 0, ..self.chain.clone() };
        // A handle of the writer's own, see `Preallocation`.
        let path = journal_path(&self.shared.options.data_dir, prepared.id);
        let file = self.shared.seams.disk.open(&path, Open::Write).during("open", &path)?;
        let generation = Arc::new(Generation::open(&self.shared.options.data_dir, &entry, Arc::clone(&file)));
        let headers = write_head(&*file, &path, &mut self.builder, &mut chain, head)?;
        self.shared.update_manifest(|manifest| {
            if let Some(last) = manifest.generations.last_mut() {
                last.closed = Some(closed);
            }
            manifest.generations.push(entry.clone());
        })?;
        self.shared.preallocation.switch(prepared, chain.at);
        for header in &headers {
            generation.publish(header, &[], 0);
        }
        self.shared.push_generation(Arc::clone(&generation));
        chain.durable_through = chain.sequence - 1;
        self.shared.durable.store(chain.durable_through, Ordering::Release);
        let none = Committed {
            generation: Arc::clone(&generation),
            through: chain.durable_through,
            sets: Vec::new(),
            blocks: Vec::new(),
        };
        let _ = self.committed.send(none);
        (self.chain, self.file, self.path, self.generation) = (chain, file, path, generation);
        self.builder.clear();
        tracing::info!(generation = self.generation.id, "generation began");
        Ok(())
    }
}

/// Counts in a frame.
#[derive(Debug, Default)]
struct Counters {
    topics: Vec<Pending>,
    rejected: u64,
}
