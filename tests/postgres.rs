//! The store in a PostgreSQL database, from outside: real servers of both kinds, killed, cut off and
//! set wrongly. What the service answers otherwise is shown by the suites of the local store, which
//! `make test-postgres` runs against a database.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

#[path = "postgres/consumers.rs"]
mod consumers;
#[path = "postgres/cuts.rs"]
mod cuts;
#[path = "postgres/figures.rs"]
mod figures;
#[path = "postgres/group.rs"]
mod group;
#[path = "postgres/kills.rs"]
mod kills;
#[path = "postgres/mistakes.rs"]
mod mistakes;
#[path = "postgres/moves.rs"]
mod moves;
#[path = "postgres/nodes.rs"]
mod nodes;
#[path = "postgres/plans.rs"]
mod plans;
#[path = "postgres/promise.rs"]
mod promise;
#[path = "postgres/refusals.rs"]
mod refusals;
#[path = "postgres/standbys.rs"]
mod standbys;
mod support;
#[path = "postgres/verify.rs"]
mod verify;
#[path = "postgres/watching.rs"]
mod watching;

use std::path::Path;

use support::postgres::Postgres;
use support::process::Start;

/// A cluster, if this machine can have one.
fn cluster(settings: &str) -> Option<Postgres> {
    match Postgres::start_with(settings) {
        Ok(cluster) => Some(cluster),
        Err(why) => {
            eprintln!("NOT RUN: a store in a database: {why}");
            assert_ne!(std::env::var("SEKALI_TEST_ALL").as_deref(), Ok("1"), "a test could not be run");
            None
        }
    }
}

/// How to start a node of the store at this URL.
fn node(dir: &Path, url: &str, durability: &str) -> Start {
    let mut start = Start::tiny_generations(&dir.join("unused"));
    start.env =
        vec![("SEKALI_STORE".into(), url.into()), ("SEKALI_STORE_DURABILITY".into(), durability.into())];
    start
}
