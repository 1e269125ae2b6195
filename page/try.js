// Try: publishes an event twice, and shows what becomes of the second.

import { post } from "./api.js";
import { copier, field, h, put } from "./dom.js";
import { curl } from "./event.js";
import { eventLink } from "./events.js";
import { count, time } from "./format.js";
import { load } from "./token.js";

/** @type {import("./app.js").View} */
export const tryIt = {
  path: "try",
  label: "Try",
  title: () => "Try",
  open({ root, params, signal, set }) {
    const topic = h("input", { value: params.get("topic") ?? "try.page", required: true, spellcheck: "false" });
    const id = h("input", { value: params.get("id") ?? fresh(), required: true, spellcheck: "false" });
    const payload = h("textarea", { rows: 4, spellcheck: "false" }, params.get("payload") ?? '{"amount": 1250, "currency": "EUR"}');
    const answer = h("div", { "aria-live": "polite" });
    const command = h("div", {});
    const at = new Date().toISOString();
    // The payload goes out as it was typed, so that its numbers keep their digits.
    const body = () => {
      const fields = JSON.stringify({ topic: topic.value, event_id: id.value, timestamp: at, source: "page" });
      return `${fields.slice(0, -1)},"payload":${payload.value.trim() || "{}"}}`;
    };
    const show = () => put(command, h("pre", { tabindex: "0", "aria-label": "The same as a command" }, curl(body())), copier("Copy as curl", () => curl(body())));
    const form = h("form", { class: "stack", oninput: show, onsubmit: (e) => {
      e.preventDefault();
      set({ topic: topic.value, id: id.value, payload: payload.value });
      put(answer);
      load(answer, signal, async () => {
        const results = [];
        for (const name of ["First", "Second"]) results.push(verdict(name, await publish(body(), signal)));
        return h("div", { class: "pair" }, results);
      });
    } }, h("div", { class: "row" }, field("Topic", topic), field("Event id", id),
      h("button", { type: "button", onclick: () => {
        id.value = fresh();
        show();
      } }, "New id")), field("Payload (JSON)", payload),
    h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Publish it twice")));
    root.append(h("p", { class: "quiet" }, "The same event is sent two times. The first is stored; the second is known, and dropped. Events stay for ever: a test topic keeps them apart."),
      form, answer, h("h2", {}, "The same from a terminal"), command);
    show();
  },
};

const fresh = () => `page-${Date.now().toString(36)}`;

/** @returns {Promise<import("openapi").components["schemas"]["Result"]>} */
async function publish(body, signal) {
  const [result] = (await post("/publish", {}, body, signal)).results ?? [];
  return result;
}

/** @param {string} name @param {import("openapi").components["schemas"]["Result"]} result */
function verdict(name, result) {
  const [kind, sentence] = {
    stored: ["good", "It is new, and on disk."],
    duplicate: ["info", "It was known, and is dropped. The stored event stays."],
    conflict: ["warn", "Its id was known with another payload. The first stays, and this one is dropped."],
  }[result.status];
  return h("section", { class: `verdict ${kind}`, "aria-label": `${name} answer` }, h("h2", {}, `${name}: ${result.status}`), h("p", {}, sentence),
    h("p", { class: "quiet" }, `Number ${count(result.offset)} of its topic, first seen `, time(result.first_seen, "full"), "."),
    h("p", {}, h("a", { href: eventLink(result) }, "Open the event")));
}
