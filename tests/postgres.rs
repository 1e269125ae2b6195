//! The store in a PostgreSQL database, from outside: real servers of both kinds, killed, cut off and
//! set wrongly. What the service answers otherwise is shown by the suites of the local store, which
//! `make test-postgres` runs against a database.

mod consumers;
mod cuts;
mod figures;
mod group;
mod groups;
mod kills;
mod mistakes;
mod moves;
mod nodes;
mod outages;
mod phantoms;
mod plans;
mod promise;
mod refusals;
mod regroup;
mod replaced;
mod retries;
mod standbys;
mod verify;
mod versions;
mod watching;

use std::net::SocketAddr;
use std::path::Path;

use crate::support::postgres::{Postgres, configuration};
use crate::support::process::{Server, Start};

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

/// How to start a node of the store in these databases, each with its slots.
fn node_of(dir: &Path, groups: &[(&str, String)]) -> Start {
    let file =
        tempfile::Builder::new().suffix(".toml").tempfile_in(dir).unwrap().into_temp_path().keep().unwrap();
    std::fs::write(&file, configuration(groups, "store_durability = \"local\"")).unwrap();
    let mut start = Start::tiny_generations(&dir.join("unused"));
    start.env = vec![("SEKALI_CONFIG".into(), file.into())];
    start
}

/// How to start a node of the store at this URL.
fn node(dir: &Path, url: &str, durability: &str) -> Start {
    let mut start = Start::tiny_generations(&dir.join("unused"));
    start.env =
        vec![("SEKALI_STORE".into(), url.into()), ("SEKALI_STORE_DURABILITY".into(), durability.into())];
    start
}

/// A node of a new store, whose database has no standby.
fn ready_node(cluster: &Postgres) -> (tempfile::TempDir, Server, SocketAddr) {
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = node(dir.path(), &cluster.url("events"), "local").ready().unwrap();
    (dir, server, addr)
}
