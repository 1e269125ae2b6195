// Events: pages of them, newest or oldest first, or those that arrive.

import { Refused, send, text, url } from "./api.js";
import { cut, field, foreign, h, put, say, tell, visible } from "./dom.js";
import { bytes, count, fromLocal, local, time } from "./format.js";
import { event as parseEvent, page as parsePage } from "./json.js";
import { follow } from "./sse.js";
import { load, problem } from "./token.js";

const PAGE = 50;
/** Rows of a live list, and events that wait while it pauses. */
const LIVE_MAX = 200;
/** How often a live list is drawn. */
const DRAWN_MS = 250;
const PREVIEW = 160;
const FILTERS = ["topic", "source", "since", "until", "order"];

/** @param {Record<string, string>} query */
export const eventsLink = (query) => `#${url("/events", query)}`;

/** The link to an event. @param {{topic: string, event_id: string}} event */
export const eventLink = (event) => `#${url("/event", { topic: event.topic, id: event.event_id })}`;

/** @type {import("./app.js").View} */
export const events = {
  path: "events",
  label: "Events",
  title: (params) => (params.get("topic") ? `Events of ${params.get("topic")}` : "Events"),
  open(context) {
    const { root, params, signal } = context;
    const query = Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""]));
    const isLive = params.get("live") === "1";
    root.append(filters(query, isLive), download(query, signal));
    const place = h("div", { class: "stack" });
    root.append(place);
    if (isLive) tail(place, query, signal);
    else load(place, signal, () => list(query, params.get("cursor"), signal));
  },
};

function filters(query, isLive) {
  const topic = h("input", { value: query.topic, spellcheck: "false" });
  const source = h("input", { value: query.source, spellcheck: "false" });
  const since = h("input", { type: "datetime-local", step: "1", value: local(query.since) });
  const until = h("input", { type: "datetime-local", step: "1", value: local(query.until), disabled: isLive });
  const order = h("select", { disabled: isLive }, h("option", { value: "desc" }, "newest first"), h("option", { value: "asc", selected: query.order === "asc" }, "oldest first"));
  const live = h("input", { type: "checkbox", checked: isLive, onchange: () => go() });
  const go = () => {
    location.hash = eventsLink({
      topic: topic.value, source: source.value, since: fromLocal(since.value), until: live.checked ? "" : fromLocal(until.value),
      order: live.checked || order.value === "desc" ? "" : order.value, live: live.checked ? "1" : "",
    });
  };
  order.addEventListener("change", go);
  return h("form", { class: "row filters", role: "search", onsubmit: (e) => {
    e.preventDefault();
    go();
  } }, field("Topic", topic), field("Source", source), field("Arrived since", since), field("Arrived before", until), field("Order", order),
  h("label", { class: "check" }, live, "Live"), h("button", { type: "submit" }, "Filter"),
  Object.values(query).some(Boolean) || isLive ? h("a", { href: "#/events" }, "Clear") : null);
}

/** A page of events. */
async function list(query, cursor, signal) {
  const path = url("/events", { ...query, order: query.order || "desc", limit: PAGE, cursor });
  const { events, next_cursor: next } = parsePage(await text(path, signal, { headers: { accept: "application/json" } }));
  const isFiltered = FILTERS.some((name) => query[name]);
  if (events.length === 0 && next == null) {
    return h("p", { class: "quiet" }, cursor ? "That was the last of them." : isFiltered ? "No event fits." : "No event is stored yet. Publish one, as on the page Try.");
  }
  return [
    events.length === 0 ? h("p", { class: "quiet" }, "Much was looked at and nothing fits yet. The next page goes on.") : table(events, query),
    h("nav", { class: "row", "aria-label": "Pages" },
      cursor ? h("a", { href: eventsLink(query) }, "First page") : null,
      next == null ? h("span", { class: "quiet" }, "No more.") : h("a", { href: eventsLink({ ...query, cursor: next }) }, "Next page")),
  ];
}

/** Events as a table. A topic that all have is left out.
 * @param {import("./json.js").Shown[]} events @param {Record<string, string>} query */
export function table(events, query) {
  return frame(query, events.map((event) => row(event, query)));
}

function frame(query, rows) {
  const heads = ["Arrived", query.topic ? null : "Topic", "Id", "Source", "Payload"].filter(Boolean);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events, scrolls" },
    h("table", { class: "events-table" }, h("caption", { class: "unseen" }, "Events"),
      h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)));
}

/** @param {import("./json.js").Shown} event @param {Record<string, string>} query */
function row(event, query) {
  return h("tr", {},
    h("td", { class: "when" }, time(event.received_at)),
    query.topic ? null : h("td", {}, short(event.topic)),
    h("td", {}, h("a", { href: eventLink(event) }, short(event.event_id))),
    h("td", {}, event.source === "" ? h("span", { class: "quiet" }, "(none)") : short(event.source)),
    h("td", { class: "preview" }, h("code", {}, short(event.payload, PREVIEW))));
}

/** A text of which the beginning is enough. @param {string} text */
function short(text, most = 80) {
  const part = cut(text, most);
  return foreign(part.length < text.length ? `${part}…` : part, most + 1);
}

