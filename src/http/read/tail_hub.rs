//! What all tails share: the task that wakes them, and the pages that they read last.
//!
//! Tails at the same position want the same next page. The first that asks for it reads and writes
//! it, and the others take the same bytes. Tails are woken a few at a time, so that requests to
//! publish have their turn in between; the more tails there are, the later the last one hears of an
//! event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, watch};

use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::pattern::TopicPatterns;
use crate::limits::{PIECE_BYTES, TAIL_PAGES_KEPT, TAILS_WOKEN_MAX};
use crate::store::{Page, Priority, Query};
use crate::sync::Mutex;

/// Where the store ends, as tails were told last; `None` when they shall end.
pub(crate) type End = Option<String>;

/// How often it is looked whether tails have something to read.
const LOOK: Duration = Duration::from_millis(20);
/// Pause between the groups that are woken.
const PAUSE: Duration = Duration::from_millis(1);

/// What all tails of a service share.
#[derive(Debug)]
pub(crate) struct TailHub {
    /// The tails that wait, by the groups in which they are woken.
    groups: Mutex<TailGroups>,
    /// The newest first.
    pages: Mutex<VecDeque<(Position, SharedPage)>>,
}

#[derive(Debug)]
struct TailGroups {
    /// What they were told last.
    end: End,
    groups: Vec<watch::Sender<End>>,
}

/// A page, as soon as it is read.
type SharedPage = Arc<OnceCell<Arc<TailPage>>>;

/// What decides what a tail reads next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    topic: Option<String>,
    only: Option<Arc<TopicPatterns>>,
    source: Option<String>,
    since: Option<Timestamp>,
    cursor: Option<String>,
    /// Where the store ended when tails were told last. What was read before then may have been the
    /// end, and is not any more.
    end: End,
}

/// A page of a tail, as server-sent events.
#[derive(Debug)]
pub(crate) struct TailPage {
    pub(crate) messages: Bytes,
    /// The id of its last event.
    pub(crate) last: Option<String>,
    /// The cursor after it.
    pub(crate) reached: String,
    /// Whether it ended before the store did.
    pub(crate) has_more: bool,
    pub(crate) next_priority: Priority,
}

impl TailPage {
    pub(crate) fn new(page: &Page, messages: impl Into<Bytes>) -> Self {
        Self {
            messages: messages.into(),
            last: page.cursors.last().cloned(),
            reached: page.reached.clone(),
            has_more: page.next_cursor.is_some(),
            next_priority: page.next_priority(),
        }
    }
}

impl Position {
    pub(crate) fn of(query: &Query, end: &End) -> Self {
        let Query { topic, only, source, since, cursor, .. } = query.clone();
        Self { topic, only, source, since, cursor, end: end.clone() }
    }
}

impl Default for TailHub {
    fn default() -> Self {
        let groups = TailGroups { end: Some(String::new()), groups: Vec::new() };
        Self { groups: Mutex::new(groups), pages: Mutex::default() }
    }
}

impl TailHub {
    /// Hears of what tails are told from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<End> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.groups.iter().find(|group| group.receiver_count() < TAILS_WOKEN_MAX) {
            return group.subscribe();
        }
        let (group, end) = watch::channel(groups.end.clone());
        groups.groups.push(group);
        end
    }

    /// Wakes all tails when the store has another end, as long as it is polled. Tails do not look
    /// for themselves, so they cost nothing while nothing is stored.
    pub(crate) async fn lead<F: Future<Output = Result<String>>>(&self, end: impl Fn() -> F) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if self.groups().is_empty() {
                continue;
            }
            // A store that can't tell is asked again.
            let Ok(end) = end().await else { continue };
            if !self.is_news(&end) {
                continue;
            }
            for group in self.groups() {
                group.send_if_modified(|told| {
                    let goes_on = told.is_some();
                    if goes_on {
                        *told = Some(end.clone());
                    }
                    goes_on
                });
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Notes the end that tails are told next; whether it is another one.
    fn is_news(&self, end: &str) -> bool {
        let mut groups = self.groups.lock();
        let is_news = groups.end.as_ref().is_some_and(|told| told != end);
        if is_news {
            groups.end = Some(end.to_owned());
        }
        is_news
    }

    /// The groups; those that nobody is in are forgotten.
    fn groups(&self) -> Vec<watch::Sender<End>> {
        let mut groups = self.groups.lock();
        groups.groups.retain(|group| group.receiver_count() > 0);
        groups.groups.clone()
    }

    /// Ends all tails, those to come too.
    pub(crate) fn end(&self) {
        self.groups.lock().end = None;
        for group in self.groups() {
            group.send_replace(None);
        }
    }

    /// The page at a position: one that another tail has read or is reading, or what `read` gives.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) async fn page(
        &self,
        position: Position,
        read: impl AsyncFnOnce() -> Result<TailPage>,
    ) -> Result<Arc<TailPage>> {
        let shared = self.shared(&position);
        let page = shared.get_or_try_init(async || read().await.map(Arc::new)).await?;
        if page.messages.len() > 2 * PIECE_BYTES {
            // It would keep too much memory.
            self.pages.lock().retain(|(kept, _)| *kept != position);
        }
        Ok(Arc::clone(page))
    }

    fn shared(&self, position: &Position) -> SharedPage {
        let mut pages = self.pages.lock();
        if let Some((_, page)) = pages.iter().find(|(kept, _)| kept == position) {
            return Arc::clone(page);
        }
        let page = SharedPage::default();
        pages.push_front((position.clone(), Arc::clone(&page)));
        pages.truncate(TAIL_PAGES_KEPT);
        page
    }
}
