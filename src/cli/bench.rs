//! `sekali bench`: loads a running service and verifies its counts.
//!
//! `workload` makes requests, `connection` carries one at a time, `load` drives all connections,
//! and `report` prints what came of it. One thread and plain `poll` do all, because the generator
//! shares the machine with what it measures.

mod arguments;
mod channel;
mod connection;
mod load;
mod report;
mod scratch;
mod workload;

use sekali::limits::{CLIENT_PAGE_BYTES_MAX, CLIENT_STATS_BYTES_MAX};

pub(super) use self::arguments::Arguments;
use self::connection::PATIENCE;
use self::load::Load;
use self::report::Report;
use self::scratch::Scratch;
use self::workload::Workload;
use super::client::answers::{Counts, Event, PAGE_ENTRIES, Topic, event_page, topic_page};
use super::client::exchange::{Miss, Route};
use super::client::listing::Listing;
use super::exit::{Exit, Failure};
use super::terminal::output::print;

/// Largest request that a service can be set to take.
const REQUEST_BYTES_MAX: usize = 256 << 20;

/// What grew between two looks at `/stats`; 0 where it shrank.
fn growth(earlier: Counts, now: Counts) -> Counts {
    Counts {
        received: now.received.saturating_sub(earlier.received),
        unique_processed: now.unique_processed.saturating_sub(earlier.unique_processed),
        duplicate_dropped: now.duplicate_dropped.saturating_sub(earlier.duplicate_dropped),
        conflicts: now.conflicts.saturating_sub(earlier.conflicts),
    }
}

impl Arguments {
    pub(super) fn run(mut self) -> Result<Exit, Failure> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let workload = Workload::new(seed, self.topics, self.duplicates / 100.0, self.ids, self.event_bytes);
        let largest = u64::from(self.batch).min(self.events) as u32;
        if workload.body_bytes(largest) > REQUEST_BYTES_MAX {
            let why = "no service takes requests of more than 256 MiB: lower --batch or --event-bytes";
            return Err(Failure::new(Exit::Configuration, why.to_owned()));
        }
        let scratch = self.scratch.then(Scratch::start).transpose()?;
        let service = std::mem::take(&mut self.service);
        let endpoint = match &scratch {
            Some(scratch) => service.with(scratch.target())?,
            None => service.endpoint()?,
        };
        // The load goes straight to it, so the rest does too.
        let route = Route::direct(endpoint.clone());
        let before = counts(&route)?;
        if before.unique_processed > 0 && !self.force {
            refuse_others(&route)?;
        }
        let measured = Load::new(&self, &endpoint, workload)?.run()?;
        let counted = growth(before, counts(&route)?);
        let report = Report::new(&self, &route.target, seed, &measured, counted);
        if self.json {
            print(serde_json::json!(report))?;
        } else {
            print(&report)?;
        }
        Ok(if report.verified { Exit::Success } else { Exit::Fault })
    }
}

/// The body of a 200.
fn get(route: &Route, path: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    match route.get(path, PATIENCE, bytes_max) {
        Ok(answer) if answer.status == 200 => Ok(answer.body),
        Ok(answer) => Err(strange(route, path, format!("it answers {}", answer.status))),
        Err(Miss::Lasting(why)) => Err(strange(route, path, why)),
        Err(miss) => {
            Err(Failure::new(Exit::Unreachable, format!("no answer from {}: {miss}", route.uri(path))))
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn strange(route: &Route, path: &str, why: String) -> Failure {
    let path = path.split('?').next().unwrap_or_default();
    Failure::new(Exit::Fault, format!("no counts from {} ({why}): is it sekali?", route.uri(path)))
}

fn counts(route: &Route) -> Result<Counts, Failure> {
    let body = get(route, "/stats", CLIENT_STATS_BYTES_MAX)?;
    let counts: Counts =
        serde_json::from_slice(&body).map_err(|e| strange(route, "/stats", e.to_string()))?;
    match counts.fault() {
        Some(fault) => Err(strange(route, "/stats", fault)),
        None => Ok(counts),
    }
}

/// A failure if a store holds events of other topics than those of a run, or others among its oldest
/// and its newest ones.
fn refuse_others(route: &Route) -> Result<(), Failure> {
    let mut listing = Listing::default();
    loop {
        let path = format!("/topics?limit={PAGE_ENTRIES}{}", listing.cursor());
        let body = get(route, &path, CLIENT_PAGE_BYTES_MAX)?;
        let strange = |why: String| strange(route, "/topics", why);
        let page = topic_page(&body, PAGE_ENTRIES).map_err(strange)?;
        for text in page.topics.0 {
            let Topic { topic, .. } = serde_json::from_str(text.get()).map_err(|e| strange(e.to_string()))?;
            if !workload::is_topic(&topic) {
                return Err(others(route, &topic));
            }
        }
        if !listing.advance(page.next_cursor).map_err(strange)? {
            break;
        }
    }
    for order in ["asc", "desc"] {
        let path = format!("/events?limit={PAGE_ENTRIES}&order={order}");
        let body = get(route, &path, CLIENT_PAGE_BYTES_MAX)?;
        let strange = |why: String| strange(route, "/events", why);
        for text in event_page(&body, PAGE_ENTRIES).map_err(strange)?.events.0 {
            let event: Event<'_> = serde_json::from_str(text.get()).map_err(|e| strange(e.to_string()))?;
            if event.source != workload::SOURCE {
                return Err(others(route, &event.topic));
            }
        }
    }
    Ok(())
}

fn others(route: &Route, topic: &str) -> Failure {
    let sentence = format!(
        "the store of {route} holds other events, such as of topic {topic:?}, and what a run stores stays for ever: use --scratch, or --force"
    );
    Failure::new(Exit::Fault, sentence)
}
