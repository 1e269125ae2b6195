//! Events read for an answer, one page of the store at a time, each as large as the budget allows.

use std::sync::Arc;

use crate::error::Result;
use crate::http::wire::answer_budget::{Account, AnswerPermit};
use crate::http::wire::streaming::Portion;
use crate::limits::{PIECE_BYTES, READ_BYTES, READ_EVENTS_MAX};
use crate::store::{EventStore, Page, Priority, Query};

/// Pages in a row.
#[derive(Debug)]
pub(crate) struct Pages<S> {
    pub(crate) store: Arc<S>,
    /// With the cursor of the next page.
    pub(crate) query: Query,
    pub(crate) account: Account,
    /// A page was read: its reader has a status, and this one is asked for when that has left.
    has_begun: bool,
}

impl<S: EventStore> Pages<S> {
    /// From the query's cursor on.
    pub(crate) fn new(store: &Arc<S>, query: Query, account: Account) -> Self {
        let query = Query { client: account.key().number(), reader: account.number(), ..query };
        Self { store: Arc::clone(store), query, account, has_begun: false }
    }

    /// The next page, of at most `left` events, and what `write` makes of it: bytes, and what else
    /// it wants to tell. `write` is called again if the page needs a larger permit than was
    /// thought.
    pub(crate) async fn next<T: Send + 'static>(
        &mut self,
        left: usize,
        write: impl Fn(&Page) -> (Vec<u8>, T) + Clone + Send + 'static,
    ) -> Result<(Page, Portion, T)> {
        let mut least = 0;
        // A client that has begun to read gets more at once, if the budget allows.
        let most = if self.has_begun { READ_BYTES } else { PIECE_BYTES };
        loop {
            let mut permit = self.permit(least, most).await?;
            let (limit, bytes_max) = (READ_EVENTS_MAX.min(left), Some(permit.bytes()));
            let query = Query { limit, bytes_max, ..self.query.clone() };
            let (page, (bytes, told)) = self.store.read_as(query, write.clone()).await?;
            if permit.resize(bytes.len()) {
                self.go_on(page.reached.clone(), page.next_priority());
                return Ok((page, Portion::new(bytes, permit), told));
            }
            // A large event: it is read again once there is a permit for it.
            least = bytes.len();
        }
    }

    /// Goes on after a page.
    pub(crate) fn go_on(&mut self, reached: String, priority: Priority) {
        self.query.cursor = Some(reached);
        self.query.priority = priority;
        self.has_begun = true;
    }

    /// A permit for a page.
    pub(crate) async fn permit(&self, least: usize, most: usize) -> Result<AnswerPermit> {
        self.account.piece(least, most, !self.has_begun).await
    }
}
