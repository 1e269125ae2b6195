// Works for a consumer: adds up the amounts of events in a SQLite database, each event exactly once.
//
//     node consume.mjs CONSUMER totals.db
//
// The service gives each event at least once. Here the work on an event and the offset up to which its topic is done are one
// transaction, so an event that is given again is seen to be done. A kill at any moment loses both or neither. Make the
// consumer first, with PUT /consumers/CONSUMER. Needs Node 22.5 with node:sqlite, or Node 20 with the package better-sqlite3.

const URL = process.env.SEKALI_URL ?? "http://localhost:8080";
const WAIT_SECONDS = 20;
const LEASE_SECONDS = Number(process.env.LEASE_SECONDS ?? 30);
const PASSING = [408, 429, 500, 502, 503, 504, 507];

const TABLES = `
CREATE TABLE IF NOT EXISTS totals (source TEXT PRIMARY KEY, events INTEGER NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS done (consumer TEXT, topic TEXT, next_offset INTEGER NOT NULL, PRIMARY KEY (consumer, topic));
PRAGMA busy_timeout = 30000;
`;

async function open(path) {
  const sqlite = await import("node:sqlite").catch(() => null);
  if (sqlite) return new sqlite.DatabaseSync(path);
  const { default: Database } = await import("better-sqlite3");
  return new Database(path);
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Applies those events that are not done yet, and notes that they are: all of it, or nothing. */
function workOn(database, consumer, events) {
  const note = database.prepare(
    `INSERT INTO done VALUES (?, ?, ?) ON CONFLICT (consumer, topic) DO UPDATE
     SET next_offset = excluded.next_offset WHERE next_offset < excluded.next_offset`,
  );
  const apply = database.prepare(
    `INSERT INTO totals VALUES (?, 1, ?)
     ON CONFLICT (source) DO UPDATE SET events = events + 1, amount = amount + excluded.amount`,
  );
  database.exec("BEGIN IMMEDIATE");
  for (const event of events) {
    if (Number(note.run(consumer, event.topic, event.offset + 1).changes) === 1) {
      apply.run(event.source, event.payload.amount);
    }
  }
  database.exec("COMMIT");
}

/** The JSON of an answer; null if another has the lease, or had it before this one was done, or if it may pass. */
async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(URL + path, options);
  if (answer.ok) return answer.json();
  const why = await answer.text();
  if (answer.status === 409 || PASSING.includes(answer.status)) return null;
  console.error(`refused with ${answer.status}: ${why}`);
  process.exit(1);
}

const [consumer, path] = process.argv.slice(2);
const database = await open(path);
database.exec(TABLES);
const query = new URLSearchParams({ wait: `${WAIT_SECONDS}s`, lease: `${LEASE_SECONDS}s`, limit: "10" });
for (;;) {
  let given = null;
  try {
    given = await ask(`/consumers/${consumer}/events?${query}`);
  } catch (lost) {
    console.error(`connection lost: ${lost}`);
  }
  if (given?.receipt) {
    workOn(database, consumer, given.events);
    await ask(`/consumers/${consumer}/ack`, { receipt: given.receipt }).catch(() => null);
  }
  if (!given) await pause(200 + 1000 * Math.random());
}
