//! Works for a consumer: adds up the amounts of events in a SQLite database, each event exactly
//! once.
//!
//! ```text
//! cargo run --example consume -- CONSUMER totals.db
//! ```
//! The service gives each event at least once. Here the work on an event and the offset up to which
//! its topic is done are one transaction, so an event that is given again is seen to be done. A
//! kill at any moment loses both or neither. Make the consumer first, with `PUT
//! /consumers/CONSUMER`. Needs the crates `fastrand`, `rusqlite`, `serde_json` and `ureq`.

#![allow(clippy::print_stderr, reason = "a program")]

use std::env;
use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::{Value, json};
use ureq::Agent;

const WAIT_SECONDS: u64 = 20;
/// What may be otherwise a moment later.
const PASSING: [u16; 7] = [408, 429, 500, 502, 503, 504, 507];

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS totals (source TEXT PRIMARY KEY, events INTEGER NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS done (consumer TEXT, topic TEXT, next_offset INTEGER NOT NULL, PRIMARY KEY (consumer, topic));
";

/// Applies those events that are not done yet, and notes that they are: all of it, or nothing.
fn work_on(database: &mut Connection, consumer: &str, events: &[Value]) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for event in events {
        let next_offset = event["offset"].as_i64().unwrap_or_default() + 1;
        let noted = transaction.execute(
            "INSERT INTO done VALUES (?, ?, ?) ON CONFLICT (consumer, topic) DO UPDATE
             SET next_offset = excluded.next_offset WHERE next_offset < excluded.next_offset",
            params![consumer, event["topic"].as_str(), next_offset],
        )?;
        if noted == 1 {
            transaction.execute(
                "INSERT INTO totals VALUES (?, 1, ?)
                 ON CONFLICT (source) DO UPDATE SET events = events + 1, amount = amount + excluded.amount",
                params![event["source"].as_str(), event["payload"]["amount"].as_i64()],
            )?;
        }
    }
    transaction.commit()
}

/// The JSON of an answer; `None` if another has the lease, or had it before this one was done, or
/// if what is wrong may pass.
fn ask(agent: &Agent, address: &str, body: Option<&Value>) -> Result<Option<Value>, Box<dyn Error>> {
    let answered = match body {
        None => agent.get(address).call(),
        Some(body) => {
            agent.post(address).header("content-type", "application/json").send(body.to_string().into_bytes())
        }
    };
    let mut answer = match answered {
        Ok(answer) => answer,
        Err(lost) => {
            eprintln!("connection lost: {lost}");
            return Ok(None);
        }
    };
    let (status, text) = (answer.status().as_u16(), answer.body_mut().read_to_string());
    match (status, text) {
        (200, Ok(text)) => Ok(serde_json::from_str(&text)?),
        (200 | 409, _) => Ok(None),
        (status, _) if PASSING.contains(&status) => Ok(None),
        (status, text) => Err(format!("refused with {status}: {}", text.unwrap_or_default()).into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(consumer), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: consume CONSUMER DATABASE".into());
    };
    let variable = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let lease = variable("LEASE_SECONDS", "30");
    let url = format!("{}/consumers/{consumer}", variable("SEKALI_URL", "http://localhost:8080"));
    let mut database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(30))?;
    database.execute_batch(TABLES)?;
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(2 * WAIT_SECONDS + 10)))
        .build()
        .into();
    let next = format!("{url}/events?wait={WAIT_SECONDS}s&lease={lease}s&limit=10");
    loop {
        let Some(given) = ask(&agent, &next, None)? else {
            sleep(Duration::from_millis(fastrand::u64(200..1_200)));
            continue;
        };
        if let (Some(events), Some(receipt)) = (given["events"].as_array(), given["receipt"].as_str()) {
            work_on(&mut database, &consumer, events)?;
            ask(&agent, &format!("{url}/ack"), Some(&json!({"receipt": receipt})))?;
        }
    }
}
