//! `GET /live`: the last hour, and then the figures of each second, as server-sent events.
//!
//! One task looks once a second, for all who watch, and gives all of them the same bytes. While
//! nobody watches, it only adds to the window what was counted anyway. Whoever reads slowly misses
//! seconds, and nothing waits for them: each sample has a number, so a reader sees what is missing.
//!
//! How far consumers lag takes reads of the store, so it is measured less often, beside the
//! seconds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::Result;
use crate::http::page::hub::{Live, Told};
use crate::http::page::window::Added;
use crate::http::read::tail::IsTail;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::Answer;
use crate::http::wire::answer_budget::Account;
use crate::http::wire::problem::Problem;
use crate::http::wire::streaming::{Made, Maker, Portion, Responder};
use crate::limits::WINDOW_BYTES_MAX;
use crate::quota::FairPermit;
use crate::store::{Condition, EventStore, Health, Promise};

const SECOND: Duration = Duration::from_secs(1);
/// How long it is not measured again how far consumers lag.
const MEASURE_EVERY: Duration = Duration::from_secs(9);
/// Asks nginx not to hold the stream back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl<S: EventStore> Service<S> {
    /// Adds to the window each second, and tells those who watch, as long as it is polled.
    pub async fn keep_live(&self) {
        tokio::join!(self.keep_seconds(), self.measure_consumers());
    }

    /// Measures now and then how far consumers lag, while somebody watches.
    async fn measure_consumers(&self) {
        loop {
            // The first who watches does not wait for long.
            tokio::time::sleep(SECOND).await;
            if self.live.latest.receiver_count() > 0 {
                self.store.observe().await;
                self.live.are_consumers_measured.store(true, Ordering::Relaxed);
                tokio::time::sleep(MEASURE_EVERY).await;
            }
        }
    }

    async fn keep_seconds(&self) {
        let mut seconds = tokio::time::interval(SECOND);
        // A process that stood still has one long second, not many short ones.
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        seconds.tick().await;
        loop {
            seconds.tick().await;
            self.recent_drops.refill();
            let added = self.live.window.lock().add(self.metrics.counts());
            if self.live.latest.receiver_count() > 0 {
                let message = self.figures_of_now(Some(added)).await;
                self.live.tell(message);
            }
        }
    }

    /// The last hour, and the figures of each second from now on.
    pub(in crate::http) async fn watch_live(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let Call { responder, caller, .. } = call;
        let permit = self.tail_permit(responder.key)?;
        let mut latest = self.live.latest.subscribe();
        if self.live.latest.receiver_count() == 1 {
            // Nobody watched: what was told last may be old.
            let message = self.figures_of_now(None).await;
            self.live.tell(message);
        }
        latest.mark_changed();
        let live = Arc::clone(&self.live);
        let (account, sees_all) = (responder.account(), caller.readable().is_none());
        let watching = Watching { live, latest, account, sees_all, has_begun: false, _permit: permit };
        // Packed, it would wait for more to pack.
        let responder = Responder { is_gzip: false, ..*responder };
        let mut answer = responder.send(watching, "text/event-stream", false).await?;
        answer.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
        answer.extensions_mut().insert(IsTail);
        Ok(answer)
    }

    /// The figures of now.
    async fn figures_of_now(&self, added: Option<Added>) -> Told {
        let condition = self.store.condition().await;
        let (is_ready, reason) = match self.store.health() {
            Health::Ready => (true, None),
            Health::ReadyInPart(why) | Health::NotReady(why) => (false, Some(why)),
        };
        let topics = self.store.topic_count();
        let uptime = self.clock.monotonic().saturating_duration_since(self.started);
        let Condition { totals, disk, journals, .. } = condition;
        let are_measured = self.live.are_consumers_measured.load(Ordering::Relaxed);
        let lag = self.metrics.largest_lag().filter(|_| are_measured);
        let mut figures = json!({
            "at": self.clock.now(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": uptime.as_secs(),
            "ready": is_ready,
            "reason": reason,
            "promise": match condition.promise {
                Promise::Disk => "disk",
                Promise::Replicated => "replicated",
                Promise::Primary => "primary",
            },
            "totals": {
                "received": totals.received(),
                "unique_processed": totals.unique_processed,
                "duplicate_dropped": totals.duplicate_dropped,
                "conflicts": totals.conflicts,
                "rejected": totals.rejected,
            },
            "topics": topics.made,
            "topics_max": topics.max,
            "disk_free_bytes": disk.map(|disk| disk.free_bytes),
            "disk_reserve_bytes": disk.map(|disk| disk.reserve_bytes),
            "journal_bytes": journals.map(|journals| journals.bytes),
            "checkpoint_lag_events": journals.map(|journals| journals.lag_events),
            "generations_open": journals.map(|journals| journals.open_generations),
            "generations_sealed": journals.map(|journals| journals.sealed_generations),
            "indexes_rebuilding": journals.map(|journals| journals.rebuilding),
            "consumers_measured": are_measured,
            "largest_lag": lag.as_ref().map(|lag| json!({
                "consumer": lag.name,
                "events": lag.events,
                "seconds": lag.seconds,
            })),
            "deliveries_refused": self.metrics.all_refused(),
            "connections": self.metrics.connections(),
            "second": added.map(|added| added.second),
            "ten": added.and_then(|added| added.ten),
        });
        let all = message("figures", &figures);
        if lag.is_none() {
            return Told { part: all.clone(), all };
        }
        (figures["consumers_measured"], figures["largest_lag"]) = (false.into(), Value::Null);
        Told { part: message("figures", &figures), all }
    }
}

/// A server-sent event.
fn message(kind: &str, data: &Value) -> Bytes {
    format!("event: {kind}\ndata: {data}\n\n").into()
}

/// Somebody who watches.
struct Watching {
    live: Arc<Live>,
    latest: watch::Receiver<Option<Told>>,
    account: Account,
    /// Whether the reader may know of all topics, and so of all consumers.
    sees_all: bool,
    has_begun: bool,
    /// Among the tails that may be open at once.
    _permit: FairPermit,
}

impl Maker for Watching {
    async fn step(&mut self) -> Result<Made> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let mut permit = self.account.piece(WINDOW_BYTES_MAX, WINDOW_BYTES_MAX, true).await?;
            let window = message("window", &self.live.window.lock().to_json());
            permit.resize(window.len());
            return Ok(Made::Part(Portion::new(window, permit)));
        }
        if self.latest.changed().await.is_err() {
            return Ok(Made::End(Portion::default()));
        }
        match self.latest.borrow_and_update().clone() {
            // All who watch hold the same bytes.
            Some(Told { all, part }) => {
                let bytes = if self.sees_all { all } else { part };
                Ok(Made::Part(Portion { bytes, permit: None }))
            }
            None => Ok(Made::End(Portion::default())),
        }
    }
}
