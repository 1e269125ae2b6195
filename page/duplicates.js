// Duplicates: who sends events again.

import { get, url } from "./api.js";
import { foreign, h } from "./dom.js";
import { eventLink } from "./events.js";
import { count, lasting, ofAll, time } from "./format.js";
import { load } from "./token.js";
import { topicLink } from "./topics.js";

/** @typedef {import("openapi").components["schemas"]["Duplicate"]} Duplicate */

const LATEST = 50;

/** @param {string} topic */
export const duplicatesLink = (topic) => `#${url("/duplicates", { topic })}`;

/** @type {import("./app.js").View} */
export const duplicates = {
  path: "duplicates",
  label: "Duplicates",
  title: (params) => (params.get("topic") ? `Duplicates of ${params.get("topic")}` : "Duplicates"),
  open({ root, params, signal }) {
    const topic = params.get("topic") ?? "";
    const place = h("div", { class: "stack" });
    const ask = () => load(place, signal, async () => {
      const found = await recent(topic, signal);
      return found.length === 0 ? h("p", { class: "quiet" }, "No event was sent again since the service started.")
        : [h("h2", {}, "Who sends them"), senders(found, topic), h("h2", {}, "The latest"), latest(found.slice(0, LATEST), topic)];
    });
    root.append(h("p", { class: "row" }, h("button", { type: "button", onclick: ask }, "Refresh"), topic ? h("a", { href: "#/duplicates" }, "Of all topics") : null,
      h("span", { class: "quiet" }, "A sample of the events that were dropped last: of each request the first ten, of each second a hundred.")), place);
    ask();
  },
};

/** Events that were dropped last. @param {string} topic @param {AbortSignal} signal @returns {Promise<Duplicate[]>} */
export async function recent(topic, signal) {
  return (await get("/duplicates", signal, { topic: topic || null })).duplicates;
}

/** A table of who sent them. @param {Duplicate[]} found @param {string} topic */
export function senders(found, topic) {
  /** @type {Map<string, {one: Duplicate, many: number, conflicts: number}>} */
  const groups = new Map();
  for (const one of found) {
    const key = JSON.stringify([one.topic, one.source]);
    const group = groups.get(key) ?? { one, many: 0, conflicts: 0 };
    group.many += 1;
    group.conflicts += one.status === "conflict" ? 1 : 0;
    groups.set(key, group);
  }
  const rows = [...groups.values()].sort((a, b) => b.many - a.many).slice(0, LATEST);
  return frame("Senders", ["Source", topic ? null : "Topic", "Dropped", "Share", "Conflicts", "Last"], rows.map(({ one, many, conflicts }) => [
    one.source === "" ? "(none)" : foreign(one.source, 200), topic ? null : h("a", { href: topicLink(one.topic) }, foreign(one.topic, 200)),
    count(many), ofAll(many, found.length), count(conflicts), time(one.received_at)]));
}

/** @param {Duplicate[]} found @param {string} topic */
function latest(found, topic) {
  return frame("Latest duplicates", ["Dropped at", topic ? null : "Topic", "Id", "Source", "Became", "After the first"], found.map((one) => [
    time(one.received_at), topic ? null : foreign(one.topic, 80), h("a", { href: eventLink(one) }, foreign(one.event_id, 80)), foreign(one.source, 80),
    one.status, lasting((Date.parse(one.received_at) - Date.parse(one.first_seen)) / 1_000)]));
}

/** @param {string} label @param {(string|null)[]} heads @param {import("./dom.js").Child[][]} rows */
function frame(label, heads, rows) {
  const shown = heads.map((head) => head != null);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${label}, scrolls` }, h("table", {},
    h("caption", { class: "unseen" }, label),
    h("thead", {}, h("tr", {}, heads.filter((head) => head != null).map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.filter((_, index) => shown[index]).map((cell) => h("td", {}, cell)))))));
}
