//! Requests and answers as HTTP has them: heads, queries, JSON, refusals, and answers that are made
//! while they are sent.

pub(super) mod answer;
pub(super) mod answer_budget;
pub(super) mod connection;
pub(super) mod denial;
pub(super) mod forwarded;
pub(super) mod headers;
pub(super) mod json;
pub(super) mod negotiation;
pub(super) mod object;
pub(super) mod problem;
pub(super) mod query;
pub(super) mod request_id;
pub(super) mod streaming;
