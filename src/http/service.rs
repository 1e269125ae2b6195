//! What all requests share: the store, the limits, and the budgets that requests take from.

use std::sync::Arc;
use std::time::Instant;

use hyper::http::request::Parts;
use tokio::sync::broadcast;

use crate::auth::Caller;
use crate::auth::authenticator::Authenticator;
use crate::auth::failures::Failures;
use crate::auth::tickets::Tickets;
use crate::clock::{Clock, SystemClock};
use crate::consumer::ConsumerName;
use crate::http::body::budget::BodyBudget;
use crate::http::body::upload::Upload;
use crate::http::guard::Access;
use crate::http::page::hub::Live;
use crate::http::publish::decode_pool::DecodePool;
use crate::http::publish::recent_drops::RecentDrops;
use crate::http::publish::topic_lanes::TopicLanes;
use crate::http::publish::topic_quota::TopicQuota;
use crate::http::read::tail_hub::TailHub;
use crate::http::wire::answer_budget::AnswerBudget;
use crate::http::wire::headers::Headers;
use crate::http::wire::request_id::RequestIds;
use crate::http::wire::streaming::Responder;
use crate::limits;
use crate::metrics::Metrics;
use crate::peer::{Peer, TrustedProxy};
use crate::quota::{FairPermits, Rates};
use crate::store::EventStore;
use crate::turns::Turns;
use crate::turnstile::Turnstile;
use crate::webhook::Sources;

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
    /// Requests that each client may send a second, if there is a bound.
    pub peer_requests_per_second: Option<u32>,
    /// Proxies that are believed when they name the client of a request.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Connections come from trusted proxies alone, each with a PROXY head.
    pub has_proxy_heads: bool,
    /// Which hosts and pages may ask, beside the programs of this machine.
    pub access: Access,
    /// Who may ask.
    pub authenticator: Arc<Authenticator>,
    /// Senders of webhooks.
    pub sources: Arc<Sources>,
}

impl Limits {
    /// Whether `peer` is a proxy that is believed when it names a client.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.contains(peer))
    }
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
            peer_requests_per_second: None,
            trusted_proxies: Vec::new(),
            has_proxy_heads: false,
            access: Access::default(),
            authenticator: Arc::new(Authenticator::open(Arc::new(SystemClock))),
            sources: Arc::default(),
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
    pub(super) body_budget: Arc<BodyBudget>,
    pub(super) decode_pool: DecodePool,
    pub(super) topic_lanes: TopicLanes,
    pub(super) metrics: Metrics,
    pub(super) answer_budget: Arc<AnswerBudget>,
    /// Of single events that are read, until the budget has their answers.
    pub(super) event_turns: Arc<Turns>,
    pub(super) tail_hub: Arc<TailHub>,
    /// Tells whoever waits for a consumer's events that it was moved or removed here.
    pub(super) consumer_moves: broadcast::Sender<ConsumerName>,
    pub(super) live: Arc<Live>,
    pub(super) recent_drops: RecentDrops,
    pub(super) tail_permits: Arc<FairPermits>,
    /// Of requests over HTTP/2, of which a connection can have many under way.
    pub(super) stream_permits: Arc<FairPermits>,
    /// The rates of requests, if there is a bound.
    pub(super) rates: Option<Rates>,
    pub(super) topic_quota: TopicQuota,
    pub(super) request_ids: RequestIds,
    /// Of lines about requests that failed.
    pub(super) turnstile: Turnstile,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) failures: Failures,
    pub(super) tickets: Tickets,
}

impl<S: EventStore> Service<S> {
    /// A service over `store`.
    pub fn new(store: Arc<S>, limits: Limits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let started = clock.monotonic();
        let body_budget = Arc::new(BodyBudget::new(limits.inflight_bytes_max));
        let tail_permits = FairPermits::new((limits.connections_max / limits::TAILS_SHARE).max(1));
        let stream_permits = FairPermits::new(limits.connections_max * limits::STREAMS_SHARE);
        let event_turns = Turns::new(limits::EVENTS_READ_MAX);
        let rates = limits.peer_requests_per_second.map(Rates::new);
        let (decode_pool, topic_lanes, answer_budget, tail_hub, topic_quota, request_ids) =
            Default::default();
        let (turnstile, authenticator) = (Turnstile::new(), Arc::clone(&limits.authenticator));
        let (failures, tickets) = Default::default();
        let live = Arc::new(Live::new(&metrics));
        Self {
            store,
            limits,
            clock,
            started,
            body_budget,
            decode_pool,
            topic_lanes,
            metrics,
            answer_budget,
            event_turns,
            tail_hub,
            consumer_moves: broadcast::Sender::new(limits::CONSUMER_MOVES_KEPT),
            live,
            recent_drops: RecentDrops::default(),
            tail_permits,
            stream_permits,
            rates,
            topic_quota,
            request_ids,
            turnstile,
            authenticator,
            failures,
            tickets,
        }
    }
}

/// A request on its way to a handler.
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    pub(super) headers: &'a Headers<'a>,
    pub(super) body: Upload,
    pub(super) responder: &'a Responder<'a>,
    pub(super) caller: &'a Caller,
}
