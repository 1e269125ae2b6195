// Find: did we get that event?

import { text } from "./api.js";
import { field, foreign, h, put } from "./dom.js";
import { eventPath } from "./event.js";
import { eventLink } from "./events.js";
import { count, time } from "./format.js";
import { page } from "./json.js";
import { load } from "./token.js";

/** @type {import("./app.js").View} */
export const find = {
  path: "find",
  label: "Find",
  title: () => "Find",
  open({ root, params, signal, set }) {
    const topic = h("input", { value: params.get("topic") ?? "", required: true, spellcheck: "false" });
    const id = h("input", { value: params.get("id") ?? "", required: true, spellcheck: "false" });
    const answer = h("div", { "aria-live": "polite" });
    const ask = () => {
      put(answer);
      set({ topic: topic.value, id: id.value });
      load(answer, signal, async () => {
        const found = page(await text(eventPath(topic.value, id.value), signal, { headers: { accept: "application/json" } })).events[0];
        if (!found) {
          return h("div", { class: "verdict warn" }, h("strong", {}, "Never seen"),
            h("p", {}, "No event with this topic and id is stored. If it was sent, it was not answered: send it again."));
        }
        return h("div", { class: "verdict good" }, h("strong", {}, "Stored"),
          h("p", {}, "It arrived ", time(found.received_at, "full"), found.source ? [", from ", foreign(found.source, 200)] : null,
            `, and is number ${count(found.offset)} of its topic.`),
          h("p", {}, h("a", { href: eventLink(found) }, "Open the event")));
      });
    };
    root.append(h("p", { class: "quiet" }, "Whether an event arrived, however long ago."),
      h("form", { class: "row", role: "search", onsubmit: (e) => {
        e.preventDefault();
        ask();
      } }, field("Topic", topic), field("Event id", id), h("button", { type: "submit", class: "main" }, "Find")), answer);
    if (topic.value && id.value) ask();
    else topic.focus({ preventScroll: true });
  },
};
