// Publishes 250 events in batches of 100, and sends each batch until the service has answered 200.
//
// Each event has an id that stays the same when it is sent again, so a repetition is never stored twice. Needs Node 18 and
// nothing else; in a browser the page's origin must be allowed with --cors-origin.

const URL = process.env.SEKALI_URL ?? "http://localhost:8080";
// After these, or without an answer, the same request is sent again.
const AGAIN = new Set([408, 429, 500, 502, 503, 504, 507]);

async function publish(events) {
  const body = JSON.stringify(events);
  const headers = { "content-type": "application/json" };
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const signal = AbortSignal.timeout(30_000);
    // Without an answer the events may be stored or not. Sending them again is safe.
    const answer = await fetch(`${URL}/publish`, { method: "POST", headers, body, signal }).catch(() => null);
    const text = await answer?.text().catch(() => null);
    if (answer?.ok && text) return JSON.parse(text);
    if (answer && !answer.ok && !AGAIN.has(answer.status)) throw new Error(`refused with ${answer.status}: ${text}`);
    const seconds = Number(answer?.headers.get("retry-after") ?? Math.min(30, 0.1 * 2 ** attempt));
    await new Promise((wake) => setTimeout(wake, seconds * 1000));
  }
  throw new Error("gave up: the service does not answer");
}

const events = Array.from({ length: 250 }, (_, number) => ({
  topic: "orders.paid",
  event_id: `javascript-${number}`,
  timestamp: "2026-11-22T10:00:00Z",
  source: "examples/publish.mjs",
  payload: { amount: number },
}));
let stored = 0;
let dropped = 0;
for (let first = 0; first < events.length; first += 100) {
  const counts = await publish(events.slice(first, first + 100));
  stored += counts.unique_processed;
  dropped += counts.duplicate_dropped;
}
console.log(`${stored} stored, ${dropped} dropped as stored before`);
