// One topic: its figures, who sends to it, its latest events.

import { Refused, get, text, url } from "./api.js";
import { foreign, h } from "./dom.js";
import { duplicatesLink, recent, senders } from "./duplicates.js";
import { eventsLink, table } from "./events.js";
import { bytes, count, ofAll, time } from "./format.js";
import { page } from "./json.js";
import { load } from "./token.js";

/** Latest events that sources and sizes are told from. */
const LOOKED_AT = 500;
const LATEST = 20;

/** @type {import("./app.js").View} */
export const topic = {
  path: "topic",
  title: (params) => `Topic ${params.get("name") ?? ""}`,
  open({ root, params, signal }) {
    const name = params.get("name") ?? "";
    const heading = root.querySelector("h1");
    heading?.replaceChildren("Topic ", foreign(name, 300));
    const place = h("div", { class: "stack" });
    root.append(h("p", { class: "row" }, h("a", { href: "#/topics" }, "All topics"), h("a", { href: eventsLink({ topic: name }) }, "All its events"),
      h("a", { href: eventsLink({ topic: name, live: "1" }) }, "Follow it live")), place);
    load(place, signal, async () => {
      const [figures, again, latest] = await Promise.all([
        get("/topics", signal, { topic: name }),
        recent(name, signal),
        text(url("/events", { topic: name, order: "desc", limit: LOOKED_AT }), signal, { headers: { accept: "application/json" } }),
      ]);
      if (figures.topics.length === 0) throw new Refused(404, "no event of this topic is stored");
      const { events } = page(latest);
      return [summary(figures.topics[0], events), sources(name, events), h("h2", {}, "Where duplicates come from"),
        again.length === 0 ? h("p", { class: "quiet" }, "None was sent again since the service started.") : [senders(again, name), h("p", {}, h("a", { href: duplicatesLink(name) }, "The latest of them"))],
        h("h2", {}, "Latest events"), table(events.slice(0, LATEST), { topic: name })];
    });
  },
};

/** @param {import("openapi").components["schemas"]["Topic"]} figures @param {import("./json.js").Shown[]} events */
function summary(figures, events) {
  const size = new Blob(events.map((event) => event.payload)).size / Math.max(1, events.length);
  const rows = /** @type {[string, import("./dom.js").Child][]} */ ([
    ["Stored", count(figures.unique_processed)],
    ["Duplicates dropped", `${count(figures.duplicate_dropped)} (${ofAll(figures.duplicate_dropped, figures.received)})`],
    ["Conflicts", count(figures.conflicts)],
    ["Offsets", `${count(figures.first_offset)} to ${count(figures.last_offset)}`],
    ["First event", time(figures.first_received_at)],
    ["Last event", time(figures.last_received_at)],
    ["Mean payload", bytes(size)],
  ]);
  return h("dl", { class: "facts", "aria-label": "Figures" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** @param {string} topic @param {import("./json.js").Shown[]} events */
function sources(topic, events) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const { source } of events) found.set(source, (found.get(source) ?? 0) + 1);
  const rows = [...found].sort((a, b) => b[1] - a[1]).slice(0, 50);
  return [h("h2", {}, "Sources"), h("p", { class: "quiet" }, `Of the latest ${count(events.length)} events.`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sources, scrolls" }, h("table", {}, h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Source"), h("th", { scope: "col", class: "number" }, "Events"), h("th", { scope: "col", class: "number" }, "Share"))),
    h("tbody", {}, rows.map(([source, many]) => h("tr", {},
      h("td", {}, h("a", { href: eventsLink({ topic, source }) }, source === "" ? "(none)" : foreign(source, 300))),
      h("td", { class: "number" }, count(many)), h("td", { class: "number" }, ofAll(many, events.length)))))))];
}
