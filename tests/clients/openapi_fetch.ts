// A client that openapi-typescript typed after /openapi.json: publishes everything twice, and reads it. The compiler holds every
// path, parameter and member against the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

declare const process: { env: Record<string, string>; exit(code: number): never };

const client = createClient<paths, "application/json">({ baseUrl: process.env.SEKALI_URL });

function equal(given: unknown, expected: unknown): void {
  if (JSON.stringify(given) !== JSON.stringify(expected)) throw new Error(`${JSON.stringify(given)} is not ${JSON.stringify(expected)}`);
}

function event(event_id: string): components["schemas"]["Event"] {
  return { topic: "made", event_id, timestamp: "2026-11-22T10:00:00Z", source: "client", payload: { id: event_id } };
}

async function run(): Promise<void> {
  for (const unique of [1, 0]) {
    const one = await client.POST("/publish", { body: event("1") });
    equal([one.data?.received, one.data?.unique_processed], [1, unique]);
    equal(one.data?.results?.[0]?.status, unique ? "stored" : "duplicate");
    const query = { partial: true };
    const list = await client.POST("/publish", { params: { query }, body: { events: [event("2"), event("3")] } });
    equal([list.data?.received, list.data?.unique_processed], [2, 2 * unique]);
  }
  const refused = await client.POST("/publish", { body: event("") });
  equal([refused.response.status, typeof refused.error?.detail], [422, "object"]);

  const query = { topic: "made", since: "2026-01-01T00:00:00Z", limit: 2 };
  const page = await client.GET("/events", { params: { query } });
  const events: components["schemas"]["StoredEvent"][] = page.data?.events ?? [];
  equal(events.map((stored) => stored.event_id), ["1", "2"]);
  const cursor = page.data?.next_cursor ?? undefined;
  const rest = await client.GET("/events", { params: { query: { topic: "made", cursor } } });
  equal([rest.data?.events.length, rest.data?.next_cursor], [1, null]);
  const path = { topic: "made", event_id: "1" };
  const found = await client.GET("/events/{topic}/{event_id}", { params: { path } });
  equal([found.data?.timestamp, found.data?.payload], ["2026-11-22T10:00:00Z", { id: "1" }]);
  equal((await client.GET("/stats")).data?.topics, ["made"]);
  equal((await client.GET("/health")).data?.status, "ready");
}

run().catch((fault) => {
  console.error(fault);
  process.exit(1);
});
