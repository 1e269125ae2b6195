// One event: its fields, and its payload as a tree or as it was written.

import { text, token, url } from "./api.js";
import { HIDDEN, copier, foreign, h, put, visible } from "./dom.js";
import { duplicatesLink, recent } from "./duplicates.js";
import { eventsLink } from "./events.js";
import { bytes, count, time } from "./format.js";
import { page, parse } from "./json.js";
import { load } from "./token.js";
import { topicLink } from "./topics.js";

/** Entries of a list that are shown at once. */
const SHOWN = 100;
/** Levels that are open at first. */
const OPEN = 3;
/** Linux takes no longer argument than 128 KiB, and a quote in it takes four bytes. */
const ARGUMENT_BYTES_MAX = 32_000;

/** The path that an event is found at, whatever its names.
 * @param {string} topic @param {string} id */
export const eventPath = (topic, id) => url("/events", { topic, event_id: id });

/** @type {import("./app.js").View} */
export const event = {
  path: "event",
  title: (params) => `Event ${params.get("id") ?? ""}`,
  open({ root, params, signal }) {
    const [topic, id] = [params.get("topic") ?? "", params.get("id") ?? ""];
    root.querySelector("h1")?.replaceChildren("Event ", foreign(id, 300));
    const place = h("div", { class: "stack" });
    root.append(place);
    load(place, signal, async () => {
      const [answer, again] = await Promise.all([text(eventPath(topic, id), signal, { headers: { accept: "application/json" } }),
        recent(topic, signal).catch(() => null)]);
      const found = page(answer).events[0];
      if (!found) return h("p", { class: "problem" }, "Never seen: no event with this id is stored in this topic.");
      return show(found, again && again.filter((one) => one.event_id === id));
    });
  },
};

/** How often it came again, of which the service remembers a part.
 * @param {string} topic @param {import("./duplicates.js").Duplicate[]|null} again the newest first */
function repeats(topic, again) {
  if (again == null) return "not known";
  const remembered = h("a", { href: duplicatesLink(topic) }, "as far as is remembered");
  const first = again.at(-1);
  if (!first) return ["never, ", remembered];
  const conflicts = again.filter((one) => one.status === "conflict").length;
  return [again.length === 1 ? "once" : `${count(again.length)} times`, " since ", time(first.received_at),
    conflicts > 0 ? `, ${count(conflicts)} with another payload` : null, ", ", remembered];
}

/** @param {import("./json.js").Shown} found @param {import("./duplicates.js").Duplicate[]|null} again */
function show(found, again) {
  const fields = /** @type {[string, import("./dom.js").Child][]} */ ([
    ["Topic", h("a", { href: topicLink(found.topic) }, foreign(found.topic))],
    ["Id", foreign(found.event_id)],
    ["Offset", count(found.offset)],
    ["First seen", time(found.received_at, "full")],
    ["Came again", repeats(found.topic, again)],
    ["Its own time", foreign(found.timestamp.startsWith('"') ? JSON.parse(found.timestamp) : found.timestamp)],
    ["Source", found.source === "" ? "(none)" : h("a", { href: eventsLink({ topic: found.topic, source: found.source }) }, foreign(found.source))],
    ["Payload", bytes(new Blob([found.payload]).size)],
  ]);
  const body = h("div", { class: "payload" });
  const views = { tree: () => tree(found.payload), raw: () => h("pre", { tabindex: "0", "aria-label": "Payload as it was written" }, foreign(found.payload, 20_000)) };
  const choose = (name) => put(body, views[/** @type {"tree"|"raw"} */ (name)]());
  choose("tree");
  return [
    h("dl", { class: "facts", "aria-label": "Fields" }, fields.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "row" }, copier("Copy as curl", () => curlFor(found)), copier("Copy the payload", () => found.payload)),
    h("h2", {}, "Payload"),
    h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, "Form of the payload"), [["tree", "Tree"], ["raw", "Raw"]].map(([value, label]) =>
      h("label", {}, h("input", { type: "radio", name: "form", value, checked: value === "tree", onchange: () => choose(value) }), label))),
    body,
  ];
}

/** The command that publishes an event. @param {import("./json.js").Shown} event */
function curlFor({ topic, event_id, timestamp, source, payload }) {
  const fields = JSON.stringify({ topic, event_id, source });
  return curl(`${fields.slice(0, -1)},"timestamp":${timestamp},"payload":${payload}}`);
}

/** The command that publishes a body, byte for byte but for the white space between its tokens. The token
 * stays with its owner.
 * @param {string} body */
export function curl(body) {
  // No string of JSON has these characters, so they are between tokens.
  const line = body.replace(/[\t\n\r]+/g, " ");
  const bearer = token() ? ' -H "authorization: Bearer $SEKALI_TOKEN"' : "";
  const command = `curl '${location.origin}/publish' -H 'content-type: application/json'${bearer}`;
  // A shell writes what a terminal would obey or hide, and what is too long to be an argument.
  const isPlain = visible(line) === line && new Blob([line]).size <= ARGUMENT_BYTES_MAX;
  return isPlain ? `${command} -d ${quoted(line)}` : `printf ${quoted(formatted(line))} | ${command} --data-binary @-`;
}

/** A text as one word of a shell's command. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A text as a format of `printf`: the bytes of hidden characters are written in octal. @param {string} text */
function formatted(text) {
  return text.replace(/[\\%]/g, (char) => char + char).replace(HIDDEN, (char) =>
    [...new TextEncoder().encode(char)].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join(""));
}

/** @param {string} payload */
function tree(payload) {
  try {
    return h("div", { class: "tree" }, node(payload, parse(payload), null, 0));
  } catch {
    return h("p", { class: "quiet" }, "The payload can't be shown as a tree; it is there as it was written.");
  }
}

/** @param {string} text @param {import("./json.js").Value} value @param {import("./dom.js").Child} name @param {number} level
 * @returns {HTMLElement} */
function node(text, value, name, level) {
  const label = name == null ? null : [name, h("span", { class: "colon" }, ": ")];
  if (value.kind === "string") return h("div", { class: "leaf" }, label, h("span", { class: "string" }, "“", foreign(value.value, 500), "”"));
  if (value.kind !== "object" && value.kind !== "array") {
    return h("div", { class: "leaf" }, label, h("span", { class: value.kind }, foreign(text.slice(value.start, value.end), 500)));
  }
  const isObject = value.kind === "object";
  /** @type {[string, import("./json.js").Value][]} */
  const entries = value.kind === "object" ? value.members : value.items.map((item, index) => [String(index), item]);
  const size = isObject ? `{ ${count(entries.length)} }` : `[ ${count(entries.length)} ]`;
  if (entries.length === 0) return h("div", { class: "leaf" }, label, isObject ? "{ }" : "[ ]");
  const children = h("div", { class: "children" });
  let shown = 0;
  const more = () => {
    children.querySelector(":scope > button")?.remove();
    for (const [key, child] of entries.slice(shown, shown + SHOWN)) {
      const named = isObject ? h("span", { class: "key-name" }, foreign(key, 200)) : h("span", { class: "index" }, key);
      children.append(node(text, child, named, level + 1));
    }
    shown = Math.min(entries.length, shown + SHOWN);
    if (shown < entries.length) children.append(h("button", { type: "button", class: "link", onclick: more }, `show more of ${count(entries.length)}`));
  };
  const details = h("details", { open: level < OPEN, ontoggle: () => {
    if (details.open && shown === 0) more();
  } }, h("summary", {}, label, h("span", { class: "quiet" }, size)), children);
  if (level < OPEN) more();
  return details;
}
