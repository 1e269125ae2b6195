//! The schemas, and what must happen to each.

use serde_json::{Value, json};

pub(super) const TIME: &str = "2025-10-20T10:00:00Z";

/// One schema, and what must happen.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// `'TIME'` stands for a time, `'T'` for the topic that is this case's own.
    pub(super) schema: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Events that are stored, and the exit code.
    pub(super) moves: (u64, i32),
    /// What stderr must say.
    pub(super) told: &'static [&'static str],
    /// Fields of the event with the id `a`.
    pub(super) event: Option<fn() -> Value>,
}

impl Case {
    const fn new(name: &'static str, schema: &'static str, moves: (u64, i32)) -> Self {
        Self { name, schema, arguments: &[], moves, told: &[], event: None }
    }

    const fn with(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    const fn told(self, told: &'static [&'static str]) -> Self {
        Self { told, ..self }
    }

    const fn event(self, event: fn() -> Value) -> Self {
        Self { event: Some(event), ..self }
    }
}

pub(super) const TWO_TABLES: &str =
    "CREATE TABLE events (topic TEXT, event_id TEXT, ts_iso TEXT, source TEXT, payload TEXT);
     CREATE TABLE archive (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT);
     INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}');
     INSERT INTO archive VALUES ('T', 'b', 'TIME', 's', '{}');";
const PYTHON: &str =
    "CREATE TABLE events (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT);
     INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{''a'': 1, ''b'': True}');
     INSERT INTO events VALUES ('T', 'b', 'TIME', 's', '{\"a\": 1}');
     INSERT INTO events VALUES ('T', 'c', 'TIME', 's', 'hello');";
pub(super) const IDS: &str = "CREATE TABLE dedup_store (topic TEXT, event_id TEXT, processed_at TEXT,
       PRIMARY KEY (topic, event_id));
     INSERT INTO dedup_store VALUES ('T', 'a', 'TIME'), ('T', 'b', 'TIME');";
const KEYS: &str = "CREATE TABLE dedup_keys (dedup_key TEXT PRIMARY KEY, created_at TEXT);
     INSERT INTO dedup_keys VALUES ('a', 'TIME'), ('b', 'TIME');";
const RAW: &str =
    "CREATE TABLE inbox (topic TEXT, event_id TEXT, ts TEXT, source TEXT, raw_event TEXT, retries INT);
     INSERT INTO inbox VALUES ('T', 'a', 'TIME', 's', '{\"n\": 7}', 0), ('T', 'b', 'TIME', 's', '{}', 0);";
