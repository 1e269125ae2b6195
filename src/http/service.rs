//! What all requests share: the store, the limits, and the budgets that requests take from.

use std::sync::Arc;
use std::time::Instant;

use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use super::answer_room::Rooms;
use super::guard::Access;
use super::headers::Headers;
use super::identity::Ids;
use super::newcomers::Newcomers;
use super::pieces::Reader;
use super::room::Room;
use super::tails::Tails;
use super::upload::Upload;
use super::{heavy, lane};
use crate::clock::Clock;
use crate::limits;
use crate::metrics::Metrics;
use crate::store::EventStore;
use crate::turnstile::Turnstile;

/// What a user may set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// Most events in one request.
    pub batch_events_max: usize,
    /// Bytes of bodies held at once.
    pub inflight_bytes_max: usize,
    /// Connections served at once.
    pub connections_max: usize,
    /// Seconds that a head may take.
    pub head_seconds: u64,
    /// Seconds that a connection is kept without a request.
    pub keep_alive_seconds: u64,
    /// Seconds in which a client must take some of what waits for it.
    pub stall_seconds: u64,
    /// Who may ask, beside the programs of this machine.
    pub access: Access,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            batch_events_max: limits::BATCH_EVENTS_MAX,
            inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            head_seconds: limits::HEAD_SECONDS,
            keep_alive_seconds: limits::KEEP_ALIVE_SECONDS,
            stall_seconds: limits::STALL_SECONDS,
            access: Access::default(),
        }
    }
}

/// Answers requests; one for all connections.
#[derive(Debug)]
pub struct Service<S> {
    pub(super) store: Arc<S>,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Instant,
    /// Room for bodies.
    pub(super) room: Arc<Room>,
    /// Places to decode large bodies.
    pub(super) decoding: Arc<Semaphore>,
    pub(super) lanes: lane::Lanes,
    pub(super) metrics: Metrics,
    /// Room for answers that wait for their readers.
    pub(super) rooms: Arc<Rooms>,
    pub(super) tails: Arc<Tails>,
    /// Tails that may still begin.
    pub(super) tail_places: Arc<Semaphore>,
    pub(super) newcomers: Newcomers,
    pub(super) ids: Ids,
    /// Of lines about requests that failed.
    pub(super) turnstile: Turnstile,
}

impl<S: EventStore> Service<S> {
    /// A service over `store`.
    pub fn new(store: Arc<S>, limits: Limits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let started = clock.monotonic();
        let room = Arc::new(Room::new(limits.inflight_bytes_max));
        let decoding = heavy::places();
        let places = (limits.connections_max / limits::TAILS_SHARE).clamp(1, Semaphore::MAX_PERMITS);
        let tail_places = Arc::new(Semaphore::new(places));
        let (lanes, rooms, tails, newcomers, ids) = Default::default();
        let turnstile = Turnstile::new();
        Self {
            store,
            limits,
            clock,
            started,
            room,
            decoding,
            lanes,
            metrics,
            rooms,
            tails,
            tail_places,
            newcomers,
            ids,
            turnstile,
        }
    }
}

/// A request on its way to a handler.
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    pub(super) headers: &'a Headers<'a>,
    pub(super) body: Upload,
    pub(super) reader: &'a Reader<'a>,
}
