//! The same events into what people use for this today, each with the strongest acknowledgement
//! that it offers:
//!
//! ```text
//! cargo bench --bench peers -- redis 127.0.0.1:6379 EVENTS BATCH CONNECTIONS
//! cargo bench --bench peers -- postgres 'host=… user=…' EVENTS BATCH CONNECTIONS
//! cargo bench --bench peers -- nats 127.0.0.1:4222 EVENTS BATCH CONNECTIONS
//! cargo bench --bench peers -- sqlite FILE EVENTS BATCH 1      (two tables; sqlite-naive: one)
//! ```
//! The events are those of `sekali bench`. Prints one object of JSON; `verified` says whether the
//! peer holds exactly the events that were made. `benches/compare.py` starts the peers and makes
//! the table.

#![allow(clippy::print_stdout, reason = "its result")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;

#[allow(dead_code, unused_imports, reason = "the load generator's, used in part")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use workload::{EVENT_BYTES, Ids, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a peer must know of an event; the rest is kept as it is.
#[derive(Deserialize)]
struct Id<'a> {
    topic: &'a str,
    event_id: &'a str,
}

/// One connection to a peer.
trait Peer {
    /// Stores what is new of these events, each a JSON text, and waits for the acknowledgement.
    fn store(&mut self, events: &[(&str, &str, &str)]) -> Fallible<()>;
}

struct Plan {
    events: u64,
    batch: u32,
    connections: usize,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").skip(1).collect();
    let [kind, target, events, batch, connections] = &arguments[..] else {
        // `cargo bench` runs every bench; this one needs a peer.
        return Ok(());
    };
    let plan = Plan { events: events.parse()?, batch: batch.parse()?, connections: connections.parse()? };
    match kind.as_str() {
        "redis" => run(&plan, |_| Redis::connect(target), || Redis::connect(target)?.count()),
        "postgres" => run(&plan, |_| Postgres::connect(target), || Postgres::connect(target)?.count()),
        "nats" => run(&plan, |number| Nats::connect(target, number), || Nats::connect(target, 0)?.count()),
        "sqlite" => run(&plan, |_| Sqlite::open(target, true), || Sqlite::open(target, true)?.count()),
        "sqlite-naive" => {
            run(&plan, |_| Sqlite::open(target, false), || Sqlite::open(target, false)?.count())
        }
        kind => Err(format!("{kind} is no peer").into()),
    }
}

/// Sends all events over all connections, and prints what was measured.
fn run<P: Peer + Send>(
    plan: &Plan,
    connect: impl Fn(usize) -> Fallible<P>,
    count: impl Fn() -> Fallible<u64>,
) -> Fallible<()> {
    let before = count()?;
    let peers = (0..plan.connections).map(&connect).collect::<Fallible<Vec<_>>>()?;
    let work = Mutex::new((Workload::new(fastrand::u64(..), 64, 0.4, Ids::UuidV4, EVENT_BYTES), plan.events));
    let begin = now();
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> =
            peers.into_iter().map(|peer| scope.spawn(|| drive(peer, &work, plan.batch))).collect();
        let mut all = Histogram::<u64>::new(3)?;
        for thread in threads {
            all.add(thread.join().map_err(|_| "a connection panicked")??)?;
        }
        Fallible::Ok(all)
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let unique = work.into_inner().unwrap_or_else(PoisonError::into_inner).0.unique();
    let stored = count()? - before;
    let millis = |share: f64| times.value_at_quantile(share) as f64 / 1e3;
    println!(
        "{}",
        serde_json::json!({
            "events": plan.events, "batch": plan.batch, "connections": plan.connections, "seconds": seconds,
            "events_per_second": plan.events as f64 / seconds, "unique": unique, "verified": stored == unique,
            "p50_ms": millis(0.5), "p99_ms": millis(0.99), "p99_9_ms": millis(0.999),
        })
    );
    Ok(())
}