/** What arrives. The list pauses when it is told to, and while it is read: while the pointer is on it, it has
 * the focus, or it is scrolled. It then catches up. */
function tail(place, query, signal) {
  /** Events that are not shown yet, the newest last; of those that wait, the last ones. @type {import("./json.js").Shown[]} */
  let waiting = [];
  let missed = 0;
  let arrived = 0;
  let isHeld = false;
  const state = h("span", { role: "status" }, "Connecting…");
  const pause = h("button", { type: "button", onclick: () => {
    if (isHeld || isRead()) {
      isHeld = false;
      window.scrollTo(0, 0);
      draw(true);
      list.scrollTop = 0;
    } else {
      isHeld = true;
    }
    name();
  } });
  const total = h("span", { class: "quiet" });
  const list = frame(query, []);
  const body = list.querySelector("tbody");
  const empty = h("p", { class: "quiet" }, "Waiting for events…");
  put(place, h("p", { class: "row" }, state, pause, total), empty, list);
  list.hidden = true;

  const isRead = () => list.matches(":hover") || list.contains(document.activeElement) || window.scrollY > 120 || list.scrollTop > 0;
  const name = () => {
    const hidden = waiting.length + missed;
    say(pause, hidden > 0 && (isHeld || isRead()) ? `Paused: ${count(hidden)} new, show them` : isHeld ? "Paused, go on" : "Pause");
    say(total, arrived > 0 ? `${count(arrived)} since this page began` : "");
  };
  const draw = (isForced = false) => {
    if (waiting.length === 0 || !isForced && (isHeld || isRead())) return;
    const rows = waiting.slice(-LIVE_MAX).reverse().map((event) => row(event, query));
    body.prepend(...rows);
    while (body.children.length > LIVE_MAX) body.lastElementChild.remove();
    [waiting, missed] = [[], 0];
    list.hidden = false;
    empty.hidden = true;
  };
  const timer = setInterval(() => {
    draw();
    name();
  }, DRAWN_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  name();

  const known = new Set();
  const take = (messages) => {
    for (const { data } of messages) {
      const event = parseEvent(data);
      // Those of the page that was read before; a stream gives none twice.
      if (known.delete(`${event.offset} ${event.topic}`)) continue;
      waiting.push(event);
      arrived += 1;
    }
    if (waiting.length > LIVE_MAX) {
      missed += waiting.length - LIVE_MAX;
      waiting = waiting.slice(-LIVE_MAX);
    }
  };
  const again = () => tail(place, query, signal);
  begin(query, signal).then(({ latest, cursor }) => {
    if (signal.aborted) return;
    waiting = latest.reverse();
    for (const event of latest) known.add(`${event.offset} ${event.topic}`);
    draw(true);
    const path = () => url("/events", { topic: query.topic, source: query.source, since: query.since, cursor });
    return follow(path, signal, take, (now, why) => {
      say(state, now === "open" ? "Live" : now === "lost" ? "Disconnected; this page tries again by itself and goes on where it was." : "");
      if (now === "refused") end(problem(why, again));
    });
  }).catch((e) => {
    if (!signal.aborted) end(problem(e, again));
  });
  const end = (what) => {
    clearInterval(timer);
    put(place, what);
  };
}

/** Where a live list begins: with the latest events, and at the cursor that they go back to. A cursor names the
 * first event not yet given, in whichever order, so what a stream gives from there is these events and all later ones. */
async function begin(query, signal) {
  const path = url("/events", { topic: query.topic, source: query.source, since: query.since, order: "desc", limit: PAGE });
  const { events, next_cursor: cursor } = parsePage(await text(path, signal, { headers: { accept: "application/json" } }));
  return { latest: events, cursor };
}

/** Writes the range to a file. */
function download(query, signal) {
  const told = h("span", { class: "quiet", role: "status" });
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  const begin = h("button", { type: "button", onclick: async () => {
    const stopping = new AbortController();
    stop.onclick = () => stopping.abort();
    [begin.disabled, stop.hidden] = [true, false];
    try {
      const path = url("/events", { ...query, order: query.order || "asc" });
      const answer = await send(path, { headers: { accept: "application/x-ndjson" }, signal: AbortSignal.any([signal, stopping.signal]) });
      if (!answer.body) throw new Refused(0, "The answer has no body.");
      // Browsers keep large blobs on disk.
      const parts = [];
      let size = 0;
      const reader = answer.body.getReader();
      for (let part; !(part = await reader.read()).done;) {
        parts.push(new Blob([part.value]));
        size += part.value.length;
        say(told, bytes(size));
      }
      save(new Blob(parts, { type: "application/x-ndjson" }), query.topic);
      say(told, `${bytes(size)} written`);
    } catch (e) {
      say(told, stopping.signal.aborted ? "Stopped." : e instanceof Refused ? e.message : "The answer was cut short: nothing was written.");
    }
    [begin.disabled, stop.hidden] = [false, true];
  } }, "Download as NDJSON");
  return h("p", { class: "row" }, begin, stop, told);
}

function save(blob, topic) {
  const address = URL.createObjectURL(blob);
  const name = visible(topic || "events").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80);
  const link = h("a", { href: address, download: `${name}.ndjson` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  tell("The file was written.");
}
