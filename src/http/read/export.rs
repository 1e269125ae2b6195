//! `GET /events` as lines: a whole range, an event a line.

use crate::error::Result;
use crate::http::read::pages::Pages;
use crate::http::service::Service;
use crate::http::wire::answer::Answer;
use crate::http::wire::json::push_event;
use crate::http::wire::problem::Problem;
use crate::http::wire::streaming::{Made, Maker, Portion, Responder};
use crate::store::{EventStore, Order, Page, Query, StoredEvent};

impl<S: EventStore> Service<S> {
    /// All lines of a range that is fixed now, at most `limit`.
    pub(crate) async fn export(
        &self,
        query: Query,
        limit: usize,
        responder: &Responder<'_>,
    ) -> Result<Answer, Problem> {
        let stop = match query.order {
            Order::Ascending => Some(self.store.end(query.topic.as_deref()).await?),
            Order::Descending => None,
        };
        let pages = Pages::new(&self.store, Query { stop, ..query }, responder.account());
        let kind = "application/x-ndjson";
        Ok(responder.send(Export { pages, left: limit }, kind, false).await?)
    }
}

/// The lines of a range.
struct Export<S> {
    pages: Pages<S>,
    /// Events that may still be given.
    left: usize,
}

impl<S: EventStore> Maker for Export<S> {
    async fn step(&mut self) -> Result<Made> {
        if self.left == 0 {
            return Ok(Made::End(Portion::default()));
        }
        let write = |page: &Page| {
            let mut lines = Vec::new();
            for event in &page.events {
                push_line(&mut lines, event);
            }
            (lines, ())
        };
        let (page, portion, ()) = self.pages.next(self.left, write).await?;
        self.left = self.left.saturating_sub(page.events.len());
        match page.next_cursor {
            Some(_) if self.left > 0 => Ok(Made::Part(portion)),
            _ => Ok(Made::End(portion)),
        }
    }
}

/// Appends an event and a line's end. A payload may have line ends between its tokens, where a
/// blank means the same.
pub(crate) fn push_line(lines: &mut Vec<u8>, event: &StoredEvent) {
    let start = lines.len();
    push_event(lines, event);
    for byte in lines.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    lines.push(b'\n');
}