fn drive(mut peer: impl Peer, work: &Mutex<(Workload, u64)>, batch: u32) -> Fallible<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let mut body = Vec::new();
    loop {
        body.clear();
        let length = {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            let (workload, left) = &mut *work;
            if *left == 0 {
                return Ok(times);
            }
            // An array, whatever the number: its items have the same length.
            for _ in 0..batch.min(u32::try_from(*left).unwrap_or(batch)) {
                workload.write_body(1, &mut body);
            }
            *left = left.saturating_sub(u64::from(batch));
            workload.body_bytes(1)
        };
        let text = std::str::from_utf8(&body)?;
        let events = (0..text.len() / length)
            .map(|at| {
                let event = &text[at * length..(at + 1) * length];
                let id: Id<'_> = serde_json::from_str(event)?;
                Ok((id.topic, id.event_id, event))
            })
            .collect::<Fallible<Vec<_>>>()?;
        let sent = now();
        peer.store(&events)?;
        times.record(u64::try_from(sent.elapsed().as_micros())?)?;
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// A mark and a stream entry in one script: atomic, and as durable as `appendfsync` says.
struct Redis(BufReader<TcpStream>);

const SCRIPT: &str = "local new = 0 for i = 1, #ARGV, 3 do \
    if redis.call('SET', ARGV[i] .. '\\0' .. ARGV[i + 1], '1', 'NX') then \
    redis.call('XADD', 's:' .. ARGV[i], '*', 'e', ARGV[i + 2]) new = new + 1 end end return new";

impl Redis {
    fn connect(target: &str) -> Fallible<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn call(&mut self, parts: &[&[u8]]) -> Fallible<i64> {
        let mut request = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            request.extend_from_slice(part);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.trim_end().split_at_checked(1) {
            Some((":", number)) => Ok(number.parse()?),
            _ => Err(line.into()),
        }
    }

    /// Marks; each topic's stream is one key more.
    fn count(&mut self) -> Fallible<u64> {
        let topics = self.call(&[b"EVAL", b"return #redis.call('KEYS', 's:*')", b"0"])?;
        Ok(u64::try_from(self.call(&[b"DBSIZE"])? - topics)?)
    }
}

impl Peer for Redis {
    fn store(&mut self, events: &[(&str, &str, &str)]) -> Fallible<()> {
        let mut parts: Vec<&[u8]> = vec![b"EVAL", SCRIPT.as_bytes(), b"0"];
        for (topic, id, event) in events {
            parts.extend([topic.as_bytes(), id.as_bytes(), event.as_bytes()]);
        }
        self.call(&parts).map(|_| ())
    }
}

/// One statement dedups and stores a batch.
struct Postgres(postgres::Client, postgres::Statement);

impl Postgres {
    fn connect(target: &str) -> Fallible<Self> {
        let mut client = postgres::Client::connect(target, postgres::NoTls)?;
        // Many connections begin at once.
        client.batch_execute(
            "SELECT pg_advisory_lock(1); CREATE TABLE IF NOT EXISTS events (topic text, event_id text, event text, \
             PRIMARY KEY (topic, event_id)); SELECT pg_advisory_unlock(1)",
        )?;
        let statement = client.prepare(
            "INSERT INTO events SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        )?;
        Ok(Self(client, statement))
    }

    fn count(&mut self) -> Fallible<u64> {
        Ok(u64::try_from(self.0.query_one("SELECT count(*) FROM events", &[])?.get::<_, i64>(0))?)
    }
}

impl Peer for Postgres {
    fn store(&mut self, events: &[(&str, &str, &str)]) -> Fallible<()> {
        // In one order everywhere, or two batches with the same ids wait for each other for ever.
        let mut events = events.to_vec();
        events.sort_unstable_by_key(|(topic, id, _)| (*topic, *id));
        let column = |of: fn(&(&str, &str, &str)) -> String| events.iter().map(of).collect::<Vec<_>>();
        let (topics, ids) = (column(|event| event.0.to_owned()), column(|event| event.1.to_owned()));
        let texts = column(|event| event.2.to_owned());
        self.0.execute(&self.1, &[&topics, &ids, &texts])?;
        Ok(())
    }
}

/// JetStream: a message an event, with its id; all of a batch are sent before the first
/// acknowledgement is waited for.
struct Nats {
    stream: BufReader<TcpStream>,
    inbox: String,
}

impl Nats {
    fn connect(target: &str, number: usize) -> Fallible<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let inbox = format!("_INBOX.{number}");
        let mut nats = Self { stream: BufReader::new(stream), inbox };
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true}}\r\nSUB {} 1\r\n",
            nats.inbox
        );
        nats.stream.get_mut().write_all(hello.as_bytes())?;
        if number == 0 {
            // The window is longer than any run; its memory is not bounded by anything else.
            let config =
                r#"{"name":"E","subjects":["e.>"],"storage":"file","duplicate_window":3600000000000}"#;
            nats.request("$JS.API.STREAM.CREATE.E", config)?;
        }
        Ok(nats)
    }

    fn request(&mut self, subject: &str, body: &str) -> Fallible<String> {
        let request = format!("PUB {subject} {} {}\r\n{body}\r\n", self.inbox, body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> Fallible<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the server closed the connection".into());
            }
            if line.starts_with("PING") {
                self.stream.get_mut().write_all(b"PONG\r\n")?;
            } else if line.starts_with("MSG") {
                let length: usize = line.trim_end().rsplit(' ').next().unwrap_or_default().parse()?;
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body)?;
                return Ok(String::from_utf8(body)?);
            } else if line.starts_with("-ERR") {
                return Err(line.into());
            }
        }
    }

    fn count(&mut self) -> Fallible<u64> {
        let info: serde_json::Value = serde_json::from_str(&self.request("$JS.API.STREAM.INFO.E", "")?)?;
        info["state"]["messages"].as_u64().ok_or_else(|| info.to_string().into())
    }
}