const BOTH: &str = "CREATE TABLE events (topic, event_id, timestamp, source, payload);
     CREATE TABLE dedup (topic, event_id, first_seen);
     INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{\"n\":1}'), ('T', 7, 'TIME', 's', '{}');
     INSERT INTO dedup VALUES ('T', 'a', 'TIME'), ('T', '7', 'TIME'), ('T', 'gone', 'TIME');";
const NUMBERED: &str =
    "CREATE TABLE events (id INTEGER PRIMARY KEY, topic TEXT, timestamp TEXT, payload TEXT);
     INSERT INTO events VALUES (1, 'T', 'TIME', '{}'), (2, 'T', 'TIME', '{}');";

pub(super) const CASES: &[Case] = &[
    Case::new(
        "a row number and a unique pair",
        "CREATE TABLE processed_events (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
           event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT NOT NULL, payload TEXT NOT NULL,
           processed_at TEXT DEFAULT CURRENT_TIMESTAMP, UNIQUE (topic, event_id));
         INSERT INTO processed_events (topic, event_id, timestamp, source, payload)
           VALUES ('T', 'a', 'TIME', 's', '{\"n\": 1}'), ('T', 'b', 'TIME', 's', '[]');",
        (2, 0),
    )
    .told(&[
        "table processed_events: topic ← topic, event_id ← event_id, timestamp ← timestamp, source ← source, \
         payload ← payload",
        "verified: all 2 events with 2 ids are stored",
    ])
    .event(|| json!({"timestamp": TIME, "source": "s", "payload": {"n": 1}})),
    Case::new(
        "suffixes on names",
        "CREATE TABLE event_log (event_id TEXT PRIMARY KEY, topic TEXT, event_timestamp TEXT, event_source TEXT,
           payload_json TEXT);
         INSERT INTO event_log VALUES ('a', 'T', 'TIME', 's', '{\"n\": 2}');",
        (1, 0),
    )
    .told(&["timestamp ← event_timestamp, source ← event_source, payload ← payload_json"])
    .event(|| json!({"timestamp": TIME, "source": "s", "payload": {"n": 2}})),
    Case::new(
        "camel case",
        "CREATE TABLE Events (eventId TEXT, topicName TEXT, createdAt TEXT, eventSource TEXT, body TEXT);
         INSERT INTO Events VALUES ('a', 'T', 'TIME', 's', 'null');",
        (1, 0),
    )
    .told(&["table Events: topic ← topicName, event_id ← eventId, timestamp ← createdAt"])
    .event(|| json!({"source": "s", "payload": null})),
    Case::new(
        "capitals",
        "CREATE TABLE EVENTS (TOPIC, EVENT_ID, TS_ISO, SOURCE, DATA);
         INSERT INTO EVENTS VALUES ('T', 'a', 'TIME', 's', '1');",
        (1, 0),
    ),
    Case::new(
        "JSON and DATETIME as types, a payload that is a blob",
        "CREATE TABLE events (id TEXT PRIMARY KEY, topic VARCHAR(100), ts DATETIME, source VARCHAR, data JSON);
         INSERT INTO events VALUES ('a', 'T', 'TIME', 's', CAST('{\"n\": 3}' AS BLOB));",
        (1, 0),
    )
    .event(|| json!({"payload": {"n": 3}})),
    Case::new(
        "times as time.time() gives them",
        "CREATE TABLE events (topic TEXT, event_id TEXT, timestamp REAL, source TEXT, payload TEXT);
         INSERT INTO events VALUES ('T', 'a', 1761000000.25, 's', '{}');",
        (1, 0),
    )
    .event(|| json!({"timestamp": "2025-10-20T22:40:00.250000Z"})),
    Case::new(
        "times in milliseconds, and Julian days",
        "CREATE TABLE events (topic TEXT, event_id TEXT, ts INTEGER, source TEXT, payload TEXT);
         INSERT INTO events VALUES ('T', 'a', 1761000000250, 's', '{}'), ('T', 'b', 2460969, 's', '{}');",
        (1, 1),
    )
    .told(&["row 2: timestamp: the number is no Unix time", "not all is moved: 1 of 2 events are"])
    .event(|| json!({"timestamp": "2025-10-20T22:40:00.250000Z"})),
    Case::new(
        "no row numbers",
        "CREATE TABLE events (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT,
           PRIMARY KEY (topic, event_id)) WITHOUT ROWID;
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}'), ('T', 'b', 'yesterday', 's', '{}');",
        (1, 1),
    )
    .told(&["row 2: timestamp: "]),
    Case::new(
        "row numbers with gaps",
        "CREATE TABLE events (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT);
         INSERT INTO events (rowid, topic, event_id, timestamp, source, payload)
           VALUES (40, 'T', 'a', 'TIME', 's', '{}'), (77, 'T', 'b', 'TIME', 's', 'no'), (78, 'T', 'c', 'TIME', '', 'no');",
        (1, 1),
    )
    .told(&["row 77: payload: it is no JSON", "2 rows can't be moved, such as row 77: payload: it is no JSON"]),
    Case::new(
        "a column that is called as the row's number",
        "CREATE TABLE events (rowid TEXT, _rowid_ TEXT, oid TEXT, topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('x', 'y', 'z', 'T', 'a', 'TIME', 's', '{}');",
        (1, 0),
    ),
    Case::new(
        "a view over two tables",
        "CREATE TABLE ids (nr INTEGER PRIMARY KEY, topic TEXT, event_id TEXT);
         CREATE TABLE bodies (nr INTEGER, ts TEXT, source TEXT, payload TEXT);
         CREATE VIEW all_events AS SELECT topic, event_id, ts AS timestamp, source, payload FROM ids JOIN bodies USING (nr);
         INSERT INTO ids VALUES (1, 'T', 'a');
         INSERT INTO bodies VALUES (1, 'TIME', 's', '{\"n\": 4}');",
        (1, 0),
    )
    .told(&["table all_events: topic ← topic"])
    .event(|| json!({"payload": {"n": 4}})),
    Case::new(
        "a table, a view of it, and a view of what is gone",
        "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         CREATE VIEW latest AS SELECT * FROM events ORDER BY timestamp DESC LIMIT 10;
         CREATE VIEW broken AS SELECT topic, event_id, timestamp, source, payload FROM nowhere;
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}');",
        (1, 0),
    )
    .told(&["table events: "]),
    Case::new("two tables that may be meant", TWO_TABLES, (0, 1)).told(&[
        "more than one table of ",
        "table events (topic, event_id, ts_iso, source, payload)",
        "--table events --column timestamp=ts_iso",
        "--table archive\n",
    ]),
    Case::new("one of two tables, named", TWO_TABLES, (1, 0)).with(&["--table", "events"]).event(|| json!({})),
    Case::new(
        "two tables, of which one is empty",
        "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         CREATE TABLE processed_events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}');",
        (1, 0),
    )
    .told(&["table events: "]),
    Case::new(
        "a table whose names often mean something else, beside one whose names don't",
        "CREATE TABLE audit (topic, event_id, message, processed_at);
         CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO audit VALUES ('T', 'a', 'stored', 'TIME');
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}');",
        (1, 0),
    )
    .told(&["table events: "])
    .event(|| json!({"payload": {}})),
    Case::new(
        "reserved words and odd characters in names",
        "CREATE TABLE \"it's a `group`\" (\"select\" TEXT, \"order\" TEXT, \"from\" TEXT, \"where\" TEXT, \"a \"\"b\"\"\" TEXT);
         INSERT INTO \"it's a `group`\" VALUES ('T', 'a', 'TIME', 's', '{}');",
        (1, 0),
    )
    .with(&[
        "--column", "topic=select", "--column", "event_id=order", "--column", "timestamp=from", "--column",
        "source=where", "--column", "payload=a \"b\"",
    ])
    .event(|| json!({"timestamp": TIME, "source": "s"})),
    Case::new(
        "reserved words in the command to type",
        "CREATE TABLE \"group\" (\"topic\" TEXT, \"event_id\" TEXT, \"order\" TEXT, \"payload\" TEXT);
         INSERT INTO \"group\" VALUES ('T', 'a', 'TIME', '{}');",
        (0, 1),
    )
    .told(&["table group (topic, event_id, order, payload)", "--table group --column timestamp=COLUMN"]),
    Case::new(
        "text that is no UTF-8",
        "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}'), ('T', CAST(x'62ff' AS TEXT), 'TIME', 's', '{}'),
           ('T', 'c', 'TIME', 's', x'22ff22'), ('T', x'00112233445566778899aabbccddeeff', 'TIME', 's', '{}');",
        (1, 1),
    )
    .told(&["row 2: event_id: it is no UTF-8 text", "row 3: payload: it is no UTF-8 text", "row 4: event_id: "]),
    Case::new(
        "a database in UTF-16",
        "PRAGMA encoding = 'UTF-16le';
         CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('T', 'a', 'TIME', 'Zürich', '{\"n\": \"ö\"}');",
        (1, 0),
    )
    .event(|| json!({"source": "Zürich", "payload": {"n": "ö"}})),
    Case::new(
        "NULL in each column",
        "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES (NULL, 'x', 'TIME', 's', '{}'), ('T', NULL, 'TIME', 's', '{}'),
           ('T', 'y', NULL, 's', '{}'), ('T', 'a', 'TIME', NULL, NULL);",
        (1, 1),
    )
    .told(&["row 1: topic: ", "row 2: event_id: ", "row 3: timestamp: ", "1 of 4 events"])
    .event(|| json!({"source": "", "payload": {}})),
    Case::new("payloads as Python prints them", PYTHON, (1, 1)).told(&[
        "row 1: payload: it is no JSON",
        "2 rows can't be moved, such as row 1: payload: it is no JSON, such as what Python prints of a dict; \
         --payload-as-text moves it as a JSON string",
    ]),
    Case::new("payloads as Python prints them, moved as text", PYTHON, (3, 0))
        .with(&["--payload-as-text"])
        .event(|| json!({"payload": "{'a': 1, 'b': True}"})),
    Case::new(
        "a generated column",
        "CREATE TABLE events (topic, event_id, at TEXT, n, timestamp TEXT AS (at) STORED,
           payload TEXT AS (json_object('n', n)) VIRTUAL);
         INSERT INTO events (topic, event_id, at, n) VALUES ('T', 'a', 'TIME', 5);",
        (1, 0),
    )
    .told(&["source empty, as no column holds it"])
    .event(|| json!({"timestamp": TIME, "source": "", "payload": {"n": 5}})),
    Case::new("rows that only SQLite numbers", NUMBERED, (0, 1))
        .told(&["table events (id, topic, timestamp, payload)", "--table events --column event_id=COLUMN"]),
    Case::new("rows that SQLite numbers, by these numbers", NUMBERED, (2, 0)).with(&["--column", "event_id=id"]),
    Case::new(
        "two times that may be meant",
        "CREATE TABLE events (topic, event_id, created_at, published_at, source, payload);
         INSERT INTO events VALUES ('T', 'a', 'TIME', 'TIME', 's', '{}');",
        (0, 1),
    )
    .told(&["--table events --column timestamp=created_at    # timestamp may also be published_at"]),
    Case::new(
        "no time at all",
        "CREATE TABLE events (topic, event_id, payload);
         INSERT INTO events VALUES ('T', 'a', '{}');",
        (0, 1),
    )
    .told(&["--column timestamp=COLUMN"]),
    Case::new("ids without events", IDS, (0, 1)).told(&[
        "holds ids without events, which can be moved with --ids-only",
        "--ids-only --table dedup_store\n",
    ]),
    Case::new("ids without events, moved", IDS, (2, 0))
        .with(&["--ids-only"])
        .told(&["timestamp ← processed_at, source sqlite:case-", ", payload null"])
        .event(|| json!({"timestamp": TIME, "payload": null})),
    Case::new(
        "ids without events and times, moved",
        "CREATE TABLE seen (topic TEXT, event_id TEXT, PRIMARY KEY (topic, event_id)) WITHOUT ROWID;
         INSERT INTO seen VALUES ('T', 'a'), ('T', 'b');",
        (2, 0),
    )
    .with(&["--ids-only", "--table", "seen"])
    .told(&["timestamp the time of this move"])
    .event(|| json!({"payload": null})),
    Case::new(
        "ids without topics",
        "CREATE TABLE processed (event_id TEXT PRIMARY KEY, first_seen TEXT);
         INSERT INTO processed VALUES ('a', 'TIME');",
        (0, 1),
    )
    .with(&["--ids-only"])
    .told(&["table processed (event_id, first_seen)", "--ids-only --table processed --topic TOPIC\n"]),
    Case::new("keys without topics", KEYS, (0, 1)).told(&[
        "holds ids without events and topics, which can be moved with --ids-only",
        "--ids-only --table dedup_keys --topic TOPIC --column event_id=dedup_key\n",
    ]),
    Case::new("keys without topics, moved into one", KEYS, (2, 0))
        .with(&["--ids-only", "--table", "dedup_keys", "--topic", "T"])
        .told(&["table dedup_keys: topic \"topic-", "\", event_id ← dedup_key, timestamp ← created_at"])
        .event(|| json!({"timestamp": TIME, "payload": null})),
    Case::new(
        "a single column of ids",
        "CREATE TABLE seen (event_id TEXT PRIMARY KEY); INSERT INTO seen VALUES ('a');",
        (0, 1),
    )
    .told(&["--ids-only --table seen --topic TOPIC\n"]),
    Case::new(
        "events without topics, beside a table that is none",
        "CREATE TABLE users (email TEXT, name TEXT);
         CREATE TABLE events (event_id, ts, payload); INSERT INTO events VALUES ('a', 'TIME', '{\"n\": 6}');",
        (1, 0),
    )
    .with(&["--topic", "T"])
    .told(&["table events: topic \"topic-", "\", event_id ← event_id"])
    .event(|| json!({"payload": {"n": 6}})),
    Case::new(
        "a topic for events that have theirs",
        "CREATE TABLE events (topic, event_id, timestamp, source, payload);
         INSERT INTO events VALUES ('T', 'a', 'TIME', 's', '{}');",
        (0, 1),
    )
    .with(&["--topic", "T"])
    .told(&["column topic of events holds the topics: leave out --topic"]),
    Case::new("a payload under a name of its own", RAW, (0, 1)).told(&[
        "no table of ",
        "--table inbox --column timestamp=ts --column payload=raw_event\n",
    ]),
    Case::new("a payload under a name of its own, and ids asked for", RAW, (0, 1))
        .with(&["--ids-only"])
        .told(&[
            "--table inbox --column timestamp=ts --column payload=raw_event\n",
            "--ids-only --dedup-table inbox    # if there is no payload in raw_event\n",
        ]),
    Case::new("a payload under a name of its own, and its ids asked for", RAW, (0, 1))
        .with(&["--ids-only", "--table", "inbox"])
        .told(&["inbox has columns that may hold the payloads of events", "--column payload=raw_event\n"]),
    Case::new("a payload under a name of its own, left behind with a warning", RAW, (2, 0))
        .with(&["--ids-only", "--dedup-table", "inbox"])
        .told(&["warning: raw_event of inbox may hold payloads and stays behind"]),
    Case::new("a payload under a name of its own, named", RAW, (2, 0))
        .with(&["--column", "payload=raw_event"])
        .event(|| json!({"payload": {"n": 7}})),
    Case::new(
        "ids of events whose payload has a name of its own",
        "CREATE TABLE inbox (topic, event_id, ts, raw_event);
         CREATE TABLE dedup (topic, event_id);
         INSERT INTO inbox VALUES ('T', 'b', 'TIME', '{}');
         INSERT INTO dedup VALUES ('T', 'a'), ('T', 'b');",
        (1, 0),
    )
    .with(&["--ids-only"])
    .told(&["table dedup: ", "; ids that have an event in inbox are left out"])
    .event(|| json!({"payload": null})),
    Case::new(
        "names that end or begin with payload",
        "CREATE TABLE events (topic, event_id, ts, order_payload TEXT, payload_sha256 TEXT, payload_bytes INT);
         INSERT INTO events VALUES ('T', 'a', 'TIME', '{\"n\": 8}', 'ab', 3);",
        (1, 0),
    )
    .told(&["payload ← order_payload"])
    .event(|| json!({"payload": {"n": 8}})),
    Case::new(
        "two columns that may be the payload",
        "CREATE TABLE events (topic, event_id, ts, payload_raw, payload_decoded);
         INSERT INTO events VALUES ('T', 'a', 'TIME', '{}', '{}');",
        (0, 1),
    )
    .told(&["--column payload=payload_raw    # payload may also be payload_decoded"]),
    Case::new(
        "ids with notes of the service",
        "CREATE TABLE dedup (topic TEXT, event_id TEXT, first_seen TEXT, lastSeen TEXT, seen_count, status TEXT,
           payload_hash TEXT, attempts TEXT, updated_at TEXT, worker_id TEXT, ttl REAL);
         INSERT INTO dedup (topic, event_id, first_seen) VALUES ('T', 'a', 'TIME');",
        (0, 1),
    )
    .told(&["holds ids without events", "--ids-only --table dedup\n"]),
    Case::new("events, and more ids than events", BOTH, (2, 0)).told(&[
        "1 ids of dedup have no event in events",
        "--ids-only",
        "verified: all 2 events with 2 ids are stored",
    ]),
    Case::new("the ids that have no event, alone", BOTH, (1, 0))
        .with(&["--ids-only"])
        .told(&["table dedup: topic ← topic, event_id ← event_id, timestamp ← first_seen"]),
    Case::new(
        "ids in three tables, of which one alone has some without an event, at times of any kind",
        "CREATE TABLE events (topic, event_id, payload, timestamp, source);
         CREATE TABLE processed (topic, event_id, processed_at);
         CREATE TABLE seen (topic, event_id);
         INSERT INTO events VALUES ('T', 'b', '{}', 'TIME', 's');
         INSERT INTO seen VALUES ('T', 'b');
         INSERT INTO processed VALUES ('T', 'a', 'TIME'), ('T', 'b', 'TIME'), ('T', 'c', 17), ('T', 'd', 'soon'),
           ('T', 'e', '');",
        (4, 0),
    )
    .with(&["--ids-only"])
    .told(&["table processed: "])
    .event(|| json!({"timestamp": TIME, "payload": null})),
    Case::new(
        "ids in two tables, each of which has its event",
        "CREATE TABLE events (topic, event_id, payload, timestamp, source);
         CREATE TABLE processed (topic, event_id);
         CREATE TABLE seen (topic, event_id);
         INSERT INTO events VALUES ('T', 'b', '{}', 'TIME', 's');
         INSERT INTO seen VALUES ('T', 'b');
         INSERT INTO processed VALUES ('T', 'b');",
        (0, 0),
    )
    .with(&["--ids-only"])
    .told(&["verified: all 0 events with 0 ids are stored"]),
    Case::new(
        "ids in two tables",
        "CREATE TABLE processed (topic, event_id);
         CREATE TABLE seen (topic, event_id);
         INSERT INTO seen VALUES ('T', 'a');
         INSERT INTO processed VALUES ('T', 'b');",
        (0, 1),
    )
    .with(&["--ids-only"])
    .told(&["--ids-only --table processed\n", "--ids-only --table seen\n"]),
    Case::new("a table without rows", "CREATE TABLE events (topic, event_id, timestamp, source, payload);", (0, 0))
        .told(&["verified: all 0 events with 0 ids are stored"]),
    Case::new("no table", "CREATE TABLE t (a); DROP TABLE t;", (0, 1)).told(&["has no tables"]),
    Case::new("a table that is not there", TWO_TABLES, (0, 1))
        .with(&["--table", "nowhere"])
        .told(&["has no table nowhere", "table events (topic"]),
];
