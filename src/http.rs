//! HTTP: routes, bodies, answers. Knows no storage, only [`EventStore`](crate::store::EventStore).
//!
//! ```text
//! request → guard → route → authorization → body (limits) → decode → store → answer
//! ```
//! | file or room | what |
//! |---|---|
//! | `exchange.rs` | the way of a request, as drawn above |
//! | `routes.rs`, `openapi.rs` | what is where: the table, and its description for programs |
//! | `guard.rs` | which hosts and which pages of browsers may ask |
//! | `authorization.rs` | who asks, and whether they may |
//! | `service.rs`, `state.rs` | what all requests share, and how that is told |
//! | `wire/` | heads of requests, answers, and the budget of answers |
//! | `body/` | bodies of requests, and their budget |
//! | `page/` | the page for people, and the figures that it shows |
//! | `publish/` | `POST /publish` |
//! | `read/` | pages, exports, tails, and lists of topics |
//! | `consume.rs` | consumers: their events, and what is kept of them |
//! | `sources/` | `/in/{source}`: webhooks of other services |

mod authorization;
mod body;
mod consume;
mod exchange;
mod guard;
mod openapi;
mod page;
mod publish;
mod read;
mod routes;
mod service;
mod sources;
mod state;
mod wire;

pub use self::guard::Access;
pub use self::read::tail::IsTail;
pub use self::service::{Limits, Service};
pub use self::wire::answer::{Answer, Body, IsStream};
pub use self::wire::connection::{ClientCertificate, Connection, Door};
