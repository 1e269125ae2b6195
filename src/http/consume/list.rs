//! `GET /consumers`: a list that is made while it is sent, some consumers at a time.

use std::sync::Arc;

use super::described;
use crate::auth::Caller;
use crate::clock::Clock;
use crate::consumer::{ConsumerKey, Look};
use crate::error::{ErrorKind, Result};
use crate::http::wire::answer_budget::{Account, AnswerPermit};
use crate::http::wire::json::push_optional;
use crate::http::wire::object::Object;
use crate::http::wire::streaming::{Made, Maker, Portion};
use crate::limits::{CONSUMERS_PIECE, PIECE_BYTES};
use crate::store::EventStore;

/// What surrounds the entries of a piece, with the cursor of the next page.
const SURROUND_BYTES: usize = 256;

/// The consumers that a caller may see.
#[derive(Debug)]
pub(super) struct ListOfConsumers<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    account: Account,
    caller: Caller,
    look: Look,
    object: Object,
    /// The last consumer that was looked at.
    after: Option<String>,
    /// How many may still be listed.
    left: usize,
    /// Bytes of the entry that the piece before had no room for.
    least: usize,
}

/// The entries of a piece.
#[derive(Debug, Default)]
struct Entries {
    text: Vec<u8>,
    count: usize,
    is_last: bool,
}

impl<S: EventStore> ListOfConsumers<S> {
    /// At most `limit` consumers after the one that is named.
    pub(super) fn new(
        store: &Arc<S>,
        clock: &Arc<dyn Clock>,
        account: Account,
        caller: &Caller,
        after: Option<String>,
        limit: usize,
    ) -> Self {
        let look = Look { positions: 0, client: account.key().number(), reader: account.number() };
        Self {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            account,
            caller: caller.clone(),
            look,
            object: Object::new(Vec::new(), "consumers", false),
            after,
            left: limit,
            least: 0,
        }
    }

    /// The next entries, as far as there is room for them.
    async fn entries(&mut self, permit: &mut AnswerPermit) -> Result<Entries> {
        let mut entries = Entries::default();
        let mut keys = self.store.consumers(self.after.as_deref(), CONSUMERS_PIECE + 1).await?;
        entries.is_last = keys.len() <= CONSUMERS_PIECE;
        keys.truncate(CONSUMERS_PIECE);
        for key in keys {
            if self.left == 0 {
                entries.is_last = false;
                break;
            }
            if let Some(entry) = self.entry(&key).await? {
                let bytes = entries.text.len() + entry.len() + SURROUND_BYTES;
                if bytes > permit.bytes() && (entries.count > 0 || !permit.resize(bytes)) {
                    // It is looked at again once there is room for it.
                    self.least = entry.len() + SURROUND_BYTES;
                    entries.is_last = false;
                    return Ok(entries);
                }
                self.object.comma(&mut entries.text, entries.count);
                entries.text.extend_from_slice(&entry);
                entries.count += 1;
                self.left -= 1;
            }
            self.after = Some(key.name.as_str().to_owned());
        }
        self.least = 0;
        Ok(entries)
    }

    /// What the caller is told of a consumer, if it may see it.
    async fn entry(&self, key: &ConsumerKey) -> Result<Option<Vec<u8>>> {
        if !self.caller.may_consume(&key.topics) {
            return Ok(None);
        }
        match self.store.consumer(key, self.look).await {
            Ok(stats) => Ok(Some(described(&stats, self.clock.now()).to_string().into_bytes())),
            // It was removed meanwhile.
            Err(e) if e.kind() == ErrorKind::NoConsumer => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl<S: EventStore> Maker for ListOfConsumers<S> {
    async fn step(&mut self) -> Result<Made> {
        if self.object.has_begun() {
            // Where the caller sees none of them nothing here waits.
            tokio::task::yield_now().await;
        }
        let most = PIECE_BYTES.max(self.least);
        let mut permit = self.account.piece(self.least, most, !self.object.has_begun()).await?;
        let mut entries = self.entries(&mut permit).await?;
        let is_last = entries.is_last || self.left == 0;
        let mut out = Vec::with_capacity(entries.text.len() + SURROUND_BYTES);
        self.object.begin(&mut out, entries.count, is_last);
        out.append(&mut entries.text);
        self.object.end(&mut out, entries.count, is_last);
        self.object.stepped(entries.count);
        if is_last {
            out.extend_from_slice(b",\"next_cursor\":");
            push_optional(&mut out, self.after.as_deref().filter(|_| !entries.is_last));
            out.push(b'}');
        }
        permit.resize(out.len());
        let portion = Portion::new(out, permit);
        Ok(if is_last { Made::End(portion) } else { Made::Part(portion) })
    }
}