impl Peer for Nats {
    fn store(&mut self, events: &[(&str, &str, &str)]) -> Fallible<()> {
        let mut request = Vec::new();
        for (topic, id, event) in events {
            let head = format!("NATS/1.0\r\nNats-Msg-Id: {topic} {id}\r\n\r\n");
            let (head_bytes, bytes) = (head.len(), head.len() + event.len());
            write!(request, "HPUB e.{topic} {} {head_bytes} {bytes}\r\n{head}{event}\r\n", self.inbox)?;
        }
        self.stream.get_mut().write_all(&request)?;
        for _ in events {
            let reply = self.reply()?;
            if !reply.contains("\"seq\"") {
                return Err(reply.into());
            }
        }
        Ok(())
    }
}

/// In process, one writer, a commit with fsync a batch.
struct Sqlite(rusqlite::Connection, bool);

impl Sqlite {
    fn open(path: &str, has_two_tables: bool) -> Fallible<Self> {
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 100000; \
             PRAGMA cache_size = -200000;",
        )?;
        connection.execute_batch(match has_two_tables {
            true => {
                "CREATE TABLE IF NOT EXISTS dedup (id BLOB PRIMARY KEY) WITHOUT ROWID; \
                 CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, event TEXT);"
            }
            false => {
                "CREATE TABLE IF NOT EXISTS events (topic TEXT, event_id TEXT, event TEXT, \
                 PRIMARY KEY (topic, event_id));"
            }
        })?;
        Ok(Self(connection, has_two_tables))
    }

    fn count(&self) -> Fallible<u64> {
        Ok(self.0.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }
}

impl Peer for Sqlite {
    fn store(&mut self, events: &[(&str, &str, &str)]) -> Fallible<()> {
        let transaction = self.0.transaction()?;
        for (topic, id, event) in events {
            if self.1 {
                let key = [topic.as_bytes(), b"\0", id.as_bytes()].concat();
                let mut mark = transaction.prepare_cached("INSERT OR IGNORE INTO dedup VALUES (?)")?;
                if mark.execute([key])? == 1 {
                    transaction.prepare_cached("INSERT INTO events (event) VALUES (?)")?.execute([event])?;
                }
            } else {
                let mut insert =
                    transaction.prepare_cached("INSERT OR IGNORE INTO events VALUES (?, ?, ?)")?;
                insert.execute((topic, id, event))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
