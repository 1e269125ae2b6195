//! JSON objects with one long list: pages of events, of topics, and the topics' names of `/stats`.

use std::io::Write;
use std::sync::Arc;

use crate::error::Result;
use crate::event::pattern::TopicPatterns;
use crate::http::read::pages::Pages;
use crate::http::wire::answer_budget::Account;
use crate::http::wire::json::{push_event, push_optional, push_string};
use crate::http::wire::object::Object;
use crate::http::wire::streaming::{Made, Maker, Portion};
use crate::limits::{PAGE_BYTES_MAX, PAGE_SCAN_BYTES_MAX, PIECE_BYTES, TOPIC_BYTES_MAX};
use crate::store::{EventStore, Page, TopicStats, Totals};

/// A page of events, made of as many of the store's as it takes.
#[derive(Debug)]
pub(crate) struct PageOfEvents<S> {
    pages: Pages<S>,
    object: Object,
    /// Events, bytes of them, and bytes scanned in vain that it may still have.
    left: Left,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    events: usize,
    bytes: usize,
    scan: usize,
}

impl Left {
    /// What is left after a page whose events take this many bytes; `None` if that is the last one.
    fn after(self, page: &Page, bytes: usize) -> Option<Self> {
        let scanned = if page.is_scan() { page.read_bytes } else { 0 };
        let left = Self {
            events: self.events.saturating_sub(page.events.len()),
            bytes: self.bytes.saturating_sub(bytes),
            scan: self.scan.saturating_sub(scanned),
        };
        let is_over = left.events == 0 || left.bytes == 0 || left.scan == 0;
        (page.next_cursor.is_some() && !is_over).then_some(left)
    }
}

impl<S: EventStore> PageOfEvents<S> {
    /// A page of at most `limit` events.
    pub(crate) fn new(pages: Pages<S>, limit: usize) -> Self {
        let mut before = b"\"topic\":".to_vec();
        push_optional(&mut before, pages.query.topic.as_deref());
        before.push(b',');
        let left = Left { events: limit, bytes: PAGE_BYTES_MAX, scan: PAGE_SCAN_BYTES_MAX };
        Self { pages, object: Object::new(before, "events", true), left }
    }
}

impl<S: EventStore> Maker for PageOfEvents<S> {
    async fn step(&mut self) -> Result<Made> {
        let (object, left) = (self.object.clone(), self.left);
        let write = move |page: &Page| {
            let mut events = Vec::new();
            for (number, event) in page.events.iter().enumerate() {
                object.comma(&mut events, number);
                push_event(&mut events, event);
            }
            let after = left.after(page, events.len());
            let is_last = after.is_none();
            let mut out = Vec::with_capacity(events.len() + 192);
            object.begin(&mut out, page.events.len(), is_last);
            out.append(&mut events);
            object.end(&mut out, page.events.len(), is_last);
            if is_last {
                out.extend_from_slice(b",\"next_cursor\":");
                push_optional(&mut out, page.next_cursor.as_deref());
                out.push(b'}');
            }
            (out, after)
        };
        let (page, portion, after) = self.pages.next(left.events, write).await?;
        self.object.stepped(page.events.len());
        match after {
            Some(left) => {
                self.left = left;
                Ok(Made::Part(portion))
            }
            None => Ok(Made::End(portion)),
        }
    }
}

/// Topics, written one by one.
#[derive(Debug)]
pub(crate) struct ListOfTopics<S> {
    store: Arc<S>,
    account: Account,
    object: Object,
    /// Appends a topic, which takes at most `entry_bytes_max` bytes.
    write: fn(&mut Vec<u8>, &TopicStats),
    entry_bytes_max: usize,
    /// Only topics that these patterns mean.
    only: Option<Arc<TopicPatterns>>,
    after: After,
    cursor: Option<String>,
    left: usize,
}

/// What follows the list.
#[derive(Debug)]
enum After {
    /// The cursor of the next page.
    Cursor,
    /// These members.
    Members(Vec<u8>),
    /// The totals of the topics listed, and these members.
    Totals(Totals, Vec<u8>),
}

/// Most bytes that a topic's name takes, with each of its bytes escaped.
const NAME_BYTES_MAX: usize = 2 * TOPIC_BYTES_MAX + 8;
/// And its figures.
const FIGURES_BYTES_MAX: usize = 400;
/// For fewer topics, the store is not asked once more for the same piece.
const WORTH_ASKING: usize = 8;

