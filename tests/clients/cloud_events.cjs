// The CloudEvents SDK for JavaScript: structured and binary mode, and its emitter; everything twice.
const assert = require("node:assert");
const { CloudEvent, HTTP, emitterFor, httpTransport, Mode } = require("cloudevents");

const base = process.env.SEKALI_URL;
const event = (id) =>
  new CloudEvent({ id, type: "com.example.paid", source: "/checkout", time: "2026-11-22T10:00:00Z", data: { id } });

async function send(message) {
  const answer = await fetch(`${base}/publish`, { method: "POST", headers: message.headers, body: message.body });
  assert.strictEqual(answer.status, 200, await answer.clone().text());
  return (await answer.json()).unique_processed;
}

(async () => {
  for (const expected of [1, 0]) {
    assert.strictEqual(await send(HTTP.structured(event("structured"))), expected);
    assert.strictEqual(await send(HTTP.binary(event("binary"))), expected);
  }
  for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
    const emit = emitterFor(httpTransport(`${base}/publish`), { mode });
    await emit(event("emitted"));
  }
  for (const id of ["structured", "binary", "emitted"]) {
    const stored = await (await fetch(`${base}/events/com.example.paid/${id}`)).json();
    assert.deepStrictEqual(stored.payload, { id });
  }
  const stats = await (await fetch(`${base}/stats`)).json();
  assert.deepStrictEqual([stats.unique_processed, stats.duplicate_dropped], [3, 3]);
})().catch((fault) => {
  console.error(fault);
  process.exit(1);
});
