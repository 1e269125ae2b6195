// Topics: all that may be read, sorted and filtered here.

import { get, url } from "./api.js";
import { field, foreign, h, pauser, put, say, tell } from "./dom.js";
import { ago, count, ofAll, rate, time } from "./format.js";
import { Rows } from "./rows.js";
import { problem } from "./token.js";

/** @typedef {import("openapi").components["schemas"]["Topic"] & {rate: number|null, lower: string}} Row `lower` is what filters look at. */

const PAGE = 10_000;
/** So many topics are asked for again and again; with more, on demand. */
const OFTEN_MAX = 20_000;
const EACH_MS = 10_000;
/** A rate takes two looks, and the second comes soon. */
const SECOND_MS = 2_000;

/** The link to a topic. @param {string} name */
export const topicLink = (name) => `#${url("/topic", { name })}`;

const SORTS = {
  topic: (a, b) => (a.topic < b.topic ? -1 : 1),
  stored: (a, b) => a.unique_processed - b.unique_processed,
  rate: (a, b) => (a.rate ?? 0) - (b.rate ?? 0),
  duplicates: (a, b) => a.duplicate_dropped / a.received - b.duplicate_dropped / b.received,
  last: (a, b) => (a.last_received_at < b.last_received_at ? -1 : 1),
};

/** @type {import("./app.js").View} */
export const topics = {
  path: "topics",
  label: "Topics",
  title: () => "Topics",
  open({ root, params, signal, set }) {
    let filter = params.get("filter") ?? "";
    let sort = params.get("sort") ?? "topic";
    /** @type {Row[]} */
    let all = [];
    let asked = 0;
    const input = h("input", { type: "search", value: filter, spellcheck: "false", oninput: () => {
      filter = input.value;
      keep();
    } });
    const told = h("p", { class: "quiet", role: "status" }, "Loading…");
    const refresh = h("button", { type: "button", onclick: () => ask() }, "Refresh");
    const pause = pauser(() => ask());
    const wrong = h("div", {});
    const rows = new Rows("Topics", [
      { label: "Topic", sort: "topic", class: "grow", cell: (row) => h("a", { href: topicLink(row.topic) }, foreign(row.topic, 300)) },
      { label: "Stored", sort: "stored", class: "number", cell: (row) => count(row.unique_processed) },
      { label: "Rate", sort: "rate", class: "number", cell: (row) => (row.rate == null ? "–" : rate(row.rate)) },
      { label: "Duplicates", sort: "duplicates", class: "number", cell: (row) => ofAll(row.duplicate_dropped, row.received) },
      { label: "Last event", sort: "last", class: "number", cell: (row) => {
        const element = time(row.last_received_at);
        delete element.dataset.form;
        element.textContent = ago(row.last_received_at, asked);
        return element;
      } },
    ], (column) => {
      sort = sort === column ? `-${column}` : sort === `-${column}` ? column : column === "topic" ? column : `-${column}`;
      arrange();
      keep();
      tell(`Sorted by ${column}, ${sort.startsWith("-") ? "descending" : "ascending"}.`);
    });
    root.append(h("form", { class: "row", role: "search", onsubmit: (e) => e.preventDefault() }, field("Filter", input), refresh, pause.button), told, wrong, rows.element);
    signal.addEventListener("abort", () => rows.stop());

    const keep = () => {
      set({ filter, sort: sort === "topic" ? "" : sort });
      show();
    };
    /** Sorts all of them, so that a key that is typed takes no sorting. */
    const arrange = () => {
      const by = SORTS[/** @type {keyof typeof SORTS} */ (sort.replace("-", ""))] ?? SORTS.topic;
      const way = sort.startsWith("-") ? -1 : 1;
      all.sort((a, b) => way * by(a, b));
    };
    const show = () => {
      const wanted = filter.toLocaleLowerCase();
      const shown = all.filter((row) => row.lower.includes(wanted));
      say(told, all.length === 0 ? "There are no topics yet. Publish an event, as on the page Try."
        : shown.length === 0 ? `None of ${count(all.length)} topics has this in its name.`
          : shown.length === all.length ? `${count(all.length)} ${all.length === 1 ? "topic" : "topics"}` : `${count(shown.length)} of ${count(all.length)} topics`);
      rows.element.hidden = shown.length === 0;
      rows.show(shown, sort);
    };
    const ask = async () => {
      refresh.disabled = true;
      try {
        const found = await list(signal, (so_far) => all.length === 0 && say(told, `Loading… ${count(so_far)}`));
        const before = new Map(all.map((row) => [row.topic, row.unique_processed]));
        const at = Date.now();
        const seconds = (at - asked) / 1_000;
        all = found.map((row) => {
          // One that was not there before has all its events since then.
          const grown = row.unique_processed - (before.get(row.topic) ?? 0);
          return { ...row, rate: asked > 0 ? Math.max(0, grown) / seconds : null, lower: row.topic.toLocaleLowerCase() };
        });
        arrange();
        asked = at;
        put(wrong);
        show();
      } catch (e) {
        if (signal.aborted) return;
        put(wrong, problem(e, ask));
        say(told, all.length > 0 ? "What is shown is old." : "");
        rows.element.hidden = all.length === 0;
      }
      refresh.disabled = false;
    };
    const again = () => {
      if (!document.hidden && !pause.isPaused() && !refresh.disabled && all.length <= OFTEN_MAX) ask();
    };
    const timers = [setTimeout(again, SECOND_MS), setInterval(again, EACH_MS)];
    signal.addEventListener("abort", () => timers.forEach(clearInterval));
    ask();
  },
};

/** @param {AbortSignal} signal @param {(count: number) => void} tell
 * @returns {Promise<import("openapi").components["schemas"]["Topic"][]>} */
async function list(signal, tell) {
  const found = [];
  for (let cursor = null; ;) {
    const page = await get("/topics", signal, { limit: PAGE, cursor });
    for (const topic of page.topics) found.push(topic);
    tell(found.length);
    cursor = page.next_cursor;
    if (cursor == null) return found;
  }
}