impl<S: EventStore> ListOfTopics<S> {
    /// All topics' names, with the totals of the store. Of those that `only` means, the totals are
    /// the sums over them, and how many events were refused is not known by topic.
    pub(crate) fn names(
        store: &Arc<S>,
        account: Account,
        totals: Totals,
        only: Option<Arc<TopicPatterns>>,
        members: Vec<u8>,
    ) -> Self {
        let write = |out: &mut Vec<u8>, topic: &TopicStats| push_string(out, &topic.topic);
        let mut before = Vec::new();
        let after = match &only {
            Some(_) => After::Totals(Totals::default(), members),
            None => {
                push_totals(&mut before, totals);
                let _ = write!(before, r#""rejected":{},"#, totals.rejected);
                After::Members(members)
            }
        };
        let object = Object::new(before, "topics", false);
        Self {
            store: Arc::clone(store),
            account,
            object,
            write,
            entry_bytes_max: NAME_BYTES_MAX,
            only,
            after,
            cursor: None,
            left: usize::MAX,
        }
    }

    /// A page of topics' figures.
    pub(crate) fn page(
        store: &Arc<S>,
        account: Account,
        cursor: Option<String>,
        limit: usize,
        only: Option<Arc<TopicPatterns>>,
    ) -> Self {
        let object = Object::new(Vec::new(), "topics", true);
        Self {
            store: Arc::clone(store),
            account,
            object,
            write: push_topic,
            entry_bytes_max: NAME_BYTES_MAX + FIGURES_BYTES_MAX,
            only,
            after: After::Cursor,
            cursor,
            left: limit,
        }
    }
}

impl<S: EventStore> Maker for ListOfTopics<S> {
    async fn step(&mut self) -> Result<Made> {
        if self.object.has_begun() {
            // Nothing here waits, so a fast reader would keep the thread for as long as the list
            // is.
            tokio::task::yield_now().await;
        }
        let mut permit = self.account.piece(0, PIECE_BYTES, !self.object.has_begun()).await?;
        let (mut topics, mut entries) = (Vec::new(), 0);
        let next_cursor = loop {
            // As many as surely fit; most names are short, so this is asked several times.
            let fit = permit.bytes().saturating_sub(topics.len() + 512) / self.entry_bytes_max;
            if entries > 0 && fit < WORTH_ASKING {
                break self.cursor.clone();
            }
            let limit = fit.max(1).min(self.left);
            let page = self.store.topics(self.cursor.as_deref(), limit, self.only.as_deref()).await?;
            for topic in &page.topics {
                if let After::Totals(sums, _) = &mut self.after {
                    sums.unique_processed += topic.unique_processed;
                    sums.duplicate_dropped += topic.duplicate_dropped;
                    sums.conflicts += topic.conflicts;
                }
                self.object.comma(&mut topics, entries);
                (self.write)(&mut topics, topic);
                entries += 1;
            }
            self.left -= page.topics.len().min(self.left);
            if page.next_cursor.is_none() || self.left == 0 {
                self.left = 0;
                break page.next_cursor;
            }
            self.cursor = page.next_cursor;
        };
        let is_last = self.left == 0;
        let mut out = Vec::with_capacity(topics.len() + 512);
        self.object.begin(&mut out, entries, is_last);
        out.append(&mut topics);
        self.object.end(&mut out, entries, is_last);
        self.object.stepped(entries);
        if !is_last {
            permit.resize(out.len());
            return Ok(Made::Part(Portion::new(out, permit)));
        }
        match &self.after {
            After::Members(members) => out.extend_from_slice(members),
            After::Totals(sums, members) => {
                out.push(b',');
                push_totals(&mut out, *sums);
                out.extend_from_slice(b"\"rejected\":null");
                out.extend_from_slice(members);
            }
            After::Cursor => {
                out.extend_from_slice(b",\"next_cursor\":");
                push_optional(&mut out, next_cursor.as_deref());
            }
        }
        out.push(b'}');
        permit.resize(out.len());
        Ok(Made::End(Portion::new(out, permit)))
    }
}

/// Appends what became of events, and a comma.
fn push_totals(out: &mut Vec<u8>, totals: Totals) {
    // A Vec takes all that is written.
    let _ = write!(
        out,
        r#""received":{},"unique_processed":{},"duplicate_dropped":{},"conflicts":{},"#,
        totals.received(),
        totals.unique_processed,
        totals.duplicate_dropped,
        totals.conflicts
    );
}

fn push_topic(out: &mut Vec<u8>, topic: &TopicStats) {
    out.extend_from_slice(b"{\"topic\":");
    push_string(out, &topic.topic);
    // A Vec takes all that is written.
    let _ = write!(
        out,
        r#","received":{},"unique_processed":{},"duplicate_dropped":{},"conflicts":{},"first_offset":{},"last_offset":{},"first_received_at":"{}","last_received_at":"{}"}}"#,
        topic.unique_processed + topic.duplicate_dropped,
        topic.unique_processed,
        topic.duplicate_dropped,
        topic.conflicts,
        topic.first_offset,
        topic.last_offset,
        topic.first_received_at,
        topic.last_received_at
    );
}
